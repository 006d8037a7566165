"""What passes between chunks: the state is read by every chunk and moved on (README.md, section 3).

One sequence of `c` chunks of `L` steps; `chunkwise` maps it over `*B`. Rows of values are
contiguous: query [c, L, JQ, DK], key [c, L, JK, DK], value [c, L, JV, DV], and a state is
[DK, JT, DV] here.
"""

import jax
from jax import Array

from plstm_seq.ops.products import einsum, small_matmul
from plstm_seq.ops.sequence.levels import Whole


def carry(
    query: Array, key: Array, value: Array, gates: Whole, state: Array
) -> tuple[Array, Array]:
    """The output [c, L, JO, DV] read from the states at the chunks' starts, and the last state."""

    def body(state: Array, chunk: tuple[Array, ...]) -> tuple[Array, Array]:
        query, *update = chunk
        return _move(state, *update), einsum("lqk,kiv->lqiv", query, state)

    chunks = (query, key, _writings(gates.source, value), gates.transition)
    state, readings = jax.lax.scan(body, state, chunks)
    mark = gates.mark.reshape(*gates.mark.shape[:3], -1)
    return small_matmul(mark, _join(readings)), state


def carry_backward(
    query: Array,
    key: Array,
    value: Array,
    gates: Whole,
    state: Array,
    output_bar: Array,
    state_bar: Array,
) -> tuple[Array, Array, Array, Whole, Array]:
    """Cotangents of all arguments of `carry`; the states are computed again.

    `output_bar` [c, L, JO, DV] and `state_bar` [DK, JT, DV] are the cotangents of its results.
    """
    writings = _writings(gates.source, value)
    readings_bar = small_matmul(gates.mark.transpose(0, 1, 3, 4, 2), output_bar[:, :, None])

    def forward(state: Array, chunk: tuple[Array, ...]) -> tuple[Array, Array]:
        return _move(state, *chunk), state

    def backward(after_bar: Array, chunk: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        query, key, writing, transition, state, reading_bar = chunk
        cotangents = (
            einsum("lqiv,kiv->lqk", reading_bar, state),
            einsum("laiv,kiv->lak", writing, after_bar),
            einsum("lak,kiv->laiv", key, after_bar),
            einsum("kiv,kjv->ij", after_bar, state),
            einsum("lqk,kiv->lqiv", query, state),
        )
        read_bar = einsum("lqk,lqiv->kiv", query, reading_bar)
        return small_matmul(transition.mT, after_bar) + read_bar, cotangents

    _, states = jax.lax.scan(forward, state, (key, writings, gates.transition))
    chunks = (query, key, writings, gates.transition, states, readings_bar)
    state_bar, (query_bar, key_bar, writings_bar, transition_bar, readings) = jax.lax.scan(
        backward, state_bar, chunks, reverse=True
    )
    source = gates.source.transpose(0, 1, 4, 3, 2)
    value_bar = small_matmul(source.reshape(*source.shape[:3], -1), _join(writings_bar))
    source_bar = einsum("claiv,clwv->cliaw", writings_bar, value)
    mark_bar = einsum("clov,clqiv->cloqi", output_bar, readings)
    return query_bar, key_bar, value_bar, Whole(mark_bar, source_bar, transition_bar), state_bar


def _writings(source: Array, value: Array) -> Array:
    """What each step adds to the state at its chunk's end, before its key: [c, L, JK, JT, DV]."""
    return small_matmul(source.swapaxes(2, 3), value[:, :, None])


def _move(state: Array, key: Array, writing: Array, transition: Array) -> Array:
    """The state at the end of a chunk."""
    return small_matmul(transition, state) + einsum("lak,laiv->kiv", key, writing)


def _join(array: Array) -> Array:
    """[c, L, J, JT, DV] -> [c, L, J * JT, DV]."""
    return array.reshape(*array.shape[:2], -1, array.shape[-1])
