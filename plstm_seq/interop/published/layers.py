"""Reads the published configurations of layers and of their gates, projections and norms."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from plstm_seq.interop.published.fields import Fields
from plstm_seq.layers import (
    ConvolutionConfig,
    GateConfig,
    HeadProjectionConfig,
    NormConfig,
    PLSTM1DConfig,
    PLSTM1DLayer,
)
from plstm_seq.layers.dag import PLSTMDAGConfig, PLSTMDAGLayer
from plstm_seq.layers.dag.plstm_dag import Published
from plstm_seq.layers.grid import GridConvolutionConfig, PLSTM2DConfig, PLSTM2DLayer
from plstm_seq.layers.initializers import Initializer, Ones, ScaledIdentity
from plstm_seq.layers.norm import NormKind
from plstm_seq.layers.plstm import Mode
from plstm_seq.layers.transition import Factorized

FUSED, UNFUSED = "pLSTM2DLayerFused", "pLSTM2DLayer"
_GRAPH_LAYERS: dict[str, Published] = {"pLSTMGraphLayer": "node", "pLSTMGraphEdgeLayer": "edge"}
_NORMS: dict[str, NormKind] = {"RMSNorm": "rms", "LayerNorm": "layer"}
_HEAD_NORMS: dict[str, NormKind] = {"MultiHeadRMSNorm": "rms", "MultiHeadLayerNorm": "layer"}
# The branch for each letter of `convolution_inputs`. Layers in 1D also have P, layers in 2D also O.
_BRANCHES = {
    "S": "source",
    "T": "transition",
    "M": "mark",
    "D": "direct",
    "Q": "query",
    "K": "key",
    "V": "value",
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
        return PLSTM1DLayer(**self._asdict(), **types)


class GridLayerArguments(NamedTuple):
    """The arguments of a `PLSTM2DLayer`.

    Example:
        >>> from flax import nnx
        >>> from plstm_seq.interop.published import GridLayerArguments
        >>> config = PLSTM2DConfig(num_heads=2, DK=4, DV=4)
        >>> arguments = GridLayerArguments(input_dim=16, config=config, mode="D", output_dim=16)
        >>> type(arguments.build(rngs=nnx.Rngs(0))).__name__
        'PLSTM2DLayer'
    """

    input_dim: int
    config: PLSTM2DConfig
    mode: Mode
    output_dim: int

    def build(self, **types: Any) -> PLSTM2DLayer:
        """Build the layer; `dtype`, `param_dtype` and `rngs` are passed on."""
        return PLSTM2DLayer(**self._asdict(), **types)


class GraphLayerArguments(NamedTuple):
    """The arguments from which a `PLSTMDAGLayer` is built."""

    input_dim: int
    config: PLSTMDAGConfig
    mode: Mode
    output_dim: int
    edge_features: int

    def build(self, **types: Any) -> PLSTMDAGLayer:
        """Build the layer; `dtype`, `param_dtype` and `rngs` are passed on."""
        return PLSTMDAGLayer(**self._asdict(), **types)


def read_layer(fields: Fields) -> LayerArguments:
    """Read the configuration of a 1D layer, whose `class_name` has been taken already."""
    options = _read_options(fields, _BRANCHES | {"P": "passthrough"}, read_convolution)
    fields.expect("sub_heads", options["sub_heads"])
    input_dim, output_dim = options.pop("input_dim"), options.pop("output_dim")
    return LayerArguments(input_dim, PLSTM1DConfig(**options), output_dim)


def read_grid_layer(fields: Fields, class_name: str) -> GridLayerArguments:
    """Read the configuration of a 2D layer, whose `class_name` has been taken already.

    Both published layers become our layer, with options of the same effect. The published layer
    that fuses the orientations normalises their sum and orders the gates by head first. The other
    one normalises each orientation, and does not flip Y for orientations below 4.
    """
    fused = class_name == FUSED
    if fused:
        orientations = [0, 1, 2, 3]
        fields.expect("orientation_combinations", orientations)
    else:
        published = fields.take("orientation_combinations")
        orientations = [(o & 1) + 2 * (o >> 2 & 1) for o in published]
    branches = _BRANCHES | {"O": "orientation"}
    options = _read_options(fields, branches, read_grid_convolution, len(orientations))
    fields.ignore("sub_heads")  # the projections have a field of their own
    input_dim, output_dim = options.pop("input_dim"), options.pop("output_dim")
    config = PLSTM2DConfig(
        **options,
        orientations=tuple(orientations),
        orientation_scale=fields.take("pmode_orientation_scale"),
        orientation_bias_init=fields.initializer("pmode_orientation_bias_init"),
        orientation_weight_init=fields.initializer("pmode_orientation_weight_init"),
        p_form="published",
        chirality=fields.take("dmode_chirality"),
        gate_order="head" if fused else "orientation",
        norm_of="sum" if fused else "orientation",
    )
    return GridLayerArguments(input_dim, config, fields.take("mode"), output_dim)


def _read_options(
    fields: Fields,
    branches: dict[str, str],
    read_convolution: Callable[[Fields, int], Any],
    orientations: int = 1,
) -> dict[str, Any]:
    """Read the options that 1D and 2D layers share, with `input_dim` and `output_dim`."""
    fields.ignore("_shortname levels")
    sizes = fields.options("num_heads JK JQ JV JT JO DK DV input_dim")
    heads, features, output_dim = sizes["num_heads"], sizes["input_dim"], fields.take("output_dim")

    def at(names: str, num_heads: int = heads) -> dict[str, int]:
        named = {name: sizes[name] for name in names.split()}
        return {"num_heads": num_heads, "input_dim": features, **named}

    gates = orientations * heads
    query, key, norm = fields.required("query"), fields.below("key"), fields.below("mhnorm")
    sub_heads = query.take("sub_heads")
    query = read_projection(query, **at("DK JQ"))
    letters = fields.take("convolution_inputs")
    unknown = set(letters) - set(branches) - set("stP")  # letters that some layers ignore
    if unknown:
        raise ValueError(f"convolution_inputs: got {letters!r}, unknown {sorted(unknown)}")
    convolution = fields.below("convolution")
    if not fields.take("additional_convolution"):
        convolution = None
    return {
        **{name: size for name, size in sizes.items() if name != "JT"},
        "output_dim": output_dim,
        "source": read_gate(fields.required("source"), **at("JK JV JT", gates)),
        "transition": read_transition(
            fields.required("transition"), transition_dim=sizes["JT"], **at("", gates)
        ),
        "mark": read_gate(fields.required("mark"), **at("JQ JO JT", gates)),
        "direct": read_gate(fields.required("direct"), **at("JQ JK JO JV")),
        "query": query,
        "key": query if key is None else read_projection(key, sub_heads=sub_heads, **at("DK JK")),
        "value": read_projection(fields.required("value"), sub_heads=sub_heads, **at("DV JV")),
        "sub_heads": sub_heads,
        "passthrough": _read_passthrough(fields, features),
        "convolution": None if convolution is None else read_convolution(convolution, features),
        "convolution_inputs": tuple(
            branch for letter, branch in branches.items() if letter in letters
        ),
        "norm": None if norm is None else read_norm(norm, output_dim, heads),
        **fields.options("tie_query_key outprojection outprojection_bias"),
        **fields.options("outprojection_weight_init outprojection_bias_init"),
    }


def _read_passthrough(parent: Fields, features: int) -> bool:
    """Read whether there is a passthrough, whose factors must start at 1, as ours do."""
    fields = parent.below("passthrough")
    if fields is not None:
        fields.expect_all(input_dim=features, output_dim=features)
        fields.expect("scale_init", {"class_name": "OnesInit"})
    return parent.take("additional_passthrough") and fields is not None


def read_graph_layer(fields: Fields, class_name: str) -> GraphLayerArguments:
    """Read the configuration of a graph layer, whose `class_name` has been taken already.

    The published node-gated layer swaps the slots of edges that enter and leave a node, and both
    published layers distribute the state differently from ours in P-mode: see
    `PLSTMDAGConfig.published`. The diagonal initialiser of transitions becomes an initialiser of
    ones, since our parameters have one axis for all pairs of slots.
    """
    fields.ignore("memeff_variant bias")  # the published layers have biases whatever `bias` is
    published, heads = _GRAPH_LAYERS[class_name], fields.take("num_heads")
    value_features, max_edges = fields.take("hv_head_dim"), fields.take("max_edges")
    project = HeadProjectionConfig(
        bias_init=fields.initializer("qkvo_bias_init"),
        weight_init=fields.initializer("qkvo_weight_init"),
    )
    norm = fields.below("mhnorm")
    config = PLSTMDAGConfig(
        num_heads=heads,
        DK=fields.take("qk_head_dim"),
        DV=value_features,
        max_edges=max_edges if published == "node" else 1,
        source=_read_graph_gate(fields, "source"),
        share=_read_graph_gate(fields, "transition", "identity"),
        mark=_read_graph_gate(fields, "mark"),
        direct=_read_graph_gate(fields, "direct"),
        query=project,
        key=project,
        value=project,
        scale=1.0,
        norm=None if norm is None else read_norm(norm, heads * value_features, heads),
        outprojection=fields.take("out"),
        published=published,
    )
    return GraphLayerArguments(
        config=config,
        edge_features=fields.take("edge_input_dim", 0),
        **fields.options("input_dim mode output_dim"),
    )


def _read_graph_gate(fields: Fields, name: str, activation: Any = "sigmoid") -> GateConfig:
    def initializer(end: str) -> Initializer:
        published = fields.initializer(f"{name}_{end}")
        return Ones() if isinstance(published, ScaledIdentity) else published

    return GateConfig(
        weight=True,
        activation=activation,
        bias_init=initializer("bias_init"),
        weight_init=initializer("weight_init"),
    )


def read_gate(fields: Fields, **sizes: int) -> GateConfig:
    """Read the configuration of a source, mark or direct gate.

    `sizes` are the values that its size fields must have.
    """
    fields.expect_all(**sizes)
    gate = GateConfig(
        **fields.options("weight sub_heads activation activation_scale bias_init weight_init")
    )
    # The number of blocks of a weight has no meaning if there is no weight.
    return gate if gate.weight else dataclasses.replace(gate, sub_heads=1)


def read_transition(fields: Fields, **sizes: int) -> Factorized:
    """Read the configuration of a transition; `sizes` are those that `read_gate` takes.

    The published normalisations are kept with their defects (`published_normalization`), because
    published weights were trained with them.
    """
    fields.expect_all(**sizes)
    options = fields.options(
        "sub_heads weight eigenvalue_representation eigenvalue_factor symmetric normalization_mode "
        "orthogonalization_factor orthogonalization_order eigenvalue_bias_init "
        "eigenvalue_weight_init inproj_bias_init inproj_weight_init outproj_bias_init "
        "outproj_weight_init"
    )
    # The published code has `orthogonalization_factor` in every mode, but uses it only in this one.
    if options["normalization_mode"] != "exponential_orthogonalization":
        options["orthogonalization_factor"] = 1.0
    return Factorized(dim=sizes["transition_dim"], published_normalization=True, **options)


def read_projection(fields: Fields, **sizes: int) -> HeadProjectionConfig:
    """Read the configuration of a query, key or value; `sizes` are those that `read_gate` takes."""
    fields.expect_all(**sizes)
    normalization = fields.take("normalization")
    return HeadProjectionConfig(
        normalization="published_l2" if normalization == "l2" else normalization,
        **fields.options("bias bias_init weight_init"),
    )


def read_convolution(fields: Fields, features: int) -> ConvolutionConfig:
    """Read the configuration of a 1D convolution."""
    fields.expect_all(input_dim=features, output_dim=features, causal=True, pointwise=True)
    return ConvolutionConfig(**fields.options("kernel_size bias"))


def read_grid_convolution(fields: Fields, features: int) -> GridConvolutionConfig:
    """Read the configuration of a 2D convolution.

    The published convolution reads only the cells before each cell, whatever `causal` is.
    """
    fields.ignore("causal")
    fields.expect_all(input_dim=features, output_dim=features, pointwise=True)
    x, y = fields.take("kernel_size")
    return GridConvolutionConfig(kernel_size=(x, y), causal=True, bias=fields.take("bias"))


def read_norm(fields: Fields, features: int, num_heads: int | None = None) -> NormConfig | None:
    """Read the configuration of a norm, which is per head if `num_heads` is given."""
    class_name = fields.take("class_name")
    if class_name == "Identity":
        return None
    kinds = _NORMS if num_heads is None else _HEAD_NORMS
    if class_name not in kinds:
        raise ValueError(f"norm: got {class_name!r}, expected one of {[*kinds, 'Identity']}")
    fields.expect_all(input_dim=features, output_dim=features)
    if num_heads is not None:
        fields.expect("num_heads", num_heads)
        fields.ignore("axis")  # in our code the caller puts the heads where the norm expects them
    return NormConfig(
        kind=kinds[class_name], **fields.options("eps scale bias scale_init bias_init")
    )
