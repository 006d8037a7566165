"""Layers over grids [B, X, Y, features]: the 2D pLSTM, attention between all cells, convolution."""

from typing import Any

from plstm_seq.layers.convolution import GridConvolution, GridConvolutionConfig
from plstm_seq.layers.grid.attention import GridAttention, GridAttentionConfig
from plstm_seq.layers.grid.plstm_2d import PLSTM2DConfig, PLSTM2DLayer
from plstm_seq.layers.plstm import Mode

GridMixerConfig = PLSTM2DConfig | GridAttentionConfig


def make_grid_mixer(
    features: int, config: GridMixerConfig, mode: Mode, **types: Any
) -> PLSTM2DLayer | GridAttention:
    """Build the mixer that a config describes, a map of grids of so many features to as many.

    Args:
        features: of input and output.
        config: one of `GridMixerConfig`.
        mode: of a 2D pLSTM; attention has none.
        types: `dtype`, `param_dtype` and `rngs`.

    Raises:
        TypeError: the config is of no mixer over grids.
        ValueError: sizes do not fit each other.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.grid import PLSTM2DConfig, make_grid_mixer
        >>> mixer = make_grid_mixer(16, PLSTM2DConfig(num_heads=2), mode="P", rngs=nnx.Rngs(0))
        >>> mixer(jnp.ones((3, 4, 5, 16))).shape
        (3, 4, 5, 16)
    """
    if isinstance(config, PLSTM2DConfig):
        return PLSTM2DLayer(features, config, mode=mode, output_dim=features, **types)
    if isinstance(config, GridAttentionConfig):
        return GridAttention(features, config, output_dim=features, **types)
    raise TypeError(
        f"mixer: got {type(config).__name__}, expected PLSTM2DConfig or GridAttentionConfig"
    )


__all__ = [
    "GridAttention",
    "GridAttentionConfig",
    "GridConvolution",
    "GridConvolutionConfig",
    "GridMixerConfig",
    "Mode",
    "PLSTM2DConfig",
    "PLSTM2DLayer",
    "make_grid_mixer",
]
