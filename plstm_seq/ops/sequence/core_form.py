"""The core form: every call of the 1D op, written with JK = JQ = 1 and sizes that a kernel takes.

README.md, section 7, derives it. Everything here is plain differentiable jax, so that tiles,
sub-steps and padding need no derivative rules of their own.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops import products
from plstm_seq.ops.sequence.inputs import Inputs


class Cut(NamedTuple):
    """The sizes of the core form: `DK_tiles` tiles of DK, `DV_tiles` of DV, and padded gates."""

    DK: int
    DK_tiles: int
    DV: int
    DV_tiles: int
    JT: int
    JV: int
    JO: int


def cut_tiles(
    core: Inputs,
    *,
    DK_max: int,
    columns_max: int,
    DK_multiple: int = 1,
    DV_multiple: int = 1,
    gate_sizes: tuple[int, ...] = (),
) -> Cut:
    """Returns the fewest tiles within a kernel's limits (`kernel.Limits`), as small as possible.

    Raises:
        NotImplementedError: a gate is larger than all allowed sizes, or JT leaves no room for DV.
    """
    sizes = {
        "JT": core.transition.shape[-1],
        "JV": core.value.shape[-1],
        "JO": core.mark.shape[-3],
    }
    if gate_sizes:
        for letter, size in sizes.items():
            if size > gate_sizes[-1]:
                raise NotImplementedError(f"{letter} is {size}, above {gate_sizes[-1]}")
        sizes = {k: next(x for x in gate_sizes if x >= size) for k, size in sizes.items()}
    DV_max = columns_max // sizes["JT"] // DV_multiple * DV_multiple
    if not DV_max:
        raise NotImplementedError(
            f"JT * DV is at most {columns_max}: too little for JT = {sizes['JT']} "
            f"and a DV that is a multiple of {DV_multiple}"
        )
    DK, DK_tiles = _tile(core.query.shape[-2], DK_max, DK_multiple)
    DV, DV_tiles = _tile(core.value.shape[-2], DV_max, DV_multiple)
    return Cut(DK, DK_tiles, DV, DV_tiles, **sizes)


def _tile(size: int, largest: int, multiple: int) -> tuple[int, int]:
    tiles = -(-size // largest)
    return math.ceil(-(-size // tiles) / multiple) * multiple, tiles


def expand_time(inputs: Inputs) -> Inputs:
    """Replaces each step by JQ + JK - 1 sub-steps with JK = JQ = 1.

    The first JQ sub-steps read, each with one query; the last of these also has the transition and
    the first key, as a step does. One sub-step for each further key follows, and reads nothing.

    Returns:
        [*B, T * (JQ + JK - 1), ...], without the direct term if this is longer than T (see
        `direct_term`). The output of a step is the sum of the outputs of its sub-steps.
    """
    query, key, value, source, transition, mark, _ = inputs
    JQ, JK = query.shape[-1], key.shape[-1]
    steps = JQ + JK - 1
    if steps == 1:
        return inputs
    axis = query.ndim - 2

    def place(array: Array, source_axis: int, before: int, after: int) -> Array:
        """Turns the axis `source_axis` into sub-steps, with zeros before and after them."""
        array = jnp.moveaxis(array, source_axis, axis)
        widths = [(0, 0)] * array.ndim
        widths[axis] = (before, after)
        return merge(jnp.pad(array, widths))

    def merge(array: Array) -> Array:
        return array.reshape(*array.shape[: axis - 1], -1, *array.shape[axis + 1 :])

    identity = jnp.broadcast_to(
        jnp.eye(transition.shape[-1], dtype=transition.dtype), transition.shape
    )
    return Inputs(
        query=place(query, -1, 0, JK - 1)[..., None],
        key=place(key, -1, JQ - 1, 0)[..., None],
        value=merge(jnp.repeat(jnp.expand_dims(value, axis), steps, axis)),
        source=place(source, -2, JQ - 1, 0)[..., None, :],
        transition=merge(
            jnp.stack([*[identity] * (JQ - 1), transition, *[identity] * (JK - 1)], axis)
        ),
        mark=place(mark, -2, 0, JK - 1)[..., None, :],
    )


def join_time(output: Array, JQ: int, JK: int) -> Array:
    """Sums outputs of sub-steps: [*B, T * (JQ + JK - 1), DV, JO] -> [*B, T, DV, JO]."""
    steps = JQ + JK - 1
    if steps == 1:
        return output
    *batch, length, dv, jo = output.shape
    return output.reshape(*batch, length // steps, steps, dv, jo)[..., :JQ, :, :].sum(-3)


def direct_term(inputs: Inputs, dtype: jnp.dtype) -> Array:
    """Returns the direct term of the output before scaling, [*B, T, DV, JO]."""
    query, key, value, *_, direct = inputs.astype(dtype)
    if direct is None:
        raise ValueError("direct is None: there is no direct term")
    return products.direct_term(query, key, value, direct)


def to_tiles(core: Inputs, state: Array, cut: Cut) -> tuple[Inputs, Array]:
    """Cuts and pads [*B, T, ...] to [*B, DK_tiles, DV_tiles, T, ...], and the state likewise.

    Gates are copied for every tile, queries and keys for every tile of DV, and values for every
    tile of DK.
    """
    axis = core.query.ndim - 3
    JT, JV, JO = cut.JT, cut.JV, cut.JO
    DK, DV = cut.DK * cut.DK_tiles, cut.DV * cut.DV_tiles

    def tile(array: Array, count: int, at: int | None) -> Array:
        """Adds an axis after *B: the tiles of the axis `at`, or copies if `at` is None."""
        if at is None:
            shape = (*array.shape[:axis], count, *array.shape[axis:])
            return jnp.broadcast_to(jnp.expand_dims(array, axis), shape)
        at += array.ndim
        size = array.shape[at] // count
        split = array.reshape(*array.shape[:at], count, size, *array.shape[at + 1 :])
        return jnp.moveaxis(split, at, axis)

    def tiles(array: Array, DK: int | None = None, DV: int | None = None) -> Array:
        return tile(tile(array, cut.DV_tiles, DV), cut.DK_tiles, DK)

    inputs = Inputs(
        query=tiles(_pad(core.query, DK, 1), DK=-2),
        key=tiles(_pad(core.key, DK, 1), DK=-2),
        value=tiles(_pad(core.value, DV, JV), DV=-2),
        source=tiles(_pad(core.source, JT, 1, JV)),
        transition=tiles(_pad(core.transition, JT, JT)),
        mark=tiles(_pad(core.mark, JO, 1, JT)),
        direct=None if core.direct is None else tiles(_pad(core.direct, JO, 1, 1, JV)),
    )
    return inputs, tiles(_pad(state, DK, DV, JT), DK=-3, DV=-2)


def _pad(array: Array, *sizes: int) -> Array:
    """Pads the last axes with zeros at the end, up to `sizes`."""
    begin = array.ndim - len(sizes)
    missing = [size - have for size, have in zip(sizes, array.shape[begin:], strict=True)]
    if not any(missing):
        return array
    return jnp.pad(array, [(0, 0)] * begin + [(0, n) for n in missing])


def from_tiles(
    output: Array, state: Array, sizes: tuple[int, int, int, int]
) -> tuple[Array, Array]:
    """Puts results together again: sums outputs over tiles of DK and cuts padding off.

    Args:
        output: [*B, DK_tiles, DV_tiles, T, DV, JO], in the type of accumulation if there are
            several tiles of DK.
        state: [*B, DK_tiles, DV_tiles, DK, DV, JT].
        sizes: DK, DV, JT, JO of the call.

    Returns:
        [*B, T, DV, JO] and [*B, DK, DV, JT].
    """
    DK, DV, JT, JO = sizes
    axis = output.ndim - 5
    output = output.sum(axis) if output.shape[axis] > 1 else output.squeeze(axis)
    output = jnp.moveaxis(output, axis, axis + 1)
    output = output.reshape(*output.shape[: axis + 1], -1, output.shape[-1])
    state = jnp.moveaxis(state, (axis, axis + 1), (axis, axis + 2))
    *batch, kt, k, vt, v, i = state.shape
    state = state.reshape(*batch, kt * k, vt * v, i)
    return output[..., :DV, :JO], state[..., :DK, :DV, :JT]


def abstract(tree: Inputs) -> Inputs:
    """Returns the shapes and types of the arrays, without their values."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
