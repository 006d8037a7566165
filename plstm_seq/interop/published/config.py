"""Reads the published configurations of layers, blocks and models."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from plstm_seq.interop.published.fields import Fields
from plstm_seq.interop.published.graph import (
    GRAPH_LAYERS,
    GraphLayerArguments,
    read_graph_layer,
)
from plstm_seq.interop.published.grid import FUSED, UNFUSED, GridLayerArguments, read_grid_layer
from plstm_seq.interop.published.parts import (
    ignore_types,
    read_block_options,
    read_convolution,
    read_gate,
    read_head_norm,
    read_initializer,
    read_norm,
    read_outprojection,
    read_passthrough,
    read_projection,
    read_rate,
    read_scale,
)
from plstm_seq.interop.published.transition import read_transition
from plstm_seq.interop.published.vision import (
    GridBlockArguments,
    VisionArguments,
    read_transformer_block,
    read_vision_model,
)
from plstm_seq.layers import PLSTM1DConfig, PLSTM1DLayer
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

_BRANCHES = {
    "S": "source",
    "T": "transition",
    "M": "mark",
    "D": "direct",
    "Q": "query",
    "K": "key",
    "V": "value",
    "P": "passthrough",
}


class LayerArguments(NamedTuple):
    """The arguments of a `PLSTM1DLayer`.

    Example:
        >>> from flax import nnx
        >>> from plstm_seq.interop.published import LayerArguments
        >>> config = PLSTM1DConfig(num_heads=2, DK=4, DV=4)
        >>> arguments = LayerArguments(input_dim=16, config=config, output_dim=16)
        >>> type(arguments.build(rngs=nnx.Rngs(0))).__name__
        'PLSTM1DLayer'
    """

    input_dim: int
    config: PLSTM1DConfig
    output_dim: int

    def build(self, **types: Any) -> PLSTM1DLayer:
        """Build the layer; `dtype`, `param_dtype` and `rngs` are passed on."""
        return PLSTM1DLayer(self.input_dim, self.config, output_dim=self.output_dim, **types)


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
        return make_block(*self, **types)


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
        return SequenceModel(*self, **types)


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
        >>> from plstm_seq.interop.published.defaults import complete  # adds the missing fields
        >>> published = {"class_name": "pLSTM1DLayer", "input_dim": 16, "num_heads": 2}
        >>> arguments = read_config(complete(published))
        >>> arguments.input_dim, arguments.config.num_heads
        (16, 2)
    """
    fields = Fields(config)
    arguments = _read(fields, config)
    leftovers = fields.leftovers()
    if leftovers:
        raise ValueError("fields with no counterpart:\n  " + "\n  ".join(leftovers))
    return arguments


def _read(fields: Fields, config: Mapping[str, Any]) -> Arguments:
    class_name = fields.take("class_name", "")
    shortname = config.get("_shortname", config.get("_short_name"))
    if class_name == "pLSTM1DLayer":
        return _read_layer(fields)
    if class_name in (FUSED, UNFUSED):
        return read_grid_layer(fields, class_name)
    if class_name in GRAPH_LAYERS:
        return read_graph_layer(fields, class_name)
    if class_name in ("PreUpProjectionBlock", "PostUpProjectionBlock"):
        return _read_block(fields, class_name)
    if class_name == "TransformerBlock":
        return read_transformer_block(fields)
    if shortname == "pLSTMLM":
        return _read_model(fields)
    if "pLSTMVisionModel" in (class_name, shortname):
        return read_vision_model(fields, _read_block)
    raise ValueError(
        f"config: got class_name {class_name!r} and _shortname {shortname!r}, expected a 1D, 2D "
        "or graph layer, a pre- or post-up-projection or transformer block, or a language or "
        "vision model"
    )


def _read_layer(fields: Fields) -> LayerArguments:
    ignore_types(fields)
    fields.take("_shortname", None)
    fields.take("levels", None)
    names = ("num_heads", "JK", "JQ", "JV", "JT", "JO", "DK", "DV", "input_dim")
    sizes = {name: fields.take(name) for name in names}
    output_dim = fields.take("output_dim")
    sub_heads = fields.take("sub_heads")
    tied = fields.take("tie_query_key")
    key = fields.below("key")
    query = read_projection(
        fields.required("query"), **_pick(sizes, "num_heads DK JQ input_dim"), sub_heads=sub_heads
    )
    config = PLSTM1DConfig(
        **_pick(sizes, "num_heads JK JQ JV JO DK DV"),
        source=read_gate(fields.required("source"), **_pick(sizes, "num_heads JK JV JT input_dim")),
        transition=read_transition(
            fields.required("transition"),
            num_heads=sizes["num_heads"],
            transition_dim=sizes["JT"],
            input_dim=sizes["input_dim"],
        ),
        mark=read_gate(fields.required("mark"), **_pick(sizes, "num_heads JQ JO JT input_dim")),
        direct=read_gate(
            fields.required("direct"), **_pick(sizes, "num_heads JQ JK JO JV input_dim")
        ),
        query=query,
        key=query
        if key is None
        else read_projection(key, **_pick(sizes, "num_heads DK JK input_dim"), sub_heads=sub_heads),
        value=read_projection(
            fields.required("value"),
            **_pick(sizes, "num_heads DV JV input_dim"),
            sub_heads=sub_heads,
        ),
        sub_heads=sub_heads,
        tie_query_key=tied,
        **_read_around(fields, sizes["input_dim"]),
        norm=read_head_norm(fields, sizes["num_heads"], output_dim),
        **read_outprojection(fields),
    )
    return LayerArguments(sizes["input_dim"], config, output_dim)


def _pick(sizes: dict[str, int], names: str) -> dict[str, int]:
    return {name: sizes[name] for name in names.split()}


def _read_around(fields: Fields, input_dim: int) -> dict[str, Any]:
    """Read what stands beside the op: convolution and passthrough."""
    convolution = fields.below("convolution")
    letters = fields.take("convolution_inputs")
    # s and t are branches of the 2D layer; the 1D layer has none of these names.
    unknown = set(letters) - set(_BRANCHES) - {"s", "t"}
    if unknown:
        raise ValueError(f"convolution_inputs: got {letters!r}, unknown {sorted(unknown)}")
    if not fields.take("additional_convolution"):
        convolution = None
    return {
        "passthrough": read_passthrough(fields, input_dim),
        "convolution": None if convolution is None else read_convolution(convolution, input_dim),
        "convolution_inputs": tuple(
            branch for letter, branch in _BRANCHES.items() if letter in letters
        ),
    }


def _read_block(fields: Fields, class_name: str) -> BlockArguments | GridBlockArguments:
    ignore_types(fields)
    width = fields.take("input_dim")
    fields.expect("output_dim", width)
    mixer = fields.required("interaction_module")
    mixer_class = mixer.take("class_name")
    names = {"pLSTM1DLayer": "pLSTM1D", UNFUSED: "pLSTM2D", FUSED: "pLSTM2DFused"}
    if mixer_class not in names:
        raise ValueError(f"interaction_module: got {mixer_class!r}, expected one of {list(names)}")
    fields.expect("interaction_module_name", names[mixer_class])
    options = read_block_options(fields, width) | {"bias": fields.take("bias")}
    if class_name == "PreUpProjectionBlock":
        fields.take("inner_input_dim", None)  # follows from the scaling
        block = PreUpConfig(**options)
    else:
        options["drop_path"] = read_rate(fields, "drop_path_rate")
        scale = fields.below("scale")
        if scale is not None:
            options["scale_init"] = read_scale(scale, width)
        block = PostUpConfig(use_scale=fields.take("use_scale"), **options)
    if mixer_class == "pLSTM1DLayer":
        return BlockArguments(width, block, _read_layer(mixer).config)
    layer = read_grid_layer(mixer, mixer_class)
    return GridBlockArguments(width, block, layer.config, layer.mode)


def _read_model(fields: Fields) -> ModelArguments:
    ignore_types(fields)
    fields.take("_shortname")
    width = fields.take("embedding_dim")
    fields.expect("input_dim", width)
    fields.expect("output_dim", width)
    fields.expect("context_length", -1)
    num_blocks = fields.take("num_blocks")
    stack = fields.required("block_stack")
    ignore_types(stack)
    stack.expect("class_name", "BlockStack")
    stack.expect("input_dim", width)
    stack.expect("output_dim", width)
    stack.expect("scan_blocks", False)
    stack.expect("num_blocks", num_blocks)
    block_fields = stack.required("block")
    block = _read_block(block_fields, block_fields.take("class_name"))
    if not isinstance(block, BlockArguments):
        raise ValueError("block: got a 2D layer inside, expected a 1D layer in a language model")
    fields.expect("block_type", block.config.kind)
    cap = fields.below("logit_soft_cap")
    if cap is not None:
        cap.expect("class_name", "SoftCapFunctionLayer")
    config = SequenceModelConfig(
        width=width,
        num_blocks=num_blocks,
        block=block.config,
        mixer=block.mixer,
        tie_weights=fields.take("tie_weights"),
        logit_soft_cap=None if cap is None else cap.take("scale"),
        post_blocks_norm=read_norm(fields.required("post_blocks_norm"), width),
        embed_init=read_initializer(fields, "embed_init"),
        head_init=read_initializer(fields, "head_init", input_axis=-2),
    )
    return ModelArguments(fields.take("vocab_size"), config)
