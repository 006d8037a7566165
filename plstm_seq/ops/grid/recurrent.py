"""The 2D recurrence, one anti-diagonal after another; every other form is compared with it."""

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.grid.inputs import GridImplementation, Inputs, States, zero_states
from plstm_seq.ops.products import direct_term, einsum


def recurrent(
    inputs: Inputs, initial: States, *, dtype: jnp.dtype, leaving: bool = True
) -> tuple[Array, States]:
    """Scans `step` over the anti-diagonals x + y = 0, 1, ...; differentiable in every mode.

    The cells of a diagonal are an array along x. Its places outside the grid are computed from
    zeros, too, and left out of the result. A state does not change before its first cell or after
    its last one.

    Args:
        inputs: [*B, X, Y, ...].
        initial: the states on the left and top edge; None: zero.
        dtype: the type of accumulation.
        leaving: whether to return the states that leave; if not, they are None.

    Returns:
        The output [*B, X, Y, DV, JO] and the states on the right and bottom edge, in the type of
        accumulation.
    """
    X, Y = inputs.grid
    batch = len(inputs.batch)
    left, top = zero_states(inputs, initial, dtype)
    left, top = jnp.moveaxis(left, batch, 0), jnp.moveaxis(top, batch, 0)
    xs, diagonals = jnp.arange(X), jnp.arange(X + Y - 1)
    ys = diagonals[:, None] - xs
    real = (ys >= 0) & (ys < Y)

    def at(mask: Array, array: Array) -> Array:
        return mask.reshape(*mask.shape, *[1] * (array.ndim - mask.ndim))

    def skew(array: Array) -> Array:
        """Rearranges [*B, X, Y, ...] to [diagonals, X, *B, ...]."""
        array = jnp.moveaxis(array, (batch, batch + 1), (0, 1))[xs, jnp.clip(ys, 0, Y - 1)]
        return jnp.where(at(real, array), array, 0)

    def body(states: tuple[Array, Array], now: tuple[Array, Array, Inputs]) -> tuple:
        right, down = states
        diagonal, inside, cells = now
        entering = left[jnp.minimum(diagonal, Y - 1)][None]
        output, *after = step(cells, jnp.concatenate([entering, right[:-1]]), down)
        right, down = (jnp.where(at(inside, a), a, b) for a, b in zip(after, states, strict=True))
        return (right, down), (output, right[-1])

    cells = jax.tree.map(skew, inputs.astype(dtype))
    states = jnp.zeros_like(top), top
    (_, down), (output, right) = jax.lax.scan(body, states, (diagonals, real, cells))
    output = output[xs[:, None] + jnp.arange(Y), xs[:, None]]
    output = jnp.moveaxis(output, (0, 1), (batch, batch + 1))
    if not leaving:
        return output, States(None, None)
    return output, States(jnp.moveaxis(right[X - 1 :], 0, batch), jnp.moveaxis(down, 0, batch))


RECURRENT = GridImplementation("recurrent", recurrent, forward_mode=True)


def step(inputs: Inputs, left: Array, up: Array) -> tuple[Array, Array, Array]:
    """Computes one cell (README.md, section 1).

    Args:
        inputs: the cell's inputs, without the axes X and Y, all in the type of the states.
        left: the state that enters from the previous cell in x, [*B, DK, DV, JT].
        up: the state that enters from the previous cell in y, [*B, DK, DV, JT].

    Returns:
        The output [*B, DV, JO] before scaling, and the states that leave to the right and down.
    """
    x = inputs
    output = _read(x.mark_left, x.query, left) + _read(x.mark_up, x.query, up)
    if x.direct is not None:
        output += direct_term(x.query, x.key, x.value, x.direct)
    right = _move(x.transition_rl, left) + _write(x.source_right, x.key, x.value)
    down = _move(x.transition_du, up) + _write(x.source_down, x.key, x.value)
    if x.transition_ru is not None:
        right += _move(x.transition_ru, up)
    if x.transition_dl is not None:
        down += _move(x.transition_dl, left)
    return output, right, down


def _read(mark: Array, query: Array, state: Array) -> Array:
    return einsum("...oqi,...kq,...kvi->...vo", mark, query, state)


def _move(transition: Array, state: Array) -> Array:
    return einsum("...ij,...kvj->...kvi", transition, state)


def _write(source: Array, key: Array, value: Array) -> Array:
    return einsum("...iaw,...ka,...vw->...kvi", source, key, value)
