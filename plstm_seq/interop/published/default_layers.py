"""The defaults of the published configurations of layers and of what is in them."""

from collections.abc import Mapping
from typing import Any

Config = dict[str, Any]
Given = Mapping[str, Any]

SMALL = {"class_name": "SmallInit"}
ZEROS = {"class_name": "ZerosInit"}
ONES = {"class_name": "OnesInit"}
_MINUS_FIVE = {"class_name": "ConstantInit", "value": -5.0}
_IDENTITY = {"class_name": "DiagonalInit", "in_axes": -2, "out_axes": -1}
_BETWEEN = {"class_name": "LinspaceInit", "low": -2.0, "high": 2.0}
_INITIALIZERS: dict[str, Config] = {
    "ConstantInit": {"value": 0.0},
    "DiagonalInit": {"value": 1.0, "in_axes": (), "out_axes": ()},
    "LinspaceInit": {"low": 0.0, "high": 1.0, "axis": -1},
    "NormalInit": {"mean": 0.0, "stddev": 1.0},
    "SmallInit": {"axis": -1, "mup_init_scale": 1.0},
    "TruncatedNormalInit": {"mean": 0.0, "stddev": 0.0, "lower": -2.0, "upper": 2.0},
    "WangInit": {"num_blocks": 1, "mup_init_scale": 1.0, "axis": -1},
}
_ORIENTATIONS = [0, 1, 2, 3]


def filled(given: Given, **defaults: Any) -> Config:
    """Return the fields given and the defaults of others; None and -1 count as left out."""
    named = {
        name: value
        for name, value in given.items()
        if not (name in defaults and (value is None or value == -1))
    }
    return {name: _whole(value) for name, value in {**defaults, **named}.items()}


def _whole(value: Any) -> Any:
    """An initialiser with its own defaults; all else as it is."""
    if not isinstance(value, Mapping):
        return value
    return _INITIALIZERS.get(value.get("class_name", ""), {}) | dict(value)


def below(config: Given, name: str) -> Given:
    """Return the configuration in a field; empty where there is none."""
    return config.get(name) or {}


def norm(given: Given, features: int, **heads: int) -> Config:
    """Complete a norm, an RMS norm where nothing is said; over heads with `num_heads`."""
    if given.get("class_name") == "Identity":
        return dict(given)
    return filled(
        given,
        class_name="MultiHeadRMSNorm" if heads else "RMSNorm",
        input_dim=features,
        output_dim=features,
        eps=1e-5,
        bias=False,
        scale=True,
        bias_init=ZEROS,
        scale_init=ONES,
        **heads,
    )


def scale(given: Given, features: int, **named: Any) -> Config:
    """Complete a factor a feature."""
    return filled(given, input_dim=features, output_dim=features, scale_init=ONES, **named)


def layer_1d(given: Given) -> Config:
    """Complete a 1D layer."""
    config = _layer(
        given,
        JV=4,
        JT=4,
        JO=4,
        additional_passthrough=True,
        additional_convolution=True,
        convolution_inputs="STMDQKstP",
    )
    return config | _parts(config, orientations=1, kernel_size=4, causal=True)


def layer_2d(given: Given) -> Config:
    """Complete a 2D layer, the one with fused orientations or the other."""
    fused = given["class_name"] == "pLSTM2DLayerFused"
    config = _layer(
        given,
        mode="P",
        JV=1,
        JT=1,
        JO=1,
        additional_passthrough=not fused,
        additional_convolution=not fused,
        convolution_inputs="STMDQKsO",
        pmode_orientation_bias_init=_BETWEEN,
        pmode_orientation_weight_init=ZEROS,
        pmode_orientation_scale=0.5,
        dmode_chirality="L",
        **({} if fused else {"orientation_combinations": _ORIENTATIONS}),
    )
    orientations = len(config.get("orientation_combinations", _ORIENTATIONS))
    return config | _parts(config, orientations, kernel_size=(3, 3), causal=False)


def layer_graph(given: Given) -> Config:
    """Complete a layer of graphs, the one gated at nodes or the one gated at edges."""
    at_edges = given["class_name"] == "pLSTMGraphEdgeLayer"
    spread = {"class_name": "NormalInit", "stddev": 10.0}
    ahead = {"class_name": "DiagonalInit", "value": 10.0, "in_axes": -1, "out_axes": -2}
    config = filled(
        given,
        mode="P",
        qkvo_bias_init=ZEROS,
        qkvo_weight_init=SMALL,
        transition_bias_init=spread if at_edges else ahead,
        transition_weight_init=ZEROS,
        out=True,
        **({"max_edges": 1} if at_edges else {}),
        **{f"{gate}_bias_init": _MINUS_FIVE for gate in ("source", "mark", "direct")},
        **{f"{gate}_weight_init": ZEROS for gate in ("source", "mark", "direct")},
    )
    width, heads = config["input_dim"], config["num_heads"]
    features = width // heads
    sizes = {"output_dim": width, "qk_head_dim": features, "hv_head_dim": features}
    completed = norm(below(config, "mhnorm"), width, num_heads=heads)
    return filled(config, **sizes) | {"mhnorm": completed}


def _layer(given: Given, **defaults: Any) -> Config:
    config = filled(
        given,
        num_heads=1,
        JK=1,
        JQ=1,
        outprojection=True,
        outprojection_bias=False,
        outprojection_weight_init=SMALL,
        outprojection_bias_init=ZEROS,
        tie_query_key=False,
        **defaults,
    )
    width, heads = config["input_dim"], config["num_heads"]
    return filled(
        config,
        output_dim=width,
        sub_heads=heads,
        DK=width // config["JK"] // heads,
        DV=width // config["JV"] // heads,
    )


def _parts(config: Config, orientations: int, **convolution: Any) -> Config:
    """What is in a layer: gates, transition, projections, and what stands beside the op."""
    width, heads = config["input_dim"], config["num_heads"]
    inner = {"num_heads": heads, "input_dim": width, "sub_heads": config["sub_heads"]}
    gates = {"num_heads": orientations * heads, "input_dim": width}
    direct = {"num_heads": heads, "input_dim": width}

    def sizes(names: str) -> dict[str, int]:
        return {name: config[name] for name in names.split()}

    parts = {
        "source": _gate(below(config, "source"), **gates, **sizes("JK JV JT")),
        "transition": _transition(below(config, "transition"), dim=config["JT"], **gates),
        "mark": _gate(below(config, "mark"), **gates, **sizes("JQ JO JT")),
        "direct": _gate(below(config, "direct"), **direct, **sizes("JQ JK JO JV")),
        "query": _projection(below(config, "query"), **inner, **sizes("DK JQ")),
        "value": _projection(below(config, "value"), **inner, **sizes("DV JV")),
        "mhnorm": norm(below(config, "mhnorm"), width, num_heads=heads),
    }
    if config.get("key") is not None or not config["tie_query_key"]:
        parts["key"] = _projection(below(config, "key"), **inner, **sizes("DK JK"))
    if config["additional_passthrough"]:
        parts["passthrough"] = scale(below(config, "passthrough"), width)
    if config["additional_convolution"]:
        shape = {"input_dim": width, "output_dim": width}
        options = {"pointwise": True, "bias": True}
        parts["convolution"] = filled(
            below(config, "convolution"), **shape, **options, **convolution
        )
    return parts


def _gate(given: Given, **sizes: int) -> Config:
    return filled(
        given,
        sub_heads=1,
        weight=False,
        activation="logsigmoid",
        activation_scale=1.0,
        bias_init=_MINUS_FIVE,
        weight_init=ZEROS,
        **sizes,
    )


def _projection(given: Given, **sizes: int) -> Config:
    options = {"bias": True, "normalization": "none"}
    return filled(given, bias_init=ZEROS, weight_init=SMALL, **options, **sizes)


def _transition(given: Given, dim: int, **sizes: int) -> Config:
    return filled(
        given,
        transition_dim=dim,
        sub_heads=1,
        inproj_bias_init=_IDENTITY,
        outproj_bias_init=_IDENTITY,
        inproj_weight_init=ZEROS,
        outproj_weight_init=ZEROS,
        eigenvalue_bias_init=ONES,
        eigenvalue_weight_init=ZEROS,
        eigenvalue_representation="tanh",
        eigenvalue_factor=5,
        symmetric=False,
        orthogonalization_factor=1.0,
        orthogonalization_order=16,
        weight=True,
        normalization_mode="exponential_orthogonalization",
        **sizes,
    )
