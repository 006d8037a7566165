"""Reads the published configurations of vision models."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from plstm_seq.interop.published.fields import Fields
from plstm_seq.interop.published.parts import (
    ignore_types,
    read_block_options,
    read_initializer,
    read_norm,
    read_rate,
    read_scale,
)
from plstm_seq.layers.grid import GridAttentionConfig, GridMixerConfig, Mode
from plstm_seq.models import BlockConfig, PostUpBlock, PostUpConfig, PreUpBlock
from plstm_seq.models.vision import (
    VisionModel,
    VisionModelConfig,
    make_grid_block,
)


class GridBlockArguments(NamedTuple):
    """The arguments from which `plstm_seq.models.vision.make_grid_block` builds a block.

    Example:
        >>> from flax import nnx
        >>> from plstm_seq.interop.published import GridBlockArguments
        >>> mixer = GridAttentionConfig(num_heads=2)
        >>> arguments = GridBlockArguments(width=16, config=PostUpConfig(), mixer=mixer)
        >>> type(arguments.build(rngs=nnx.Rngs(0))).__name__
        'PostUpBlock'
    """

    width: int
    config: BlockConfig
    mixer: GridMixerConfig
    mode: Mode = "P"

    def build(self, **types: Any) -> PreUpBlock | PostUpBlock:
        """Build the block; `dtype`, `param_dtype` and `rngs` are passed on."""
        return make_grid_block(*self, **types)


class VisionArguments(NamedTuple):
    """The arguments of a `VisionModel`.

    Example:
        >>> from flax import nnx
        >>> from plstm_seq.interop.published import VisionArguments
        >>> config = VisionModelConfig(width=16, num_blocks=1, mixer=GridAttentionConfig(2))
        >>> arguments = VisionArguments(config, output_size=10, channels=3)
        >>> type(arguments.build(rngs=nnx.Rngs(0))).__name__
        'VisionModel'
    """

    config: VisionModelConfig
    output_size: int
    channels: int

    def build(self, **types: Any) -> VisionModel:
        """Build the model; `dtype`, `param_dtype` and `rngs` are passed on."""
        options = {"output_size": self.output_size, "channels": self.channels}
        return VisionModel(self.config, **options, **types)


ReadBlock = Callable[[Fields, str], Any]
"""Reads a block that is no transformer block, its `class_name` already taken."""


def read_transformer_block(fields: Fields) -> GridBlockArguments:
    """Read a transformer block, its `class_name` already taken."""
    ignore_types(fields)
    width = fields.take("input_dim")
    fields.expect("output_dim", width)
    fields.expect("decode", False)
    attention = GridAttentionConfig(
        num_heads=fields.take("num_heads"),
        bias=fields.take("bias"),
        weight_init=read_initializer(fields, "attn_weight_init", input_axis=-2),
        out_weight_init=read_initializer(fields, "out_weight_init", input_axis=-2),
    )
    block = PostUpConfig(
        **read_block_options(fields, width),
        bias=attention.bias,
        use_scale=True,
        scale_init=read_scale(fields.required("scale"), width),
        drop_path=read_rate(fields, "drop_path_rate"),
    )
    return GridBlockArguments(width, block, attention)


def read_vision_model(fields: Fields, read_block: ReadBlock) -> VisionArguments:
    """Read a vision model, its `class_name` already taken.

    Ours takes images [B, X, Y, C] also where `channels_first` says [B, C, X, Y].
    """
    ignore_types(fields)
    # What follows from others, or has no effect.
    for name in ("_short_name", "_shortname", "norm_bias", "num_heads", "head_init_std", "aux"):
        fields.take(name, None)
    for name in ("seqlens", "resolution", "channels_first", "input_shape", "num_patches"):
        fields.take(name, None)
    width, patch_size = fields.take("dim"), fields.take("patch_size")
    fields.expect("stride", None)
    fields.expect("mode", "classifier")
    cap = fields.below("logit_softcap")
    if cap is not None:
        cap.expect("class_name", "SoftCapFunctionLayer")
    used, position = fields.take("use_pos_embed"), _read_position(fields, width)
    blocks = _read_blocks(fields, width, read_block)
    (output_size,) = fields.take("output_shape")
    config = VisionModelConfig(
        width=width,
        **blocks,
        patch_size=patch_size,
        position="learned" if used else "none",
        **position,
        pooling=fields.take("pooling"),
        norm=read_norm(fields.required("norm"), width),
        logit_soft_cap=None if cap is None else cap.take("scale"),
        embed_init=_read_patches(fields, width, patch_size),
        head_init=read_initializer(fields, "head_weight_init", input_axis=-2),
    )
    fields.expect("head_bias_init", {"class_name": "ZerosInit"})
    return VisionArguments(config, output_size, fields.take("num_channels"))


def _read_position(fields: Fields, width: int) -> dict[str, Any]:
    position = fields.below("pos_embed")
    if position is None:
        return {}
    ignore_types(position)
    position.expect("dim", width)
    position.expect("allow_interpolation", True)
    position.expect("learnable", True)
    x, y = position.take("seqlens")
    return {
        "position_grid": (x, y),
        "position_init": read_initializer(position, "embed_init"),
    }


def _read_patches(fields: Fields, width: int, patch_size: int) -> Any:
    patches = fields.required("patch_embed")
    ignore_types(patches)
    for name in ("num_channels", "resolution", "channels_first"):
        patches.take(name)
    patches.expect("dim", width)
    patches.expect("patch_size", patch_size)
    patches.expect("stride", None)
    patches.expect("bias_init", {"class_name": "ZerosInit"})
    return read_initializer(patches, "weight_init", input_axis=-2)


def _read_blocks(fields: Fields, width: int, read_block: ReadBlock) -> dict[str, Any]:
    """Read the stack; a published vision block is a pair of ours."""
    stack = fields.required("block_stack")
    ignore_types(stack)
    stack.expect("class_name", "BlockStack")
    stack.expect("input_dim", width)
    stack.expect("output_dim", width, -1)
    stack.expect("scan_blocks", False)
    num_blocks = stack.take("num_blocks")
    fields.take("num_blocks")  # the stack's own counts
    block = stack.required("block")
    if block.take("class_name") == "TransformerBlock":
        only = read_transformer_block(block)
        return {"num_blocks": num_blocks, "block": only.config, "mixer": only.mixer}
    ignore_types(block)
    for name in ("input_dim", "output_dim", "num_heads", "block_type", "block_mode"):
        block.take(name, None)
    for name in ("orientations0", "orientations1"):
        block.take(name, None)
    block.expect("drop_path_rate", 0.0)
    first, second = (
        cast(GridBlockArguments, read_block(part, part.take("class_name")))
        for part in (block.required("block0"), block.required("block1"))
    )
    if first._replace(mode="P") != second._replace(mode="P"):
        raise ValueError("block0 and block1: got other options than the mode that differ")
    return {
        "num_blocks": 2 * num_blocks,
        "block": first.config,
        "mixer": first.mixer,
        "mode": first.mode + second.mode,
    }
