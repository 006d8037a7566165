"""The vision model: it maps images or grids of symbols to logits for each image or each cell."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from plstm_seq.layers import GateConfig, Norm
from plstm_seq.layers.arguments import ids_below, require_choice, require_positive
from plstm_seq.layers.configured import Kept
from plstm_seq.layers.grid import (
    GridAttentionConfig,
    GridMixerConfig,
    Mode,
    PLSTM2DConfig,
    make_grid_mixer,
)
from plstm_seq.layers.initializers import Constant, Initializer, Small
from plstm_seq.layers.transition import Factorized
from plstm_seq.models.blocks import BlockConfig, PostUpBlock, PreUpBlock, make_block
from plstm_seq.models.patches import PatchEmbedding, Pixels, PositionEmbedding, check_symbols
from plstm_seq.models.stack import ModesConfig, Stack

Pooling = Literal["corners", "mean", "sum", "center", "cls", "features", "cells"]
Position = Literal["learned", "none"]
Size = Literal["T", "S", "B"]


def published_mixer(num_heads: int = 6, *, gate_sub_heads: int = 1) -> PLSTM2DConfig:
    """Return the 2D pLSTM of the published vision models.

    Gates start almost closed and independent of the input (arXiv 2506.11997, table 4).

    Args:
        num_heads: the number of heads, H.
        gate_sub_heads: the number of blocks that the input of the gates is split into, of which
            each gate reads one. The published models have `4 * num_heads`, a block for each gate.
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


@dataclass(frozen=True, kw_only=True)
class VisionModelConfig(ModesConfig):
    """The options of a `VisionModel`; the defaults are the model of the arrow-pointing protocol.

    Source: arXiv 2506.11997, section 5.1, but with gates that read the whole input. The options of
    every model are documented at `StackConfig` and `ModesConfig`.

    Attributes:
        block: the kind of block and its options, among them `drop_path` and, for layer scale,
            `use_scale` and `scale_init`.
        mixer: the mixer in each block; attention makes the model a vision transformer.
        patch_size: the side of a patch in pixels; each patch is a cell. It has no effect on
            symbols, each of which is a cell.
        pixels: how uint8 images are normalised. "unit": they are divided by 255; "imagenet": after
            that they are brought to the mean 0 and variance 1 of ImageNet's channels.
            Floating-point images are taken as they are.
        position: "learned": an embedding is added to each cell; "none": nothing is added.
        position_grid: the numbers of cells in X and Y that have an embedding of their own; for
            other grids the embeddings are resized (bicubic). The grid of the training images is
            best.
        pooling: what the head reads. "corners": the four corner cells side by side; "mean", "sum":
            over all cells; "center": the middle cell; "cls": an additional cell (only with
            attention); "features": there is no head, the output are the features of every cell;
            "cells": every cell, which gets logits of its own.
        position_init: the initialiser of the position embedding [X, Y, D] and of the additional
            cell [1, D].
        kind: the name of this kind of model in a config.
    """

    width: int = 192
    num_blocks: int = 12
    mixer: GridMixerConfig = field(default_factory=published_mixer)
    patch_size: int = 16
    pixels: Pixels = "unit"
    position: Position = "learned"
    position_grid: tuple[int, int] = (12, 12)
    pooling: Pooling = "corners"
    position_init: Initializer = field(default_factory=Small)
    kind: Literal["vision"] = "vision"

    def __post_init__(self):
        super().__post_init__()
        x, y = self.position_grid
        require_positive(
            patch_size=self.patch_size, **{"position_grid[0]": x, "position_grid[1]": y}
        )
        require_choice("pooling", self.pooling, Pooling)
        require_choice("pixels", self.pixels, Pixels)
        require_choice("position", self.position, Position)
        if self.pooling == "cls" and isinstance(self.mixer, PLSTM2DConfig):
            raise ValueError(
                "pooling: got 'cls', expected another one with a 2D pLSTM, whose grid has no place "
                "for an additional cell"
            )


class VisionModel(Stack[VisionModelConfig]):
    """Patches, position embedding, blocks, norm, pooling and head, over grids of any size.

    Args:
        config: see `VisionModelConfig`.
        output_size: the number of labels; None only with the pooling "features".
        channels: the number of channels of the images.
        vocab_size: the number of symbols, if the inputs are symbols and not images.
        dtype: the type to compute in; None: the type of the parameters. Gates and logits are in
            float32 at least.
        param_dtype: the type of the parameters.
        rngs: the random number generators for the parameters.

    Raises:
        ValueError: sizes do not fit each other.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.models import VisionModel, VisionModelConfig
        >>> config = VisionModelConfig(width=24, num_blocks=2)
        >>> model = VisionModel(config, output_size=10, rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((2, 32, 48, 3), jnp.uint8)).shape
        (2, 10)
    """

    def __init__(
        self,
        config: VisionModelConfig = VisionModelConfig(),
        *,
        output_size: int | None,
        channels: int = 3,
        vocab_size: int | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if (output_size is None) != (config.pooling == "features"):
            expected = "None" if output_size is not None else "the number of labels"
            raise ValueError(
                f"output_size: got {output_size}, expected {expected} with pooling = "
                f"{config.pooling!r}"
            )
        types: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.kept, self.dtype, self.output_size = Kept(config), dtype, output_size
        self.vocab_size, width = vocab_size, config.width
        if vocab_size is None:
            self.embedding = PatchEmbedding(
                channels, width, config.patch_size, config.pixels, config.embed_init, **types
            )
        else:
            require_positive(vocab_size=vocab_size)
            self.embedding = nnx.Embed(vocab_size, width, embedding_init=config.embed_init, **types)
        self.position = (
            None
            if config.position == "none"
            else PositionEmbedding(config.position_grid, width, config.position_init, **types)
        )
        if config.pooling == "cls":
            token = config.position_init(rngs.params(), (1, width), param_dtype)
            self.cls_token = nnx.Param(token)
        self.blocks = nnx.List(
            [
                make_grid_block(width, config.block, config.mixer, mode, **types)
                for mode in config.modes
            ]
        )
        self.norm = None if config.norm is None else Norm(width, config.norm, **types)
        if output_size is not None:
            require_positive(output_size=output_size)
            features = width * (4 if config.pooling == "corners" else 1)
            self._make_head(features, output_size, param_dtype, rngs)

    def __call__(
        self, inputs: Shaped[Array, "B X Y *C"], *, dropout_key: Array | None = None
    ) -> Float[Array, "B *S V"]:
        """Compute the output for images or grids.

        Args:
            inputs: images [B, X, Y, C], uint8 or floating-point, whose sides are multiples of the
                patch size; with `vocab_size` symbols [B, X, Y], integers. X counts rows, downwards.
            dropout_key: typed key that draws what training drops; None: nothing is dropped. A
                model without dropout ignores it.

        Returns:
            The logits [B, output_size]; with the pooling "cells" [B, X', Y', output_size], where a
            cell is a patch or a symbol; with "features" the features [B, X', Y', width].

        Raises:
            TypeError: the inputs have another type.
            ValueError: the shape of the inputs does not fit.
        """
        if self.vocab_size is not None:
            check_symbols(inputs)
            inputs = ids_below(self.vocab_size, "symbols", inputs)
        x = self.embedding(inputs)
        if self.position is not None:
            x = self.position(x)
        if self.config.pooling == "cls":
            cells = jax.lax.collapse(x, 1, x.ndim - 1)
            token = self.cls_token[...].astype(x.dtype)
            token = jnp.broadcast_to(token, (x.shape[0], *token.shape))
            x = jnp.concatenate([token, cells], axis=1)
        for block, key in self._blocks_and_keys(dropout_key):
            x = block(x, dropout_key=key)
        if self.norm is not None:
            x = self.norm(x)
        x = pooled(x, self.config.pooling)
        return x if self.output_size is None else self._logits(x, self.head, self.head_bias)


def pooled(x: Float[Array, "B *S D"], pooling: Pooling) -> Float[Array, "B *P F"]:
    """Return what the head reads; see `VisionModelConfig.pooling`.

    Args:
        x: the features of the cells, [B, X, Y, D]; for "cls" [B, 1 + X * Y, D].
        pooling: the kind of pooling.
    """
    match pooling:
        case "corners":
            corners = x[:, 0, 0], x[:, -1, 0], x[:, 0, -1], x[:, -1, -1]
            return jnp.concatenate(corners, axis=-1)
        case "mean":
            return jnp.mean(x, axis=(1, 2))
        case "sum":
            return jnp.sum(x, axis=(1, 2))
        case "center":
            return x[:, x.shape[1] // 2, x.shape[2] // 2]
        case "cls":
            return x[:, 0]
        case "features" | "cells":
            return x


def make_grid_block(
    width: int, config: BlockConfig, mixer: GridMixerConfig, mode: Mode = "P", **types: Any
) -> PreUpBlock | PostUpBlock:
    """Build the block that a config describes around a mixer over grids.

    Args:
        width: the number of features of the block, D.
        config: see `PreUpConfig` and `PostUpConfig`.
        mixer: the mixer's config.
        mode: the mode, if the mixer is a 2D pLSTM.
        types: `dtype`, `param_dtype` and `rngs`.
    """
    return make_block(width, config, partial(make_grid_mixer, config=mixer, mode=mode), **types)


_SIZES: dict[Size, tuple[int, int]] = {"T": (192, 3), "S": (384, 6), "B": (768, 12)}
"""The width and the number of heads of each size."""


def vision_plstm(size: Size = "T") -> VisionModelConfig:
    """Return the published pLSTM vision model of a size: 12 blocks over patches of 16 pixels.

    Args:
        size: "T" (6M parameters), "S" (23M) or "B" (89M).

    Raises:
        ValueError: the size is unknown.
    """
    require_choice("size", size, list(_SIZES))
    width, heads = _SIZES[size]
    mixer = published_mixer(heads, gate_sub_heads=4 * heads)
    return VisionModelConfig(width=width, mixer=mixer)


def vision_transformer(size: Size = "T") -> VisionModelConfig:
    """Return the vision transformer of a size: the same model with attention in its blocks.

    The arguments are those of `vision_plstm`. It pools by an additional cell, as published ones do.
    """
    require_choice("size", size, list(_SIZES))
    width, heads = _SIZES[size]
    mixer = GridAttentionConfig(num_heads=heads)
    return VisionModelConfig(width=width, mixer=mixer, pooling="cls")
