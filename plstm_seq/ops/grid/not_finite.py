"""NaN and infinity go only where the recurrence takes them.

The fast forms multiply with the zeros between cells that do not depend on each other, too, and zero
times infinity is NaN. So they are given zeros for what is not finite, and what depends on it is
made NaN afterwards. Which that is, is read off the terms of the recurrence: a bad number in a
factor spoils the results that agree with it in the letter they share, and all if they share none;
states carry it on from cell to cell. The same holds of gradients.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.grid.inputs import Inputs, States

# k: DK, v: DV, o: JO, q: JQ, a: JK, w: JV; i and j: JT of a state that leaves or enters a cell.
LETTERS = {
    "query": "kq",
    "key": "ka",
    "value": "vw",
    "source_right": "iaw",
    "source_down": "iaw",
    "transition_rl": "ij",
    "transition_du": "ij",
    "transition_dl": "ij",
    "transition_ru": "ij",
    "mark_left": "oqj",
    "mark_up": "oqj",
    "direct": "oqaw",
    "output": "vo",
}
# A result and the factors whose product is one of its terms; no two share more than one letter.
TERMS = (
    ("output", ("mark_left", "query", "left")),
    ("output", ("mark_up", "query", "up")),
    ("output", ("direct", "query", "key", "value")),
    ("right", ("transition_rl", "left")),
    ("right", ("transition_ru", "up")),
    ("right", ("source_right", "key", "value")),
    ("down", ("transition_du", "up")),
    ("down", ("transition_dl", "left")),
    ("down", ("source_down", "key", "value")),
)

# The axes of X and Y in cells [*B, X, Y, letter]: along which states go right and down.
_SIDES = (-3, -2)
# By letter, whether anything of a cell's array is bad there: bools [*B, X, Y, letter].
_Flags = dict[str, Array]
_Form = Callable[..., tuple[Array, States]]


def finite_inside(fast: _Form) -> _Form:
    """A form of the op that sees finite numbers alone, with NaN where the recurrence has it."""

    @functools.wraps(fast)
    def form(
        inputs: Inputs, initial: States, scale: float | Array, **options: Any
    ) -> tuple[Array, States]:
        unscaled = functools.partial(fast, scale=1.0, **options)
        result: Any = _spoiled(unscaled, inputs, initial)
        return scale * result[0], result[1]

    return form


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _spoiled(fast: _Form, inputs: Inputs, initial: States) -> tuple[Array, States]:
    return _forward(fast, inputs, initial)[0]


def _forward(fast: _Form, inputs: Inputs, initial: States) -> tuple[tuple[Array, States], Any]:
    arrays = {name: x for name, x in inputs._asdict().items() if x is not None}
    flags = {name: _by_letter(name, array) for name, array in arrays.items()}
    flow = _states(flags, jax.tree.map(_bad, initial))
    flags |= {"left": _renamed(flow.left, "j"), "up": _renamed(flow.up, "j")}
    bad = _depending("output", flags), flow.leaving
    # Flags first: where they are worked out between the large products, a CPU computes both slowly.
    inputs, initial, bad = jax.lax.optimization_barrier((inputs, initial, bad))
    result, backward = jax.vjp(fast, *_finite((inputs, initial)))
    return _nan(result, bad), (backward, flags)


def _backward(fast: _Form, kept: Any, cotangents: tuple[Array, States]) -> tuple[Inputs, States]:
    del fast
    backward, flags = kept
    output, last = cotangents
    flags = {**flags, "output": _by_letter("output", output)}
    flow = _costates(flags, jax.tree.map(_bad, last))
    flags |= {"right": _renamed(flow.left, "i"), "down": _renamed(flow.up, "i")}
    found: Any = (_depending(name, flags) if name in flags else None for name in Inputs._fields)
    bad = Inputs(*found), flow.leaving
    cotangents, bad = jax.lax.optimization_barrier((cotangents, bad))
    return _nan(backward(_finite(cotangents)), bad)


_spoiled.defvjp(_forward, _backward)


def _depending(name: str, flags: dict[str, _Flags]) -> Array:
    """Where a result, or the gradient of a factor, depends on something bad, [*B, X, Y, *letters].

    A factor's gradient is made of the others of its terms and of the gradients of their results.
    """
    found = []
    for result, factors in TERMS:
        if factors[0] in flags and name in (result, *factors):
            others = sorted({result, *factors} - {name})
            found += [_spread(LETTERS[name], flags[other]) for other in others]
    return functools.reduce(jnp.logical_or, found)


def _spread(letters: str, flags: _Flags) -> Array:
    """What a factor spoils of an array with such letters."""
    shared = [letter for letter in letters if letter in flags]
    if shared:
        (letter,) = shared
        bad, place = flags[letter], letters.index(letter)
    else:
        bad, place = next(iter(flags.values())).any(-1, keepdims=True), 0
    before, after = range(-len(letters), -len(letters) + place), range(place + 1 - len(letters), 0)
    return jnp.expand_dims(bad, (*before, *after))


class _Flow(NamedTuple):
    """Where states that go through a grid are bad.

    left, up: by letter, in those that enter each cell; t is that of JT;
    leaving: in those that leave the grid, [*B, Y, DK, DV, JT] and [*B, X, DK, DV, JT].
    """

    left: _Flags
    up: _Flags
    leaving: States


def _flow(
    rows: Sequence[Array],
    keys: Array,
    values: Array,
    edges: States,
    turns: tuple[bool, bool],
) -> _Flow:
    """Where the states are bad that go to the right and down.

    A bad gate spoils all entries of a state, a bad key those of its k, a bad value those of its v.

    Args:
        rows: what is bad in the gates that make the one and the other, [*B, X, Y, JT].
        keys: [*B, X, Y, DK].
        values: [*B, X, Y, DV].
        edges: what is bad in the states that enter the grid, as in `States`; None: nothing.
        turns: whether a state from above goes on to the right, too, and one from the left down.
    """
    gates = [x.any(-1, keepdims=True) for x in rows]
    entering = [
        _no_state(_side(row, 0, axis), keys, values) if edge is None else edge
        for edge, row, axis in zip(edges, rows, _SIDES, strict=True)
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
        for row, x, edge, axis in zip(rows, passing, entering, _SIDES, strict=True)
    ]
    left, up = ({"k": k, "v": v, "t": t} for k, v, t in zip(by_k, by_v, by_t, strict=True))

    # What leaves is told entry by entry, so that gates, keys, values and edges go apart.
    made = [jnp.concatenate([x, keys, values], axis=-1) for x in gates]
    nothing = [_side(x, 0, axis) & False for x, axis in zip(made, _SIDES, strict=True)]
    passing = _passing(_arriving(made, nothing, turns), turns)
    leaving = States(
        *(
            _entries(*(_side(x, -1, axis) for x in (row, came, keys, values))) | edge
            for row, came, edge, axis in zip(
                rows, passing, _through(entering, turns), _SIDES, strict=True
            )
        )
    )
    return _Flow(left, up, leaving)


def _entries(row: Array, came: Array, keys: Array, values: Array) -> Array:
    """Flags of JT; of gates, keys and values that came; of DK; of DV -> [*B, side, DK, DV, JT]."""
    gates, k, v = jnp.split(came, [1, 1 + keys.shape[-1]], axis=-1)
    k, v = (k | keys)[..., :, None, None], (v | values)[..., None, :, None]
    return (row | gates)[..., None, None, :] | k | v


def _side(cells: Array, index: int, axis: int) -> Array:
    """The cells of one side of the grid."""
    return jax.lax.index_in_dim(cells, index, axis, keepdims=False)


def _no_state(row: Array, keys: Array, values: Array) -> Array:
    """[*B, side, JT] -> no flag set, [*B, side, DK, DV, JT]."""
    shape = (*row.shape[:-1], keys.shape[-1], values.shape[-1], row.shape[-1])
    return jnp.zeros(shape, bool) | (row & False)[..., None, None, :]


def _through(entering: Sequence[Array], turns: tuple[bool, bool]) -> list[Array]:
    """Entries that leave the grid bad because they entered it so, [*B, side, DK, DV, 1]."""
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
    """What comes to each cell from the left and from above, of what is made on the way.

    Args:
        made: by each cell for the way to the right and for that down, [*B, X, Y, F].
        edges: what enters the grid, [*B, Y, F] and [*B, X, F].
        turns: whether what comes from above also goes right, and what comes from the left down.
    """
    (right, down), (left, top), (turns_right, turns_down) = made, edges, turns
    if turns_right and turns_down:
        met = _behind(right, left, -3) | _behind(down, top, -2)
        met = _so_far(_so_far(met, -3), -2)
        return _behind(right | met, left, -3), _behind(down | met, top, -2)
    if turns_down:
        from_left = _so_far(_behind(right, left, -3), -3)
        return from_left, _so_far(_behind(down | from_left, top, -2), -2)
    from_above = _so_far(_behind(down, top, -2), -2)
    right = right | from_above if turns_right else right
    return _so_far(_behind(right, left, -3), -3), from_above


def _passing(arriving: Sequence[Array], turns: tuple[bool, bool]) -> tuple[Array, Array]:
    """What goes on to the right and down of what comes from the left and from above."""
    left, up = arriving
    return left | up if turns[0] else left, left | up if turns[1] else up


def _behind(cells: Array, edge: Array, axis: int) -> Array:
    """What cells have, one cell further; at the first of them what the edge has."""
    first = jnp.expand_dims(edge, axis)
    return jnp.concatenate([first, jax.lax.slice_in_dim(cells, 0, -1, axis=axis)], axis=axis)


def _so_far(flags: Array, axis: int) -> Array:
    """Whether any flag up to here is set: a product, where a chain of shifts is slow on a CPU."""
    before = jnp.tri(flags.shape[axis], dtype=jnp.float32)
    counts = jnp.matmul(before, jnp.moveaxis(flags, axis, -2).astype(jnp.float32))
    return jnp.moveaxis(counts > 0, -2, axis)


def _states(flags: dict[str, _Flags], edges: States) -> _Flow:
    """Of the states that enter cells, and leave the grid."""
    rows = [_any_of(way, "i", flags) for way in ("right", "down")]
    turns = "transition_ru" in flags, "transition_dl" in flags
    return _flow(rows, flags["key"]["k"], flags["value"]["v"], edges, turns)


def _costates(flags: dict[str, _Flags], edges: States) -> _Flow:
    """Of the gradients of the states that leave cells, and of those that enter the grid."""
    flipped = {
        name: {letter: jnp.flip(x, (-3, -2)) for letter, x in of.items()}
        for name, of in flags.items()
    }
    rows = [_any_of(way, "j", flipped) for way in ("left", "up")]
    turns = "transition_dl" in flags, "transition_ru" in flags
    edges = jax.tree.map(lambda x: jnp.flip(x, -4), edges)
    flow = _flow(rows, flipped["query"]["k"], flipped["output"]["v"], edges, turns)
    left, up = (
        {letter: jnp.flip(x, (-3, -2)) for letter, x in of.items()} for of in (flow.left, flow.up)
    )
    return _Flow(left, up, jax.tree.map(lambda x: jnp.flip(x, -4), flow.leaving))


def _any_of(way: str, letter: str, flags: dict[str, _Flags]) -> Array:
    """By letter, what is bad in the gates whose terms have to do with such a state."""
    gates = (factors[0] for result, factors in TERMS if way in (result, *factors))
    found = [flags[gate][letter] for gate in gates if letter in flags.get(gate, ())]
    return functools.reduce(jnp.logical_or, found)


def _renamed(flags: _Flags, letter: str) -> _Flags:
    return {"k": flags["k"], "v": flags["v"], letter: flags["t"]}


def _by_letter(name: str, array: Array) -> _Flags:
    bad, letters = _bad(array), LETTERS[name]
    axes = range(-len(letters), 0)
    return {
        letter: bad.any(tuple(other for other in axes if other != axis))
        for letter, axis in zip(letters, axes, strict=True)
    }


def _bad(array: Array) -> Array:
    # Cotangents may be constants, from which XLA would work out the flags for seconds.
    return ~jnp.isfinite(jax.lax.optimization_barrier(array))


def _finite(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.where(jnp.isfinite(x), x, 0), tree)


def _nan(tree: Any, bad: Any) -> Any:
    """NaN where flags are set; None where there is no array, flags or not."""

    def spoil(array: Array | None, flags: Array | None) -> Array | None:
        return None if array is None or flags is None else jnp.where(flags, jnp.nan, array)

    return jax.tree.map(spoil, tree, bad, is_leaf=lambda x: x is None)
