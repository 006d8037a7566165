"""The blocks of `plstm_seq.models.blocks` over grids, where a mixer has no state."""

from typing import Any, TypeVar

from flax import nnx
from jax import Array
from jaxtyping import Float

from plstm_seq.layers.grid import GridMixerConfig, Mode, make_grid_mixer
from plstm_seq.models.blocks import BlockConfig, Frame, PostUp, PostUpConfig, PreUp, PreUpConfig

C = TypeVar("C", PreUpConfig, PostUpConfig)


class _OverGrid(Frame[C]):
    """A block whose mixer maps whole grids; its `mixer` is a config and a mode."""

    def _make_mixer(
        self, features: int, mixer: tuple[GridMixerConfig, Mode], **types: Any
    ) -> nnx.Module:
        return make_grid_mixer(features, *mixer, **types)

    def __call__(
        self, x: Float[Array, "B X Y D"], *, dropout_key: Array | None = None
    ) -> Float[Array, "B X Y D"]:
        """Run over grids [B, X, Y, D]; with `dropout_key`, a typed key, drop as in training."""
        return self._around(x, lambda h: (self.mixer(h), None), dropout_key)[0]


class GridPreUpBlock(_OverGrid[PreUpConfig], PreUp):
    """`PreUp` over grids."""


class GridPostUpBlock(_OverGrid[PostUpConfig], PostUp):
    """`PostUp` over grids."""


def make_grid_block(
    width: int, config: BlockConfig, mixer: GridMixerConfig, mode: Mode = "P", **types: Any
) -> GridPreUpBlock | GridPostUpBlock:
    """Build the block that a config describes.

    Args:
        width: D, the features of the block.
        config: see `PreUpConfig` and `PostUpConfig`.
        mixer: the mixer's config.
        mode: of a 2D pLSTM.
        types: `dtype`, `param_dtype` and `rngs`.
    """
    if isinstance(config, PreUpConfig):
        return GridPreUpBlock(width, config, (mixer, mode), **types)
    return GridPostUpBlock(width, config, (mixer, mode), **types)
