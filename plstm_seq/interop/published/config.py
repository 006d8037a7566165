"""Reads the published configurations of blocks and models; `layers.py` reads those of layers."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from plstm_seq.interop.published.fields import Fields
from plstm_seq.interop.published.layers import (
    FUSED,
    UNFUSED,
    GraphLayerArguments,
    GridLayerArguments,
    LayerArguments,
    read_graph_layer,
    read_grid_layer,
    read_layer,
    read_norm,
)
from plstm_seq.layers import PLSTM1DConfig
from plstm_seq.layers.grid import GridAttentionConfig, GridMixerConfig, Mode
from plstm_seq.layers.initializers import Initializer
from plstm_seq.models import (
    BlockConfig,
    PostUpBlock,
    PostUpConfig,
    PreUpBlock,
    PreUpConfig,
    SequenceModel,
    SequenceModelConfig,
    make_block,
)
from plstm_seq.models.vision import VisionModel, VisionModelConfig, make_grid_block


class BlockArguments(NamedTuple):
    """The arguments from which `plstm_seq.models.make_block` builds a block.

    Example:
        >>> from flax import nnx
        >>> from plstm_seq.interop.published import BlockArguments
        >>> mixer = PLSTM1DConfig(num_heads=2, DK=4, DV=4)
        >>> arguments = BlockArguments(width=16, config=PostUpConfig(), mixer=mixer)
        >>> type(arguments.build(rngs=nnx.Rngs(0))).__name__
        'PostUpBlock'
    """

    width: int
    config: BlockConfig
    mixer: PLSTM1DConfig

    def build(self, **types: Any) -> PreUpBlock | PostUpBlock:
        """Build the block; `dtype`, `param_dtype` and `rngs` are passed on."""
        return make_block(**self._asdict(), **types)


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
        return make_grid_block(**self._asdict(), **types)


class ModelArguments(NamedTuple):
    """The arguments of a `SequenceModel`.

    Example:
        >>> from flax import nnx
        >>> from plstm_seq.interop.published import ModelArguments
        >>> arguments = ModelArguments(vocab_size=8, config=SequenceModelConfig(width=16))
        >>> type(arguments.build(rngs=nnx.Rngs(0))).__name__
        'SequenceModel'
    """

    vocab_size: int
    config: SequenceModelConfig

    def build(self, **types: Any) -> SequenceModel:
        """Build the model; `dtype`, `param_dtype` and `rngs` are passed on."""
        return SequenceModel(**self._asdict(), **types)


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
        return VisionModel(**self._asdict(), **types)


Arguments = (
    LayerArguments
    | BlockArguments
    | ModelArguments
    | GridLayerArguments
    | GridBlockArguments
    | VisionArguments
    | GraphLayerArguments
)


def read_config(config: Mapping[str, Any]) -> Arguments:
    """Translate the published configuration of a layer, a block or a model.

    The module that it describes computes the same as the published one. Where the published code
    has a defect, ours has an option for it (`l2` becomes `published_l2`, the exponential of the
    transition stays truncated, P-mode has `p_form="published"`). Two things are left out of our
    configurations: `levels`, which only changes the speed, and the types, which are arguments of
    the module. Initialisers that depend on the fan-in are given the true one.

    Args:
        config: the published dataclasses as nested dictionaries, with `class_name` and every field.

    Returns:
        The arguments of our module; their `build` makes the module.

    Raises:
        ValueError: fields or values have no counterpart; all of them are listed.
        KeyError: a field is missing.

    Example:
        >>> from plstm_seq.interop.published import read_config
        >>> from plstm_seq.interop.published.files import complete  # adds the missing fields
        >>> published = {"class_name": "pLSTM1DLayer", "input_dim": 16, "num_heads": 2}
        >>> arguments = read_config(complete(published))
        >>> arguments.input_dim, arguments.config.num_heads
        (16, 2)
    """
    fields = Fields(config)
    class_name = fields.take("class_name", "")
    shortname = config.get("_shortname", config.get("_short_name"))
    name = class_name if class_name in _READERS else shortname
    if name not in _READERS:
        raise ValueError(
            f"config: got class_name {class_name!r} and _shortname {shortname!r}, expected a 1D, "
            "2D or graph layer, a pre- or post-up-projection or transformer block, or a language "
            "or vision model"
        )
    arguments = _READERS[name](fields)
    leftovers = fields.leftovers()
    if leftovers:
        raise ValueError("fields with no counterpart:\n  " + "\n  ".join(leftovers))
    return arguments


def _read_pre_up(fields: Fields) -> BlockArguments | GridBlockArguments:
    width, options = _read_feed_forward(fields)
    fields.ignore("inner_input_dim")  # it follows from the projection scaling
    return _read_around_mixer(fields, width, PreUpConfig(**options))


def _read_post_up(fields: Fields) -> BlockArguments | GridBlockArguments:
    width, options = _read_feed_forward(fields)
    scale = fields.below("scale")
    if scale is not None:
        options["scale_init"] = _read_scale(scale, width)
    options["use_scale"] = fields.take("use_scale")
    # A rate of 0 is published for blocks that are never dropped; our config has None there.
    options["drop_path"] = fields.take("drop_path_rate") or None
    return _read_around_mixer(fields, width, PostUpConfig(**options))


def _read_transformer(fields: Fields) -> GridBlockArguments:
    width, options = _read_feed_forward(fields)
    fields.expect("decode", False)
    attention = GridAttentionConfig(
        num_heads=fields.take("num_heads"),
        bias=options["bias"],
        weight_init=fields.initializer("attn_weight_init"),
        out_weight_init=fields.initializer("out_weight_init"),
    )
    block = PostUpConfig(
        **options,
        use_scale=True,
        scale_init=_read_scale(fields.required("scale"), width),
        drop_path=fields.take("drop_path_rate") or None,
    )
    return GridBlockArguments(width, block, attention)


def _read_feed_forward(fields: Fields) -> tuple[int, dict[str, Any]]:
    """Read the width of a block and the options that all kinds of blocks share."""
    width = fields.take("input_dim")
    fields.expect("output_dim", width)
    options = fields.options(
        "projection_scaling projection_round gated gating_function skip bias upproj_weight_init "
        "upproj_bias_init downproj_weight_init downproj_bias_init"
    )
    return width, {**options, "norm": read_norm(fields.required("norm"), width)}


def _read_scale(fields: Fields, features: int) -> Initializer:
    """Read the scale layer of a block, and return the initialiser of its factors."""
    fields.expect_all(class_name="ScaleLayer", input_dim=features, output_dim=features, scale=1.0)
    return fields.initializer("scale_init")


def _read_around_mixer(
    fields: Fields, width: int, config: BlockConfig
) -> BlockArguments | GridBlockArguments:
    """Read the mixer of a block, whose other options have been read already."""
    mixer = fields.required("interaction_module")
    class_name = mixer.take("class_name")
    names = {"pLSTM1DLayer": "pLSTM1D", UNFUSED: "pLSTM2D", FUSED: "pLSTM2DFused"}
    if class_name not in names:
        raise ValueError(f"interaction_module: got {class_name!r}, expected one of {list(names)}")
    fields.expect("interaction_module_name", names[class_name])
    if class_name == "pLSTM1DLayer":
        return BlockArguments(width, config, read_layer(mixer).config)
    layer = read_grid_layer(mixer, class_name)
    return GridBlockArguments(width, config, layer.config, layer.mode)


_BLOCKS: dict[str, Callable[[Fields], BlockArguments | GridBlockArguments]] = {
    "PreUpProjectionBlock": _read_pre_up,
    "PostUpProjectionBlock": _read_post_up,
    "TransformerBlock": _read_transformer,
}


def _read_block(fields: Fields) -> Any:
    class_name = fields.take("class_name")
    if class_name not in _BLOCKS:
        raise ValueError(f"block: got {class_name!r}, expected one of {list(_BLOCKS)}")
    return _BLOCKS[class_name](fields)


def _read_language_model(fields: Fields) -> ModelArguments:
    # The published model overwrites `input_dim` and `output_dim` with the width.
    fields.ignore("_shortname input_dim output_dim")
    width = fields.take("embedding_dim")
    fields.expect("context_length", -1)
    num_blocks, block_fields = _read_stack(fields, width)
    fields.expect("num_blocks", num_blocks)
    block = _read_block(block_fields)
    if not isinstance(block, BlockArguments):
        raise ValueError("block: got a 2D layer inside, expected a 1D layer in a language model")
    fields.expect("block_type", block.config.kind)
    config = SequenceModelConfig(
        width=width,
        num_blocks=num_blocks,
        block=block.config,
        mixer=block.mixer,
        logit_soft_cap=_read_soft_cap(fields.below("logit_soft_cap")),
        post_blocks_norm=read_norm(fields.required("post_blocks_norm"), width),
        **fields.options("tie_weights embed_init head_init"),
    )
    return ModelArguments(fields.take("vocab_size"), config)


def _read_vision_model(fields: Fields) -> VisionArguments:
    """Read a vision model.

    Our model takes images [B, X, Y, C] even if `channels_first` asks for [B, C, X, Y].
    """
    # These fields follow from others or have no effect; the stack has its own `num_blocks`.
    fields.ignore("_short_name _shortname norm_bias num_heads head_init_std aux num_blocks")
    fields.ignore("seqlens resolution channels_first input_shape num_patches")
    width, patch_size = fields.take("dim"), fields.take("patch_size")
    fields.expect_all(stride=None, mode="classifier", head_bias_init={"class_name": "ZerosInit"})
    (output_size,) = fields.take("output_shape")
    patches, position = fields.required("patch_embed"), fields.below("pos_embed")
    patches.ignore("num_channels resolution channels_first")
    patches.expect_all(dim=width, patch_size=patch_size, stride=None)
    patches.expect("bias_init", {"class_name": "ZerosInit"})
    config = VisionModelConfig(
        width=width,
        **_read_grid_blocks(fields, width),
        patch_size=patch_size,
        position="learned" if fields.take("use_pos_embed") else "none",
        **({} if position is None else _read_position(position, width)),
        pooling=fields.take("pooling"),
        norm=read_norm(fields.required("norm"), width),
        logit_soft_cap=_read_soft_cap(fields.below("logit_softcap")),
        embed_init=patches.initializer("weight_init", input_axis=-2),
        head_init=fields.initializer("head_weight_init"),
    )
    return VisionArguments(config, output_size, fields.take("num_channels"))


def _read_position(fields: Fields, width: int) -> dict[str, Any]:
    fields.expect_all(dim=width, allow_interpolation=True, learnable=True)
    x, y = fields.take("seqlens")
    return {"position_grid": (x, y), "position_init": fields.initializer("embed_init")}


def _read_grid_blocks(fields: Fields, width: int) -> dict[str, Any]:
    """Read the blocks of a vision model; a published pLSTM vision block is a pair of our blocks."""
    num_blocks, block = _read_stack(fields, width)
    if block.take("class_name") == "TransformerBlock":
        only = _read_transformer(block)
        return {"num_blocks": num_blocks, "block": only.config, "mixer": only.mixer}
    block.ignore("input_dim output_dim num_heads block_type block_mode orientations0 orientations1")
    block.expect("drop_path_rate", 0.0)
    first, second = (_read_block(block.required(name)) for name in ("block0", "block1"))
    if first._replace(mode="P") != second._replace(mode="P"):
        raise ValueError("block0 and block1: got other options than the mode that differ")
    return {
        "num_blocks": 2 * num_blocks,
        "block": first.config,
        "mixer": first.mixer,
        "mode": first.mode + second.mode,
    }


def _read_stack(fields: Fields, width: int) -> tuple[int, Fields]:
    """Read a stack of blocks, and return their number and the configuration that they share."""
    stack = fields.required("block_stack")
    stack.expect_all(class_name="BlockStack", input_dim=width, scan_blocks=False)
    stack.expect("output_dim", width, -1)
    return stack.take("num_blocks"), stack.required("block")


def _read_soft_cap(fields: Fields | None) -> float | None:
    if fields is None:
        return None
    fields.expect("class_name", "SoftCapFunctionLayer")
    return fields.take("scale")


_READERS: dict[str, Callable[[Fields], Arguments]] = {
    "pLSTM1DLayer": read_layer,
    UNFUSED: partial(read_grid_layer, class_name=UNFUSED),
    FUSED: partial(read_grid_layer, class_name=FUSED),
    "pLSTMGraphLayer": partial(read_graph_layer, class_name="pLSTMGraphLayer"),
    "pLSTMGraphEdgeLayer": partial(read_graph_layer, class_name="pLSTMGraphEdgeLayer"),
    **_BLOCKS,
    "pLSTMLM": _read_language_model,
    "pLSTMLMModel": _read_language_model,
    "pLSTMVisionModel": _read_vision_model,
}
