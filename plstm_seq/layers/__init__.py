"""Layers: projections, gates and norms around an op; flax nnx modules."""

from plstm_seq.layers.configured import Hyperparameter, structure
from plstm_seq.layers.convolution import CausalConvolution, ConvolutionConfig
from plstm_seq.layers.gates import Gate, GateConfig
from plstm_seq.layers.head_projection import HeadProjection, HeadProjectionConfig
from plstm_seq.layers.norm import Norm, NormConfig, Scale
from plstm_seq.layers.plstm_1d import PLSTM1DLayer, PLSTM1DState
from plstm_seq.layers.plstm_1d_config import PLSTM1DConfig
from plstm_seq.layers.transition import Transition, TransitionConfig

__all__ = [
    "CausalConvolution",
    "ConvolutionConfig",
    "Gate",
    "GateConfig",
    "HeadProjection",
    "HeadProjectionConfig",
    "Hyperparameter",
    "Norm",
    "NormConfig",
    "PLSTM1DConfig",
    "PLSTM1DLayer",
    "PLSTM1DState",
    "Scale",
    "Transition",
    "TransitionConfig",
    "structure",
]
