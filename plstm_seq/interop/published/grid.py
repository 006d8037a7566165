"""Reads the published configurations of 2D layers."""

import dataclasses
from typing import Any, NamedTuple

from plstm_seq.interop.published.fields import Fields
from plstm_seq.interop.published.parts import (
    ignore_types,
    read_gate,
    read_grid_convolution,
    read_head_norm,
    read_initializer,
    read_outprojection,
    read_passthrough,
    read_projection,
)
from plstm_seq.interop.published.transition import read_transition
from plstm_seq.layers import GateConfig
from plstm_seq.layers.grid import Mode, PLSTM2DConfig, PLSTM2DLayer
from plstm_seq.layers.grid.plstm_2d import GridBranch

FUSED, UNFUSED = "pLSTM2DLayerFused", "pLSTM2DLayer"
_BRANCHES: dict[str, GridBranch] = {
    "S": "source",
    "T": "transition",
    "M": "mark",
    "D": "direct",
    "Q": "query",
    "K": "key",
    "V": "value",
    "O": "orientation",
}


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
        options = {"mode": self.mode, "output_dim": self.output_dim}
        return PLSTM2DLayer(self.input_dim, self.config, **options, **types)


def read_grid_layer(fields: Fields, class_name: str) -> GridLayerArguments:
    """Read the configuration of a 2D layer, its `class_name` already taken.

    Both published layers become ours with the options of the same effect: the one that fuses the
    orientations norms their sum and reads gates "head" first; the other norms each, and never
    flips Y for orientations below 4.
    """
    fused = class_name == FUSED
    ignore_types(fields)
    for name in ("_shortname", "levels", "sub_heads"):  # projections tell their own sub-heads
        fields.take(name, None)
    names = ("num_heads", "JK", "JQ", "JV", "JT", "JO", "DK", "DV", "input_dim")
    sizes: dict[str, int] = {name: fields.take(name) for name in names}
    published = (0, 1, 2, 3) if fused else fields.take("orientation_combinations")
    orientations = published if fused else [(o & 1) + 2 * (o >> 2 & 1) for o in published]
    gates = sizes | {"num_heads": len(orientations) * sizes["num_heads"]}
    input_dim, output_dim = sizes["input_dim"], fields.take("output_dim")
    query = fields.required("query")
    sub_heads = query.take("sub_heads")
    key, value = fields.below("key"), fields.required("value")
    query = read_projection(query, **_pick(sizes, "num_heads DK JQ input_dim"))
    projection = _pick(sizes, "num_heads DK JK input_dim") | {"sub_heads": sub_heads}
    config = PLSTM2DConfig(
        **_pick(sizes, "num_heads JK JQ JV JO DK DV"),
        orientations=tuple(orientations),
        source=_gate(fields, "source", **_pick(gates, "num_heads JK JV JT input_dim")),
        transition=read_transition(
            fields.required("transition"),
            num_heads=gates["num_heads"],
            transition_dim=sizes["JT"],
            input_dim=input_dim,
        ),
        mark=_gate(fields, "mark", **_pick(gates, "num_heads JQ JO JT input_dim")),
        direct=_gate(fields, "direct", **_pick(sizes, "num_heads JQ JK JO JV input_dim")),
        orientation_scale=fields.take("pmode_orientation_scale"),
        orientation_bias_init=read_initializer(fields, "pmode_orientation_bias_init"),
        orientation_weight_init=read_initializer(fields, "pmode_orientation_weight_init"),
        p_form="published",
        chirality=fields.take("dmode_chirality"),
        gate_order="head" if fused else "orientation",
        query=query,
        key=query if key is None else read_projection(key, **projection),
        value=read_projection(
            value, **_pick(sizes, "num_heads DV JV input_dim"), sub_heads=sub_heads
        ),
        sub_heads=sub_heads,
        tie_query_key=fields.take("tie_query_key"),
        **_read_convolution(fields, input_dim),
        norm=read_head_norm(fields, sizes["num_heads"], output_dim),
        norm_of="sum" if fused else "orientation",
        passthrough=read_passthrough(fields, input_dim),
        **read_outprojection(fields),
    )
    return GridLayerArguments(input_dim, config, fields.take("mode"), output_dim)


def _pick(sizes: dict[str, int], names: str) -> dict[str, int]:
    return {name: sizes[name] for name in names.split()}


def _gate(fields: Fields, name: str, **sizes: int) -> GateConfig:
    """Read a gate; where it does not depend on the input, its sub-heads say nothing."""
    gate = read_gate(fields.required(name), **sizes)
    return gate if gate.weight else dataclasses.replace(gate, sub_heads=1)


def _read_convolution(fields: Fields, input_dim: int) -> dict[str, Any]:
    convolution = fields.below("convolution")
    letters = fields.take("convolution_inputs")
    # s, t and P are letters without an effect.
    unknown = set(letters) - set(_BRANCHES) - set("stP")
    if unknown:
        raise ValueError(f"convolution_inputs: got {letters!r}, unknown {sorted(unknown)}")
    if not fields.take("additional_convolution"):
        convolution = None
    return {
        "convolution": None
        if convolution is None
        else read_grid_convolution(convolution, input_dim),
        "convolution_inputs": tuple(
            branch for letter, branch in _BRANCHES.items() if letter in letters
        ),
    }
