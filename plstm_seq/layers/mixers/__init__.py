"""Sequence mixers that a block can hold: pLSTM and the baselines, each with a `kind`."""

from collections.abc import Callable
from typing import Any

from plstm_seq.layers.mixers.attention import Attention, AttentionConfig
from plstm_seq.layers.mixers.base import Baseline, BaselineConfig, BaselineState, Mixer
from plstm_seq.layers.mixers.cells import CellMixer, GRUConfig, LSTMConfig, RNNConfig
from plstm_seq.layers.mixers.matrix_memory import (
    DeltaNet,
    DeltaNetConfig,
    GatedLinearAttention,
    GatedLinearAttentionConfig,
)
from plstm_seq.layers.mixers.vector_state import (
    PD,
    DiagonalConfig,
    DiagonalMixer,
    PDConfig,
    Slice,
    SliceConfig,
)
from plstm_seq.layers.plstm_1d import PLSTM1DConfig, PLSTM1DLayer

MixerConfig = (
    PLSTM1DConfig
    | AttentionConfig
    | LSTMConfig
    | GRUConfig
    | RNNConfig
    | DiagonalConfig
    | GatedLinearAttentionConfig
    | DeltaNetConfig
    | SliceConfig
    | PDConfig
)

_MIXERS: dict[type, Callable[..., Mixer]] = {
    PLSTM1DConfig: PLSTM1DLayer,
    AttentionConfig: Attention,
    LSTMConfig: CellMixer,
    GRUConfig: CellMixer,
    RNNConfig: CellMixer,
    DiagonalConfig: DiagonalMixer,
    GatedLinearAttentionConfig: GatedLinearAttention,
    DeltaNetConfig: DeltaNet,
    SliceConfig: Slice,
    PDConfig: PD,
}


def make_mixer(
    input_dim: int,
    config: MixerConfig,
    *,
    output_dim: int | None = None,
    **types: Any,
) -> Mixer:
    """Build the mixer that a config describes.

    Args:
        input_dim: the number of features of the input.
        config: one of `MixerConfig`.
        output_dim: the number of features of the output; None: the mixer's default, that of the
            input.
        types: `dtype`, `param_dtype` and `rngs`.

    Raises:
        TypeError: the config is not that of a mixer.
        ValueError: sizes do not fit each other.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.mixers import DiagonalConfig, make_mixer
        >>> mixer = make_mixer(8, DiagonalConfig(), output_dim=4, rngs=nnx.Rngs(0))
        >>> jax.jit(mixer)(jnp.ones((3, 5, 8))).shape
        (3, 5, 4)
    """
    if type(config) not in _MIXERS:
        expected = ", ".join(cls.__name__ for cls in _MIXERS)
        raise TypeError(f"mixer: got {type(config).__name__}, expected one of {expected}")
    return _MIXERS[type(config)](input_dim, config, output_dim=output_dim, **types)


__all__ = [
    "PD",
    "Attention",
    "AttentionConfig",
    "Baseline",
    "BaselineConfig",
    "BaselineState",
    "CellMixer",
    "DeltaNet",
    "DeltaNetConfig",
    "DiagonalConfig",
    "DiagonalMixer",
    "GRUConfig",
    "GatedLinearAttention",
    "GatedLinearAttentionConfig",
    "LSTMConfig",
    "Mixer",
    "MixerConfig",
    "PDConfig",
    "RNNConfig",
    "Slice",
    "SliceConfig",
    "make_mixer",
]
