"""Keeps NaN and infinity in grids from spreading further than the recurrence takes them.

The fast forms also multiply by the zeros between cells that do not depend on each other, and zero
times infinity is NaN. They are therefore given zeros in place of numbers that are not finite, and
afterwards the results that depend on such numbers are set to NaN. `TERMS` determines these results:
a bad number in one factor of a product spoils the results that have the same index in a letter
which both share, and all results if they share no letter. Bad states spoil the states of the cells
that they reach. Gradients are products of the same factors, and are treated in the same way.

The sequence op handles this in its own algebra. `plstm_seq.ops.not_finite` is for forms that
compute the result again without masks.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.grid.bad_states import SIDES, BadStates, Flags, bad_states
from plstm_seq.ops.grid.inputs import GATES, Inputs, States, apart, flip, repeated

# k: DK, v: DV, o: JO, q: JQ, a: JK, w: JV; i and j: JT of a state that leaves (i) or enters (j).
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
# Each entry is a result and the factors whose product is one of its terms. A result and a factor
# share at most one letter, except for states, which share two; `bad_states` handles these.
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

_Form = Callable[..., tuple[Array, States]]


def finite_inside(fast: _Form) -> _Form:
    """Returns a form that gives `fast` finite numbers and has NaN where the recurrence has it."""

    @functools.wraps(fast)
    def form(inputs: Inputs, initial: States, **options: Any) -> tuple[Array, States]:
        result: Any = _spoiled(functools.partial(fast, **options), None, inputs, initial)
        return result

    return form


def sum_finite_inside(
    fast: Callable[[Inputs], Array], inputs: Inputs, orientations: tuple[int, ...]
) -> Array:
    """Does the same for a sum over orientations without a direct term; see `plstm_2d_oriented`."""
    none = States(None, None)
    result: Any = _spoiled(lambda x, _: (fast(x), none), orientations, inputs, none)
    return result[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _spoiled(
    fast: _Form, orientations: tuple[int, ...] | None, inputs: Inputs, initial: States
) -> tuple[Array, States]:
    return _forward(fast, orientations, inputs, initial)[0]


def _forward(
    fast: _Form, orientations: tuple[int, ...] | None, inputs: Inputs, initial: States
) -> tuple[tuple[Array, States], Any]:
    bad_inputs, bad_initial = jax.tree.map(_bad, (inputs, initial))
    flags = _by_letter(bad_inputs if orientations is None else apart(bad_inputs, orientations))
    flow = _states(flags, bad_initial)
    flags |= {"left": _renamed(flow.left, "j"), "up": _renamed(flow.up, "j")}
    bad = _summed("output", flags, orientations), flow.leaving
    # Flags come first: between the large products a CPU would compute both of them slowly.
    inputs, initial, bad = jax.lax.optimization_barrier((inputs, initial, bad))
    result, backward = jax.vjp(fast, *_finite((inputs, initial)))
    return _nan(result, bad), (backward, flags)


def _backward(
    fast: _Form,
    orientations: tuple[int, ...] | None,
    kept: Any,
    cotangents: tuple[Array, States],
) -> tuple[Inputs, States]:
    del fast
    backward, flags = kept
    bad_output, bad_last = jax.tree.map(_bad, cotangents)
    if orientations is not None:
        axis = bad_output.ndim - 4
        bad_output = repeated(bad_output, len(orientations), axis)
        bad_output = flip(bad_output, orientations, axis)
    flags = {**flags, "output": _letters_of("output", bad_output)}
    flow = _costates(flags, bad_last)
    flags |= {"right": _renamed(flow.left, "i"), "down": _renamed(flow.up, "i")}
    found: Any = (
        _summed(name, flags, orientations) if name in flags else None for name in Inputs._fields
    )
    bad = Inputs(*found), flow.leaving
    cotangents, bad = jax.lax.optimization_barrier((cotangents, bad))
    return _nan(backward(_finite(cotangents)), bad)


_spoiled.defvjp(_forward, _backward)


def _summed(name: str, flags: dict[str, Flags], orientations: tuple[int, ...] | None) -> Array:
    """Returns `_depending`; joins the orientations if the array is the same for all of them."""
    bad = _depending(name, flags)
    if orientations is None:
        return bad
    axis = bad.ndim - len(LETTERS[name]) - 3
    bad = flip(bad, orientations, axis)
    return bad if name in GATES else bad.any(axis)


def _depending(name: str, flags: dict[str, Flags]) -> Array:
    """Returns where a result or a factor's gradient depends on bad numbers, [*B, X, Y, *letters].

    A factor's gradient depends on the other factors of its terms, and on the gradients of the
    results of these terms.
    """
    found = []
    for result, factors in TERMS:
        if factors[0] in flags and name in (result, *factors):
            others = sorted({result, *factors} - {name})
            found += [_spread(LETTERS[name], flags[other]) for other in others]
    return functools.reduce(jnp.logical_or, found)


def _spread(letters: str, flags: Flags) -> Array:
    """Returns where a factor makes an array of these letters bad, as bools that broadcast to it."""
    shared = [letter for letter in letters if letter in flags]
    if shared:
        (letter,) = shared
        bad, place = flags[letter], letters.index(letter)
    else:
        bad, place = next(iter(flags.values())).any(-1, keepdims=True), 0
    before, after = range(-len(letters), -len(letters) + place), range(place + 1 - len(letters), 0)
    return jnp.expand_dims(bad, (*before, *after))


def _states(flags: dict[str, Flags], edges: States) -> BadStates:
    """Returns the flags of states that enter each cell, and of states that leave the grid."""
    rows = [_any_of(way, "i", flags) for way in ("right", "down")]
    turns = "transition_ru" in flags, "transition_dl" in flags
    return bad_states(rows, flags["key"]["k"], flags["value"]["v"], edges, turns)


def _costates(flags: dict[str, Flags], edges: States) -> BadStates:
    """Returns flags of the gradients of states that leave each cell, and that enter the grid."""
    flipped = {name: _flipped(of) for name, of in flags.items()}
    rows = [_any_of(way, "j", flipped) for way in ("left", "up")]
    turns = "transition_dl" in flags, "transition_ru" in flags
    edges = jax.tree.map(lambda x: jnp.flip(x, -4), edges)
    flow = bad_states(rows, flipped["query"]["k"], flipped["output"]["v"], edges, turns)
    leaving = jax.tree.map(lambda x: jnp.flip(x, -4), flow.leaving)
    return BadStates(_flipped(flow.left), _flipped(flow.up), leaving)


def _flipped(flags: Flags) -> Flags:
    """Flips the grid along both axes."""
    return {letter: jnp.flip(x, SIDES) for letter, x in flags.items()}


def _any_of(way: str, letter: str, flags: dict[str, Flags]) -> Array:
    """Returns the flags, in one letter, of all gates in terms with `way` as result or factor."""
    gates = (factors[0] for result, factors in TERMS if way in (result, *factors))
    found = [flags[gate][letter] for gate in gates if letter in flags.get(gate, ())]
    return functools.reduce(jnp.logical_or, found)


def _renamed(flags: Flags, letter: str) -> Flags:
    return {"k": flags["k"], "v": flags["v"], letter: flags["t"]}


def _by_letter(bad: Inputs) -> dict[str, Flags]:
    """Returns flags by name and letter, for all arguments that are not None."""
    return {name: _letters_of(name, x) for name, x in bad._asdict().items() if x is not None}


def _letters_of(name: str, bad: Array) -> Flags:
    letters = LETTERS[name]
    axes = range(-len(letters), 0)
    return {
        letter: bad.any(tuple(other for other in axes if other != axis))
        for letter, axis in zip(letters, axes, strict=True)
    }


def _bad(array: Array) -> Array:
    # Cotangents may be constants; without the barrier XLA would spend seconds on folding the flags.
    return ~jnp.isfinite(jax.lax.optimization_barrier(array))


def _finite(tree: Any) -> Any:
    """Replaces numbers that are not finite by zeros."""
    return jax.tree.map(_zero_where_bad, tree)


@jax.custom_jvp
def _zero_where_bad(array: Array) -> Array:
    return jnp.where(jnp.isfinite(array), array, 0)


@_zero_where_bad.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # Results also depend on bad numbers, so second derivatives must not be zero there.
    return _zero_where_bad(*primals), tangents[0]


def _nan(tree: Any, bad: Any) -> Any:
    """Puts NaN where flags are set; arrays that are None stay None.

    It multiplies by NaN, so that second derivatives are NaN as well, and not zero.
    """

    def spoil(array: Array | None, flags: Array | None) -> Array | None:
        if array is None or flags is None:
            return None
        return array * jnp.where(flags, jnp.nan, 1).astype(array.dtype)

    return jax.tree.map(spoil, tree, bad, is_leaf=lambda x: x is None)
