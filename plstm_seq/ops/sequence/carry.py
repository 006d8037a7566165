"""The state that passes between chunks: every chunk reads and updates it (README.md, section 4).

The functions take one sequence of `c` chunks of `L` steps; `chunkwise` maps them over `*B`. Rows of
values are contiguous: query [c, L, JQ, DK], key [c, L, JK, DK], value [c, L, JV, DV], and a state
is [DK, JT, DV] here.
"""

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.products import einsum, small_matmul
from plstm_seq.ops.sequence.levels import Whole


def carry(
    query: Array, key: Array, value: Array, gates: Whole, state: Array, real: Array | None = None
) -> tuple[Array, Array]:
    """Returns the output [c, L, JO, DV] from the states at the chunks' starts, and the last state.

    `real` [c] is true for chunks that are more than padding; padding does not change the state.
    None: no chunk is padding.
    """
    last, states = _states(key, _writings(gates.source, value), gates.transition, state, real)
    readings = einsum("clqk,ckiv->clqiv", query, states)
    mark = gates.mark.reshape(*gates.mark.shape[:3], -1)
    return small_matmul(mark, _join(readings)), last


def carry_backward(
    query: Array,
    key: Array,
    value: Array,
    gates: Whole,
    state: Array,
    output_bar: Array,
    state_bar: Array,
    real: Array | None = None,
) -> tuple[Array, Array, Array, Whole, Array]:
    """Returns the cotangents of all arguments of `carry`; it computes the states again.

    `output_bar` [c, L, JO, DV] and `state_bar` [DK, JT, DV] are the cotangents of its results.
    """
    writings = _writings(gates.source, value)
    readings_bar = small_matmul(gates.mark.transpose(0, 1, 3, 4, 2), output_bar[:, :, None])

    _, states = _states(key, writings, gates.transition, state, real)

    def body(after_bar: Array, chunk: tuple[Array, Array, Array | None]) -> tuple[Array, Array]:
        transition, read_bar, moves = chunk
        before_bar = small_matmul(transition.mT, after_bar) + read_bar
        return _where(moves, before_bar, after_bar), after_bar

    reads_bar = einsum("clqk,clqiv->ckiv", query, readings_bar)
    chunks = gates.transition, reads_bar, real
    state_bar, afters_bar = jax.lax.scan(body, state_bar, chunks, reverse=True)
    query_bar = einsum("clqiv,ckiv->clqk", readings_bar, states)
    key_bar = einsum("claiv,ckiv->clak", writings, afters_bar)
    writings_bar = einsum("clak,ckiv->claiv", key, afters_bar)
    transition_bar = einsum("ckiv,ckjv->cij", afters_bar, states)
    readings = einsum("clqk,ckiv->clqiv", query, states)
    source = gates.source.transpose(0, 1, 4, 3, 2)
    value_bar = small_matmul(source.reshape(*source.shape[:3], -1), _join(writings_bar))
    source_bar = einsum("claiv,clwv->cliaw", writings_bar, value)
    mark_bar = einsum("clov,clqiv->cloqi", output_bar, readings)
    return query_bar, key_bar, value_bar, Whole(mark_bar, source_bar, transition_bar), state_bar


def _writings(source: Array, value: Array) -> Array:
    """Returns each step's part of the chunk's last state, without its key: [c, L, JK, JT, DV]."""
    return small_matmul(source.swapaxes(2, 3), value[:, :, None])


def _states(
    key: Array, writings: Array, transition: Array, state: Array, real: Array | None
) -> tuple[Array, Array]:
    """Returns the last state, and the states at the chunks' starts, [c, DK, JT, DV].

    All products, except those with transitions, are computed for all chunks at once.
    """

    def body(state: Array, chunk: tuple[Array, Array, Array | None]) -> tuple[Array, Array]:
        transition, added, moves = chunk
        return _where(moves, small_matmul(transition, state) + added, state), state

    added = einsum("clak,claiv->ckiv", key, writings)
    return jax.lax.scan(body, state, (transition, added, real))


def _where(condition: Array | None, array: Array, otherwise: Array) -> Array:
    return array if condition is None else jnp.where(condition, array, otherwise)


def _join(array: Array) -> Array:
    """Reshapes [c, L, J, JT, DV] to [c, L, J * JT, DV]."""
    return array.reshape(*array.shape[:2], -1, array.shape[-1])
