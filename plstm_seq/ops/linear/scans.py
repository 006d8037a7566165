"""Recurrences `h_t = A_t h_{t-1} + b_t` whose products of `A` stay cheap, by associative scans.

See README.md, section 2. The functions return all states; a sequence can continue from the last.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Inexact

from plstm_seq.ops.reverse_mode import without_forward_mode

Map = TypeVar("Map")


def diagonal_recurrence(
    decay: Inexact[Array, "*B T N"],
    drive: Inexact[Array, "*B T N"],
    initial_state: Inexact[Array, "*B N"],
) -> Inexact[Array, "*B T N"]:
    """Return all states of `h_t = decay_t * h_{t-1} + drive_t`, entry by entry.

    Args:
        decay: [*B, T, N], real or complex.
        drive: [*B, T, N], of the type of `decay`.
        initial_state: `h` before the first step, [*B, N].

    Returns:
        [*B, T, N].

    Example:
        >>> import jax.numpy as jnp
        >>> from plstm_seq.ops.linear import diagonal_recurrence
        >>> decay, drive = jnp.full((3, 1), 0.5), jnp.ones((3, 1))
        >>> diagonal_recurrence(decay, drive, jnp.zeros(1)).tolist()
        [[1.0], [1.5], [1.75]]
    """
    return _states(_scale, _scale, decay, drive, initial_state)


def column_one_hot_recurrence(
    logits: Float[Array, "*B T N N"],
    factor: Inexact[Array, "*B T N"],
    drive: Inexact[Array, "*B T N"],
    initial_state: Inexact[Array, "*B N"],
) -> Inexact[Array, "*B T N"]:
    """Return all states of `h_t = P_t (factor_t * h_{t-1}) + drive_t`, P one-hot in each column.

    `P[i, j]` is 1 if `logits[i, j]` is the largest number of column j, else 0: entry j of the state
    moves to this place i. The backward pass differentiates P as if it were the softmax over each
    column (straight-through). The product of two such maps is another one, so that a step of the
    scan costs O(N). Source: Terzic et al., arXiv 2509.22284.

    Args:
        logits: [*B, T, N, N]; [..., i, j] scores the move from entry j to entry i.
        factor: [*B, T, N], real or complex.
        drive: [*B, T, N], of the type of `factor`.
        initial_state: `h` before the first step, [*B, N].

    Returns:
        [*B, T, N].

    Example:
        >>> import jax.numpy as jnp
        >>> from plstm_seq.ops.linear import column_one_hot_recurrence
        >>> swap = jnp.array([[0.0, 1.0], [1.0, 0.0]])
        >>> factor, drive, start = jnp.ones((3, 2)), jnp.zeros((3, 2)), jnp.array([1.0, 0.0])
        >>> column_one_hot_recurrence(jnp.stack([swap] * 3), factor, drive, start).tolist()
        [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """
    return without_forward_mode(
        "column_one_hot_recurrence",
        "jax.grad, jax.vjp or jax.jacrev",
        _column_one_hot,
        *(logits, factor, drive, initial_state),
    )


@jax.custom_vjp
def _column_one_hot(logits: Array, factor: Array, drive: Array, initial_state: Array) -> Array:
    return _forward(logits, factor, drive, initial_state)[0]


def _forward(
    logits: Array, factor: Array, drive: Array, initial_state: Array
) -> tuple[Array, tuple[Array, ...]]:
    place = jnp.argmax(logits, axis=-2)
    states = _states(_after, _scatter, (place, factor), drive, initial_state)
    return states, (logits, place, factor, initial_state, states)


def _backward(residuals: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
    """Compute the adjoint, a recurrence backwards in time that gathers with transposed maps."""
    logits, place, factor, initial_state, states = residuals
    later = (_shifted(place), _shifted(factor))
    zero = jnp.zeros_like(initial_state)
    adjoint = _states(_before, _gather, later, cotangent, zero, reverse=True)
    before = jnp.concatenate([initial_state[..., None, :], states[..., :-1, :]], axis=-2)
    gathered = jnp.take_along_axis(adjoint, place, axis=-1)
    # The one-hot matrix P enters the output as adjoint_i P_ij (factor h)_j.
    of_choice = jnp.real(adjoint[..., :, None] * (factor * before)[..., None, :])
    choice = jax.nn.softmax(logits, axis=-2)
    centred = of_choice - jnp.sum(choice * of_choice, axis=-2, keepdims=True)
    return (
        (choice * centred).astype(logits.dtype),
        gathered * before,
        adjoint,
        (gathered * factor)[..., 0, :],
    )


_column_one_hot.defvjp(_forward, _backward)


def _states(
    compose: Callable[[Map, Map], Map],
    apply: Callable[[Map, Array], Array],
    maps: Map,
    offsets: Array,
    start: Array,
    *,
    reverse: bool = False,
) -> Array:
    """Return all states of `h = maps(h) + offsets`; `compose(second, first)` joins two maps."""
    axis = start.ndim - 1
    edge = -1 if reverse else 0
    first = jax.tree.map(lambda leaf: jnp.take(leaf, edge, axis=axis), maps)
    index = (..., edge, slice(None))
    offsets = jnp.asarray(offsets).at[index].add(apply(first, start))

    def combine(one: tuple[Map, Array], two: tuple[Map, Array]) -> tuple[Map, Array]:
        return compose(two[0], one[0]), apply(two[0], one[1]) + two[1]

    return jax.lax.associative_scan(combine, (maps, offsets), reverse=reverse, axis=axis)[1]


def _scale(second: Array, first: Array) -> Array:
    return second * first


def _scatter(maps: tuple[Array, Array], state: Array) -> Array:
    """Return `P (factor * state)`: entry j moves to its place."""

    def one(place: Array, moved: Array) -> Array:
        return jnp.zeros_like(moved).at[place].add(moved)

    return jnp.vectorize(one, signature="(n),(n)->(n)")(maps[0], maps[1] * state)


def _gather(maps: tuple[Array, Array], state: Array) -> Array:
    """Return the transpose, `factor * P^T state`: entry j reads from its place."""
    return maps[1] * jnp.take_along_axis(state, maps[0], axis=-1)


def _after(second: tuple[Array, Array], first: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return the column one-hot map that applies `first` and then `second`."""
    place, factor = (jnp.take_along_axis(leaf, first[0], axis=-1) for leaf in second)
    return place, factor * first[1]


def _before(second: tuple[Array, Array], first: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return two transposed maps as one: the product of the maps in the opposite order."""
    return _after(first, second)


def _shifted(leaf: Array) -> Any:
    """Shift maps by one step; the last map is arbitrary, since it is applied to zeros."""
    return jnp.concatenate([leaf[..., 1:, :], leaf[..., -1:, :]], axis=-2)
