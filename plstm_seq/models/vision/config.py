"""The options of a vision model, and the published ones by size."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from plstm_seq.layers import GateConfig, NormConfig
from plstm_seq.layers.checks import require_count, require_positive
from plstm_seq.layers.grid import GridAttentionConfig, GridMixerConfig, Mode, PLSTM2DConfig
from plstm_seq.layers.initializers import Constant, Initializer, Small
from plstm_seq.layers.transition import Factorized
from plstm_seq.models.blocks import BlockConfig, PostUpConfig

Pooling = Literal["corners", "mean", "sum", "center", "cls", "features", "cells"]
Pixels = Literal["unit", "imagenet"]
Position = Literal["learned", "none"]
Size = Literal["T", "S", "B"]


def published_mixer(num_heads: int = 6, *, gate_sub_heads: int = 1) -> PLSTM2DConfig:
    """Return the 2D pLSTM of the published vision models.

    Gates start almost closed and independent of the input (arXiv 2506.11997, table 4).

    Args:
        num_heads: the number of heads, H.
        gate_sub_heads: blocks of the input for the gates, of which each gate reads one; published
            are `4 * num_heads`, a block a gate.
    """

    def gate(bias: float, weight: bool) -> GateConfig:
        sub_heads = gate_sub_heads if weight else 1
        return GateConfig(weight=weight, sub_heads=sub_heads, bias_init=Constant(bias))

    return PLSTM2DConfig(
        num_heads=num_heads,
        source=gate(-4.0, True),
        mark=gate(-4.0, True),
        direct=gate(-6.0, False),
        transition=Factorized(dim=1, sub_heads=gate_sub_heads),
        sub_heads=1,
    )


@dataclass(frozen=True)
class VisionModelConfig:
    """The options of a `VisionModel`; the defaults are the model of the arrow-pointing protocol.

    Source: arXiv 2506.11997, section 5.1, with gates that read the whole input.

    Attributes:
        width: D, the features between the blocks.
        num_blocks: how many blocks.
        mode: the modes of the 2D pLSTM layers, a letter a block, repeated over the blocks: "PD",
            "P", "D", ...; of no effect with attention, which has none.
        block: the kind of block and its options, among them `drop_path` and, as layer scale,
            `use_scale` and `scale_init`.
        mixer: the mixer in each block; attention makes the model a vision transformer.
        patch_size: pixels along each side of a patch, which makes a cell; of no effect on symbols,
            each of which is a cell.
        pixels: what is done to uint8 images: "unit": divided by 255; "imagenet": then also brought
            to the mean 0 and variance 1 of ImageNet's channels. Floating-point images are taken as
            they are.
        position: "learned": an embedding is added to each cell; "none".
        position_grid: the cells, X and Y, that have an embedding of their own; for other grids
            these are resized (bicubic). Best the grid of the training images.
        pooling: what the head reads. "corners": the four corner cells side by side; "mean", "sum":
            over all cells; "center": the middle one; "cls": an additional cell (attention alone);
            "features": no head, the features of every cell are the output; "cells": every cell,
            which gets logits of its own.
        norm: the norm before the pooling; None: none.
        logit_soft_cap: logits are capped smoothly at plus and minus this; None: not.
        embed_init: of the embedding's kernel [patch * patch * channels, D] or table [symbols, D].
        position_init: of the position embedding [X, Y, D] and of the additional cell [1, D].
        head_init: of the head's kernel.
        kind: tells this model from others.
    """

    width: int = 192
    num_blocks: int = 12
    mode: str = "PD"
    block: BlockConfig = field(default_factory=PostUpConfig)
    mixer: GridMixerConfig = field(default_factory=published_mixer)
    patch_size: int = 16
    pixels: Pixels = "unit"
    position: Position = "learned"
    position_grid: tuple[int, int] = (12, 12)
    pooling: Pooling = "corners"
    norm: NormConfig | None = field(default_factory=NormConfig)
    logit_soft_cap: float | None = None
    embed_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    position_init: Initializer = field(default_factory=Small)
    head_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    kind: Literal["vision"] = "vision"

    def __post_init__(self):
        x, y = self.position_grid
        named = ("width", "patch_size")
        sizes = {name: getattr(self, name) for name in named}
        require_count(num_blocks=self.num_blocks)
        require_positive(**sizes, **{"position_grid[0]": x, "position_grid[1]": y})
        if not self.mode or not set(self.mode) <= set(get_args(Mode)):
            raise ValueError(f"mode: got {self.mode!r}, expected letters among {get_args(Mode)}")
        choices = {"pooling": Pooling, "pixels": Pixels, "position": Position}
        for name, options in choices.items():
            if getattr(self, name) not in get_args(options):
                raise ValueError(
                    f"{name}: got {getattr(self, name)!r}, expected one of {get_args(options)}"
                )
        if self.pooling == "cls" and isinstance(self.mixer, PLSTM2DConfig):
            raise ValueError(
                "pooling: got 'cls', expected another one with a 2D pLSTM, whose grid has no place "
                "for an additional cell"
            )
        if self.logit_soft_cap is not None and not self.logit_soft_cap > 0:
            raise ValueError(f"logit_soft_cap: got {self.logit_soft_cap}, expected above 0 or None")

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The mode of every block."""
        named: dict[str, Mode] = {mode: mode for mode in get_args(Mode)}
        return tuple(named[self.mode[i % len(self.mode)]] for i in range(self.num_blocks))


_SIZES: dict[Size, tuple[int, int]] = {"T": (192, 3), "S": (384, 6), "B": (768, 12)}
"""Width and heads."""


def vision_plstm(size: Size = "T") -> VisionModelConfig:
    """Return the published pLSTM vision model of a size, 12 blocks over patches of 16 pixels.

    Args:
        size: "T" (6M parameters), "S" (23M) or "B" (89M).

    Raises:
        ValueError: the size is unknown.
    """
    width, heads = _size(size)
    mixer = published_mixer(heads, gate_sub_heads=4 * heads)
    return VisionModelConfig(width=width, mixer=mixer)


def vision_transformer(size: Size = "T") -> VisionModelConfig:
    """Return the vision transformer of a size: the same model, with attention in its blocks.

    Arguments as those of `vision_plstm`; it pools by an additional cell, as the published ones.
    """
    width, heads = _size(size)
    mixer = GridAttentionConfig(num_heads=heads)
    return VisionModelConfig(width=width, mixer=mixer, pooling="cls")


def _size(size: Size) -> tuple[int, int]:
    if size not in _SIZES:
        raise ValueError(f"size: got {size!r}, expected one of {list(_SIZES)}")
    return _SIZES[size]
