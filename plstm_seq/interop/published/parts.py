"""Reads the published configurations of initialisers, gates, projections and norms."""

from collections.abc import Callable
from typing import Any

from plstm_seq.interop.published.fields import Fields
from plstm_seq.layers import ConvolutionConfig, GateConfig, HeadProjectionConfig, NormConfig
from plstm_seq.layers import initializers as init
from plstm_seq.layers.grid import GridConvolutionConfig
from plstm_seq.layers.initializers import Initializer
from plstm_seq.layers.norm import NormKind

_NORMS: dict[str, NormKind] = {"RMSNorm": "rms", "LayerNorm": "layer"}
_HEAD_NORMS: dict[str, NormKind] = {"MultiHeadRMSNorm": "rms", "MultiHeadLayerNorm": "layer"}


def _diagonal(fields: Fields, input_axis: int) -> Initializer:
    del input_axis
    fields.take("value", None)  # the published initialiser ignores it
    in_axes, out_axes = (_axes(fields.take(name, ())) for name in ("in_axes", "out_axes"))
    if not in_axes and not out_axes:
        return init.Ones()
    return init.ScaledIdentity(1.0, in_axes, out_axes)


def _axes(axes: int | list[int] | tuple[int, ...]) -> tuple[int, ...]:
    return (axes,) if isinstance(axes, int) else tuple(axes)


def _fan_in(kind: type, *names: str) -> Callable[[Fields, int], Initializer]:
    """Our axis names the input axis; the published one, -1, the axis *not* counted."""

    def make(fields: Fields, input_axis: int) -> Initializer:
        fields.expect("axis", -1)
        return kind(axis=input_axis, **_given(fields, *names))

    return make


def _plain(kind: type, *names: str) -> Callable[[Fields, int], Initializer]:
    def make(fields: Fields, input_axis: int) -> Initializer:
        del input_axis
        return kind(**_given(fields, *names))

    return make


def _given(fields: Fields, *names: str) -> dict[str, Any]:
    return {name: fields.take(name) for name in names}


_INITIALIZERS: dict[str, Callable[[Fields, int], Initializer]] = {
    "ZerosInit": _plain(init.Zeros),
    "OnesInit": _plain(init.Ones),
    "ConstantInit": _plain(init.Constant, "value"),
    "LinspaceInit": _plain(init.Linspace, "low", "high", "axis"),
    "NormalInit": _plain(init.Normal, "mean", "stddev"),
    "TruncatedNormalInit": _plain(init.TruncatedNormal, "mean", "stddev", "lower", "upper"),
    "DiagonalInit": _diagonal,
    "SmallInit": _fan_in(init.Small, "mup_init_scale"),
    "WangInit": _fan_in(init.Wang, "mup_init_scale", "num_blocks"),
}


def read_initializer(parent: Fields, name: str, *, input_axis: int = -1) -> Initializer:
    """Read an initialiser; those that depend on the fan-in take it from `input_axis`."""
    fields = parent.below(name)
    if fields is None:
        raise ValueError(f"{name}: got no initialiser")
    class_name = fields.take("class_name")
    if class_name not in _INITIALIZERS:
        raise ValueError(f"{name}: got {class_name!r}, expected one of {list(_INITIALIZERS)}")
    return _INITIALIZERS[class_name](fields, input_axis)


def ignore_types(fields: Fields) -> None:
    """Use the type fields: ours are arguments of the module, not of its configuration."""
    fields.take("dtype", None)
    fields.take("param_dtype", None)


def read_gate(fields: Fields, **sizes: int) -> GateConfig:
    """Read a source, mark or direct configuration; `sizes` are what its size fields must be."""
    ignore_types(fields)
    for name, size in sizes.items():
        fields.expect(name, size)
    return GateConfig(
        weight=fields.take("weight"),
        sub_heads=fields.take("sub_heads"),
        activation=fields.take("activation"),
        activation_scale=fields.take("activation_scale"),
        bias_init=read_initializer(fields, "bias_init"),
        weight_init=read_initializer(fields, "weight_init"),
    )


def read_projection(fields: Fields, **sizes: int) -> HeadProjectionConfig:
    """Read a query, key or value configuration; `sizes` as for `read_gate`."""
    ignore_types(fields)
    for name, size in sizes.items():
        fields.expect(name, size)
    normalization = fields.take("normalization")
    return HeadProjectionConfig(
        bias=fields.take("bias"),
        normalization="published_l2" if normalization == "l2" else normalization,
        bias_init=read_initializer(fields, "bias_init"),
        weight_init=read_initializer(fields, "weight_init"),
    )


def read_convolution(fields: Fields, features: int) -> ConvolutionConfig:
    """Read a 1D convolution's configuration."""
    ignore_types(fields)
    fields.expect("input_dim", features)
    fields.expect("output_dim", features)
    fields.expect("causal", True)
    fields.expect("pointwise", True)
    return ConvolutionConfig(kernel_size=fields.take("kernel_size"), bias=fields.take("bias"))


def read_grid_convolution(fields: Fields, features: int) -> GridConvolutionConfig:
    """Read a 2D convolution's configuration; it looks back from each cell, whatever `causal` is."""
    ignore_types(fields)
    fields.expect("input_dim", features)
    fields.expect("output_dim", features)
    fields.take("causal")
    fields.expect("pointwise", True)
    x, y = fields.take("kernel_size")
    return GridConvolutionConfig(kernel_size=(x, y), causal=True, bias=fields.take("bias"))


def read_passthrough(parent: Fields, features: int) -> bool:
    """Read whether there is a passthrough; its factors start as ours."""
    fields = parent.below("passthrough")
    if fields is not None:
        ignore_types(fields)
        fields.expect("input_dim", features)
        fields.expect("output_dim", features)
        fields.expect("scale_init", {"class_name": "OnesInit"})
    return parent.take("additional_passthrough") and fields is not None


def read_outprojection(fields: Fields) -> dict[str, Any]:
    """Read the options of the out projection of a layer."""
    return {
        "outprojection": fields.take("outprojection"),
        "outprojection_bias": fields.take("outprojection_bias"),
        "outprojection_weight_init": read_initializer(
            fields, "outprojection_weight_init", input_axis=-2
        ),
        "outprojection_bias_init": read_initializer(fields, "outprojection_bias_init"),
    }


def read_block_options(fields: Fields, width: int) -> dict[str, Any]:
    """Read the options, but `bias`, that pre- and post-up-projection blocks share."""
    names = ("projection_scaling", "projection_round", "gated", "gating_function", "skip")
    return {name: fields.take(name) for name in names} | {
        "norm": read_norm(fields.required("norm"), width),
        "upproj_weight_init": read_initializer(fields, "upproj_weight_init", input_axis=-2),
        "upproj_bias_init": read_initializer(fields, "upproj_bias_init"),
        "downproj_weight_init": read_initializer(fields, "downproj_weight_init", input_axis=-2),
        "downproj_bias_init": read_initializer(fields, "downproj_bias_init"),
    }


def read_head_norm(fields: Fields, num_heads: int, features: int) -> NormConfig | None:
    """Read the norm over the heads of a layer."""
    norm = fields.below("mhnorm")
    return None if norm is None else read_norm(norm, features, num_heads)


def read_scale(fields: Fields, features: int) -> Initializer:
    """Read the scale of a block; returns the initialiser of its factors."""
    ignore_types(fields)
    fields.expect("class_name", "ScaleLayer")
    fields.expect("input_dim", features)
    fields.expect("output_dim", features)
    fields.expect("scale", 1.0)
    return read_initializer(fields, "scale_init")


def read_rate(fields: Fields, name: str) -> float | None:
    """Read the probability of leaving something out; ours is None for never."""
    return fields.take(name) or None


def read_norm(fields: Fields, features: int, num_heads: int | None = None) -> NormConfig | None:
    """Read a norm's configuration: over heads where `num_heads` is given, else over features."""
    class_name = fields.take("class_name")
    if class_name == "Identity":
        return None
    kinds = _NORMS if num_heads is None else _HEAD_NORMS
    if class_name not in kinds:
        raise ValueError(f"norm: got {class_name!r}, expected one of {[*kinds, 'Identity']}")
    ignore_types(fields)
    fields.expect("input_dim", features)
    fields.expect("output_dim", features)
    if num_heads is not None:
        fields.expect("num_heads", num_heads)
        fields.take("axis", None)  # where the heads are is the caller's business in ours
    return NormConfig(
        kind=kinds[class_name],
        eps=fields.take("eps"),
        scale=fields.take("scale"),
        bias=fields.take("bias"),
        scale_init=read_initializer(fields, "scale_init"),
        bias_init=read_initializer(fields, "bias_init"),
    )
