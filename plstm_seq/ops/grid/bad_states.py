"""Flags of bad states in a grid, for `not_finite.py`.

A flag is set for each number that is not finite, and for everything that is computed from it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.grid.inputs import States

# The axes X and Y of cells [*B, X, Y, letter], along which states move to the right and down.
SIDES = (-3, -2)
# For each letter, whether a cell's array has a bad number at each index: bools [*B, X, Y, letter].
Flags = dict[str, Array]
_WORD = 32


class BadStates(NamedTuple):
    """Flags of bad states in a grid.

    left, up: flags by letter for the states that enter each cell; the letter of JT is t;
    leaving: flags of states that leave the grid, [*B, Y, DK, DV, JT] and [*B, X, DK, DV, JT].
    """

    left: Flags
    up: Flags
    leaving: States


def bad_states(
    rows: Sequence[Array],
    keys: Array,
    values: Array,
    edges: States,
    turns: tuple[bool, bool],
) -> BadStates:
    """Returns the flags of states that go right and down, or, on a flipped grid, of gradients.

    A bad gate spoils all entries of a state, a bad key the entries of its k, a bad value those of
    its v. For gradients, queries take the place of keys, and gradients of outputs that of values.

    Args:
        rows: flags of the gates that write the state to the right and the state down,
            [*B, X, Y, JT].
        keys: flags of the keys, [*B, X, Y, DK].
        values: flags of the values, [*B, X, Y, DV].
        edges: flags of the states that enter the grid, as in `States`; None: none is bad.
        turns: whether a state from above also goes to the right, and one from the left also down.
    """
    gates = [x.any(-1, keepdims=True) for x in rows]
    entering = [
        _no_state(_side(row, 0, axis), keys, values) if edge is None else edge
        for edge, row, axis in zip(edges, rows, SIDES, strict=True)
    ]
    any_key, any_value = keys.any(-1, keepdims=True), values.any(-1, keepdims=True)
    by_k = _arriving(
        [x | keys | any_value for x in gates], [x.any((-2, -1)) for x in entering], turns
    )
    by_v = _arriving(
        [x | values | any_key for x in gates], [x.any((-3, -1)) for x in entering], turns
    )
    passing = _passing([x.any(-1, keepdims=True) for x in by_k], turns)
    by_t = [
        _behind(row | x | any_key | any_value, edge.any((-3, -2)), axis)
        for row, x, edge, axis in zip(rows, passing, entering, SIDES, strict=True)
    ]
    left, up = ({"k": k, "v": v, "t": t} for k, v, t in zip(by_k, by_v, by_t, strict=True))

    # Leaving states have a flag per entry, so that gates, keys, values and edges stay separate.
    made = [jnp.concatenate([x, keys, values], axis=-1) for x in gates]
    nothing = [_side(x, 0, axis) & False for x, axis in zip(made, SIDES, strict=True)]
    passing = _passing(_arriving(made, nothing, turns), turns)
    leaving = States(
        *(
            _entries(*(_side(x, -1, axis) for x in (row, came, keys, values))) | edge
            for row, came, edge, axis in zip(
                rows, passing, _through(entering, turns), SIDES, strict=True
            )
        )
    )
    return BadStates(left, up, leaving)


def _entries(row: Array, came: Array, keys: Array, values: Array) -> Array:
    """Combines flags of JT, of gates, keys and values that came, of DK and of DV.

    Returns:
        [*B, side, DK, DV, JT].
    """
    gates, k, v = jnp.split(came, [1, 1 + keys.shape[-1]], axis=-1)
    k, v = (k | keys)[..., :, None, None], (v | values)[..., None, :, None]
    return (row | gates)[..., None, None, :] | k | v


def _side(cells: Array, index: int, axis: int) -> Array:
    """Returns the cells of one side of the grid."""
    return jax.lax.index_in_dim(cells, index, axis, keepdims=False)


def _no_state(row: Array, keys: Array, values: Array) -> Array:
    """Returns [*B, side, DK, DV, JT] with no flag set."""
    shape = (*row.shape[:-1], keys.shape[-1], values.shape[-1], row.shape[-1])
    return jnp.zeros(shape, bool) | (row & False)[..., None, None, :]


def _through(entering: Sequence[Array], turns: tuple[bool, bool]) -> list[Array]:
    """Returns flags of leaving states that are bad because an entering state was bad.

    Entries keep their DK and DV on all ways: [*B, side, DK, DV, 1].
    """
    left, top = (x.any(-1, keepdims=True) for x in entering)
    right, bottom = (_so_far(x, -4) if all(turns) else x for x in (left, top))
    if turns[0]:
        right = right | top.any(-4, keepdims=True)
    if turns[1]:
        bottom = bottom | left.any(-4, keepdims=True)
    return [right, bottom]


def _arriving(
    made: Sequence[Array], edges: Sequence[Array], turns: tuple[bool, bool]
) -> tuple[Array, Array]:
    """Returns the flags that arrive at each cell from the left and from above.

    Args:
        made: the flags that each cell adds on the way to the right and on the way down,
            [*B, X, Y, F].
        edges: the flags that enter the grid, [*B, Y, F] and [*B, X, F].
        turns: whether flags from above also go to the right, and flags from the left also down.
    """
    size = made[0].shape[-1]
    right, down, left, top = (_packed(x) for x in (*made, *edges))
    turns_right, turns_down = turns
    if turns_right and turns_down:
        met = _behind(right, left, -3) | _behind(down, top, -2)
        met = _so_far(_so_far(met, -3), -2)
        from_left, from_above = _behind(right | met, left, -3), _behind(down | met, top, -2)
    elif turns_down:
        from_left = _so_far(_behind(right, left, -3), -3)
        from_above = _so_far(_behind(down | from_left, top, -2), -2)
    else:
        from_above = _so_far(_behind(down, top, -2), -2)
        right = right | from_above if turns_right else right
        from_left = _so_far(_behind(right, left, -3), -3)
    return _unpacked(from_left, size), _unpacked(from_above, size)


def _passing(arriving: Sequence[Array], turns: tuple[bool, bool]) -> tuple[Array, Array]:
    """Returns which of the arriving flags go on to the right and down."""
    left, up = arriving
    return left | up if turns[0] else left, left | up if turns[1] else up


def _behind(cells: Array, edge: Array, axis: int) -> Array:
    """Shifts the cells' flags by one cell along the axis; the first cell gets the edge's flags."""
    first = jnp.expand_dims(edge, axis)
    return jnp.concatenate([first, jax.lax.slice_in_dim(cells, 0, -1, axis=axis)], axis=axis)


def _so_far(flags: Array, axis: int) -> Array:
    """Returns whether any flag up to each position is set."""

    def step(found: Array, now: Array) -> tuple[Array, Array]:
        found |= now
        return found, found

    flags = jnp.moveaxis(flags, axis, 0)
    _, found = jax.lax.scan(step, flags[0] ^ flags[0], flags)
    return jnp.moveaxis(found, 0, axis)


def _packed(flags: Array) -> Array:
    """Packs the last axis into the bits of words, so that fewer numbers go through the grid."""
    words = -(-flags.shape[-1] // _WORD)
    unused = words * _WORD - flags.shape[-1]
    flags = jnp.pad(flags, [(0, 0)] * (flags.ndim - 1) + [(0, unused)])
    flags = flags.reshape(*flags.shape[:-1], words, _WORD).astype(jnp.uint32)
    return (flags << jnp.arange(_WORD, dtype=jnp.uint32)).sum(-1, dtype=jnp.uint32)


def _unpacked(words: Array, size: int) -> Array:
    flags = words[..., None] >> jnp.arange(_WORD, dtype=jnp.uint32) & 1
    return flags.reshape(*words.shape[:-1], words.shape[-1] * _WORD)[..., :size] > 0
