"""NaN and infinity go only where the recurrence of a grid takes them.

The fast forms also multiply with the zeros between cells that do not depend on each other, and zero
times infinity is NaN. So they are given zeros in place of what is not finite, and afterwards the
results that depend on it are made NaN. `TERMS` tells which those are: a bad number in one factor of
a product spoils the results with the same index in the letter that both have, and all results if
they have no letter in common. Bad states spoil those of the cells that they go on to. Gradients
are products of the same factors, and are treated likewise.

Sequences have this in their own algebra; `plstm_seq.ops.not_finite` is for forms that instead
compute anew without masks.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.grid.bad_states import SIDES, BadStates, Flags, bad_states
from plstm_seq.ops.grid.inputs import GATES, Inputs, States, apart, flip, repeated

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
# A result and the factors whose product is one of its terms. What a factor is asked about shares at
# most one letter with it: states, which share two, are asked about each other in `bad_states`.
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
    """A form of the op that is handed finite numbers, and has NaN where the recurrence has it."""

    @functools.wraps(fast)
    def form(inputs: Inputs, initial: States, **options: Any) -> tuple[Array, States]:
        result: Any = _spoiled(functools.partial(fast, **options), None, inputs, initial)
        return result

    return form


def sum_finite_inside(
    fast: Callable[[Inputs], Array], inputs: Inputs, orientations: tuple[int, ...]
) -> Array:
    """The same of a sum over orientations, without a direct term; see `plstm_2d_oriented`."""
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
    # Flags first: where they are worked out between the large products, a CPU computes both slowly.
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
    """`_depending`, of all orientations together where the array is one for all."""
    bad = _depending(name, flags)
    if orientations is None:
        return bad
    axis = bad.ndim - len(LETTERS[name]) - 3
    bad = flip(bad, orientations, axis)
    return bad if name in GATES else bad.any(axis)


def _depending(name: str, flags: dict[str, Flags]) -> Array:
    """Where a result, or the gradient of a factor, depends on something bad, [*B, X, Y, *letters].

    A factor's gradient is made of the others of its terms and of the gradients of their results.
    """
    found = []
    for result, factors in TERMS:
        if factors[0] in flags and name in (result, *factors):
            others = sorted({result, *factors} - {name})
            found += [_spread(LETTERS[name], flags[other]) for other in others]
    return functools.reduce(jnp.logical_or, found)


def _spread(letters: str, flags: Flags) -> Array:
    """Where a factor makes an array of these letters bad, as bools that broadcast against it."""
    shared = [letter for letter in letters if letter in flags]
    if shared:
        (letter,) = shared
        bad, place = flags[letter], letters.index(letter)
    else:
        bad, place = next(iter(flags.values())).any(-1, keepdims=True), 0
    before, after = range(-len(letters), -len(letters) + place), range(place + 1 - len(letters), 0)
    return jnp.expand_dims(bad, (*before, *after))


def _states(flags: dict[str, Flags], edges: States) -> BadStates:
    """Where states are bad: those that enter each cell, and those that leave the grid."""
    rows = [_any_of(way, "i", flags) for way in ("right", "down")]
    turns = "transition_ru" in flags, "transition_dl" in flags
    return bad_states(rows, flags["key"]["k"], flags["value"]["v"], edges, turns)


def _costates(flags: dict[str, Flags], edges: States) -> BadStates:
    """Where gradients are bad: of states that leave each cell, and of those that enter the grid."""
    flipped = {name: _flipped(of) for name, of in flags.items()}
    rows = [_any_of(way, "j", flipped) for way in ("left", "up")]
    turns = "transition_dl" in flags, "transition_ru" in flags
    edges = jax.tree.map(lambda x: jnp.flip(x, -4), edges)
    flow = bad_states(rows, flipped["query"]["k"], flipped["output"]["v"], edges, turns)
    leaving = jax.tree.map(lambda x: jnp.flip(x, -4), flow.leaving)
    return BadStates(_flipped(flow.left), _flipped(flow.up), leaving)


def _flipped(flags: Flags) -> Flags:
    """The grid read from its other corner."""
    return {letter: jnp.flip(x, SIDES) for letter, x in flags.items()}


def _any_of(way: str, letter: str, flags: dict[str, Flags]) -> Array:
    """What is bad in one letter of the gates of all terms that have `way` as result or factor."""
    gates = (factors[0] for result, factors in TERMS if way in (result, *factors))
    found = [flags[gate][letter] for gate in gates if letter in flags.get(gate, ())]
    return functools.reduce(jnp.logical_or, found)


def _renamed(flags: Flags, letter: str) -> Flags:
    return {"k": flags["k"], "v": flags["v"], letter: flags["t"]}


def _by_letter(bad: Inputs) -> dict[str, Flags]:
    """By name and letter, of all arguments that there are."""
    return {name: _letters_of(name, x) for name, x in bad._asdict().items() if x is not None}


def _letters_of(name: str, bad: Array) -> Flags:
    letters = LETTERS[name]
    axes = range(-len(letters), 0)
    return {
        letter: bad.any(tuple(other for other in axes if other != axis))
        for letter, axis in zip(letters, axes, strict=True)
    }


def _bad(array: Array) -> Array:
    # Cotangents may be constants, whose flags XLA would spend seconds on while it compiles.
    return ~jnp.isfinite(jax.lax.optimization_barrier(array))


def _finite(tree: Any) -> Any:
    """Zeros for what is not finite."""
    return jax.tree.map(_zero_where_bad, tree)


@jax.custom_jvp
def _zero_where_bad(array: Array) -> Array:
    return jnp.where(jnp.isfinite(array), array, 0)


@_zero_where_bad.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # A result depends on a bad number, too: second derivatives must not be zero there.
    return _zero_where_bad(*primals), tangents[0]


def _nan(tree: Any, bad: Any) -> Any:
    """NaN where flags are set; None where there is no array, flags or not.

    By a product, so that second derivatives are NaN as well, and not zero.
    """

    def spoil(array: Array | None, flags: Array | None) -> Array | None:
        if array is None or flags is None:
            return None
        return array * jnp.where(flags, jnp.nan, 1).astype(array.dtype)

    return jax.tree.map(spoil, tree, bad, is_leaf=lambda x: x is None)
