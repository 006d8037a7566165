"""One small module of every kind, as a class with its arguments, and an input for it."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from random_parameters import randomised

from plstm_seq.graphs import line_graph
from plstm_seq.layers import (
    CausalConvolution,
    Gate,
    GateConfig,
    HeadProjection,
    HeadProjectionConfig,
    Norm,
    NormConfig,
    PLSTM1DConfig,
    PLSTM1DLayer,
    Scale,
    Transition,
)
from plstm_seq.layers.dag import (
    GAT,
    GCN,
    GIN,
    MPNN,
    GATConfig,
    GCNConfig,
    GINConfig,
    MPNNConfig,
    PLSTMDAGConfig,
    PLSTMDAGLayer,
)
from plstm_seq.layers.grid import (
    GridAttention,
    GridAttentionConfig,
    GridConvolution,
    PLSTM2DConfig,
    PLSTM2DLayer,
)
from plstm_seq.layers.mixers import (
    PD,
    Attention,
    AttentionConfig,
    CellMixer,
    DeltaNet,
    DeltaNetConfig,
    DiagonalConfig,
    DiagonalMixer,
    GatedLinearAttention,
    GatedLinearAttentionConfig,
    GRUConfig,
    LSTMConfig,
    PDConfig,
    RNNConfig,
    Slice,
    SliceConfig,
)
from plstm_seq.layers.transition import (
    Bounded,
    Diagonal,
    Factorized,
    HouseholderProduct,
    Orthogonal,
    Selection,
    Table,
)
from plstm_seq.models import (
    GraphInputs,
    GraphModel,
    GraphModelConfig,
    PostUpBlock,
    PostUpConfig,
    PreUpBlock,
    PreUpConfig,
    SequenceModel,
    SequenceModelConfig,
    VisionModel,
    VisionModelConfig,
)

WIDTH, HEADS, B, T = 8, 2, 2, 3
LAYER = PLSTM1DConfig(num_heads=HEADS, implementation="recurrent")
# Of a transition that compiles fast.
MIXER = dataclasses.replace(LAYER, transition=Diagonal(dim=4))
BY_TOKEN = dataclasses.replace(LAYER, transition=Table(dim=4, tokens=5), convolution=None)
GRID_MIXER = PLSTM2DConfig(num_heads=HEADS, implementation="recurrent")
EDGES = np.array([[0, 0, 1, 2], [1, 2, 3, 3]])


class Case(NamedTuple):
    """A class of modules, what it is made from, and what it reads."""

    kind: type[nnx.Module]
    args: tuple[Any, ...]
    options: Mapping[str, Any] = MappingProxyType({})
    reads: str = "features"

    def make(self) -> nnx.Module:
        """The module, with random parameters in float64."""
        types = {"param_dtype": jnp.float64}
        return randomised(lambda: self.kind(*self.args, **self.options, **types, rngs=nnx.Rngs(0)))

    @property
    def inputs(self) -> jax.Array:
        """The first argument of a call."""
        return self.arguments[0]

    @property
    def arguments(self) -> tuple[Any, ...]:
        """All arguments of a call."""
        rng = np.random.default_rng(1)
        graph = line_graph(EDGES, int(EDGES.max()) + 1)
        nodes = len(graph.graph)
        given = {
            "features": lambda: (rng.normal(size=(B, T, WIDTH)),),
            "tokens": lambda: (rng.integers(0, 5, (B, T)),),
            "grid": lambda: (rng.normal(size=(B, 2, 3, WIDTH)),),
            "image": lambda: (rng.normal(size=(B, 4, 6, 3)),),
            "nodes": lambda: (rng.normal(size=(nodes, WIDTH)), graph),
            "graph": lambda: (GraphInputs(graph, jnp.asarray(rng.integers(0, 5, nodes))),),
        }[self.reads]()
        return tuple(jnp.asarray(x) if isinstance(x, np.ndarray) else x for x in given)


def _mixers() -> dict[str, Case]:
    classes: dict[type, Any] = {
        AttentionConfig: Attention,
        DeltaNetConfig: DeltaNet,
        DiagonalConfig: DiagonalMixer,
        GRUConfig: CellMixer,
        GatedLinearAttentionConfig: GatedLinearAttention,
        LSTMConfig: CellMixer,
        PDConfig: PD,
        RNNConfig: CellMixer,
        SliceConfig: Slice,
    }
    return {config().kind: Case(kind, (WIDTH, config())) for config, kind in classes.items()}


def _graph_mixers() -> dict[str, Case]:
    classes: dict[type, Any] = {GATConfig: GAT, GCNConfig: GCN, GINConfig: GIN, MPNNConfig: MPNN}
    return {
        config().kind: Case(kind, (WIDTH, config()), reads="nodes")
        for config, kind in classes.items()
    }


CASES = {
    "gate": Case(Gate, (HEADS, WIDTH, (2, 1), GateConfig(weight=True, sub_heads=2))),
    "head_projection": Case(HeadProjection, (HEADS, WIDTH, 4, 1, HeadProjectionConfig())),
    "convolution": Case(CausalConvolution, (WIDTH,)),
    "norm": Case(Norm, (WIDTH, NormConfig(kind="layer", bias=True))),
    "rms_norm": Case(Norm, (WIDTH, NormConfig(kind="rms", bias=True))),
    "scale": Case(Scale, (WIDTH,)),
    "factorized": Case(Transition, (HEADS, WIDTH, Factorized(dim=2))),
    "orthogonal": Case(Transition, (HEADS, WIDTH, Orthogonal(dim=2))),
    "householder": Case(Transition, (HEADS, WIDTH, HouseholderProduct(dim=2))),
    "bounded": Case(Transition, (HEADS, WIDTH, Bounded(dim=2))),
    "diagonal": Case(Transition, (HEADS, WIDTH, Diagonal(dim=2))),
    "selection": Case(Transition, (HEADS, WIDTH, Selection(dim=2, choice="soft"))),
    "plstm_1d": Case(PLSTM1DLayer, (WIDTH, LAYER)),
    **{f"mixer_{name}": case for name, case in _mixers().items()},
    "pre_up_block": Case(PreUpBlock, (WIDTH, PreUpConfig(projection_round=8), MIXER)),
    "post_up_block": Case(PostUpBlock, (WIDTH, PostUpConfig(dropout=0.1, use_scale=True), MIXER)),
    "sequence_model": Case(
        SequenceModel, (5, SequenceModelConfig(width=WIDTH, mixer=MIXER)), reads="tokens"
    ),
    "table_model": Case(
        SequenceModel, (5, SequenceModelConfig(width=WIDTH, mixer=BY_TOKEN)), reads="tokens"
    ),
    "grid_convolution": Case(GridConvolution, (WIDTH,), reads="grid"),
    "grid_attention": Case(
        GridAttention, (WIDTH, GridAttentionConfig(num_heads=HEADS)), reads="grid"
    ),
    "plstm_2d_P": Case(PLSTM2DLayer, (WIDTH, GRID_MIXER), {"mode": "P"}, reads="grid"),
    "plstm_2d_D": Case(PLSTM2DLayer, (WIDTH, GRID_MIXER), {"mode": "D"}, reads="grid"),
    "vision_model": Case(
        VisionModel,
        (VisionModelConfig(width=WIDTH, num_blocks=1, patch_size=2, mode="P", mixer=GRID_MIXER),),
        {"output_size": 3},
        reads="image",
    ),
    "plstm_dag": Case(PLSTMDAGLayer, (WIDTH, PLSTMDAGConfig(num_heads=HEADS)), reads="nodes"),
    **{f"graph_{name}": case for name, case in _graph_mixers().items()},
    "graph_model": Case(
        GraphModel,
        (None, 5, 0, GraphModelConfig(width=WIDTH, num_blocks=1, mixer=GCNConfig())),
        {"output_size": 3},
        reads="graph",
    ),
}
