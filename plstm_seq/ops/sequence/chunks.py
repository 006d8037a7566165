"""The heavy contraction of a run of chunks, and its backward pass (README.md, sections 3 and 4).

One sequence, without batch axes: `chunkwise` maps it over `*B`. Rows of values are contiguous:
query [c, L, JQ, DK], key [c, L, JK, DK], value [c, L, JV, DV], output [c, L, JO, DV], and the state
is [DK, JT, DV] here. `c` chunks of `L` steps.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.sequence import blocks
from plstm_seq.ops.sequence.levels import Crossing, Levels, small_matmul

_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


class Heavy(NamedTuple):
    """What the contraction takes beside the gates; axes in the module's docstring."""

    query: Array
    key: Array
    value: Array
    direct: Array  # [c, L, JO, JQ, JK, JV]


# -- between chunks ------------------------------------------------------------------------------


def _sources(source: Array, value: Array) -> Array:
    """source [c, L, JT, JK, JV] . value [c, L, JV, DV] -> [c, L, JK, JT, DV]."""
    return small_matmul(jnp.moveaxis(source, 3, 2), value[:, :, None])


def _marks_transposed(mark: Array, cotangent: Array) -> Array:
    """Cotangent [c, L, JO, DV] of the output -> of the readings, [c, L, JQ, JT, DV]."""
    return small_matmul(mark.transpose(0, 1, 3, 4, 2), cotangent[:, :, None])


def _step(state: Array, key: Array, update: Array, transition: Array) -> Array:
    """The state at the next chunk's start: key [L, JK, DK], update [L, JK, JT, DV]."""
    return small_matmul(transition, state) + _einsum("lak,laiv->kiv", key, update)


def carry(heavy: Heavy, gates: Levels, state: Array) -> tuple[Array, Array]:
    """Reads the states that enter the chunks, and hands the state on.

    Returns:
        The readings [c, L, JQ, JT, DV] and the last state.
    """

    def body(state: Array, chunk: tuple[Array, ...]) -> tuple[Array, Array]:
        query, key, update, transition = chunk
        readings = _einsum("lqk,kiv->lqiv", query, state)
        return _step(state, key, update, transition), readings

    updates = _sources(gates.source, heavy.value)
    chunks = (heavy.query, heavy.key, updates, gates.transition)
    state, readings = jax.lax.scan(body, state, chunks)
    return readings, state


def carry_backward(
    heavy: Heavy, gates: Levels, state: Array, cotangent: Array, state_cotangent: Array
) -> tuple[Heavy, Levels, Array]:
    """Cotangents of `carry` followed by the mark, for the cotangent [c, L, JO, DV] of the output."""
    updates = _sources(gates.source, heavy.value)

    def forward(state: Array, chunk: tuple[Array, ...]) -> tuple[Array, Array]:
        return _step(state, *chunk), state

    _, states = jax.lax.scan(forward, state, (heavy.key, updates, gates.transition))

    def backward(after: Array, chunk: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        query, key, update, transition, state, reading = chunk
        gradients = (
            _einsum("lqiv,kiv->lqk", reading, state),
            _einsum("laiv,kiv->lak", update, after),
            _einsum("lak,kiv->laiv", key, after),
            _einsum("kiv,kjv->ij", after, state),
            _einsum("lqk,kiv->lqiv", query, state),
        )
        before = small_matmul(transition.mT, after) + _einsum("lqk,lqiv->kiv", query, reading)
        return before, gradients

    readings_cotangent = _marks_transposed(gates.mark, cotangent)
    chunks = (heavy.query, heavy.key, updates, gates.transition, states, readings_cotangent)
    state_cotangent, (query, key, update, transition, readings) = jax.lax.scan(
        backward, state_cotangent, chunks, reverse=True
    )
    value = small_matmul(
        gates.source.transpose(0, 1, 4, 3, 2).reshape(*heavy.value.shape[:3], -1),
        update.reshape(*update.shape[:2], -1, update.shape[-1]),
    )
    source = _einsum("laiv,lwv->liaw", *_flat_steps(update, heavy.value))
    mark = _einsum("lov,lqiv->loqi", *_flat_steps(cotangent, readings))
    return (
        Heavy(query, key, value, jnp.zeros_like(heavy.direct)),
        Levels((), mark.reshape(gates.mark.shape), source.reshape(gates.source.shape), transition),
        state_cotangent,
    )


def _flat_steps(*arrays: Array) -> tuple[Array, ...]:
    """Chunks and steps as one axis."""
    return tuple(x.reshape(-1, *x.shape[2:]) for x in arrays)


def read(mark: Array, readings: Array) -> Array:
    """mark [c, L, JO, JQ, JT] . readings [c, L, JQ, JT, DV] -> [c, L, JO, DV]."""
    flat = readings.reshape(*readings.shape[:2], -1, readings.shape[-1])
    return small_matmul(mark.reshape(*mark.shape[:3], -1), flat)


# -- inside chunks -------------------------------------------------------------------------------


def _pairs(heavy: Heavy):
    """(q, a) over JQ and JK."""
    return [(q, a) for q in range(heavy.query.shape[2]) for a in range(heavy.key.shape[2])]


def _scores(heavy: Heavy, q: int, a: int) -> tuple[Array, tuple[Array, ...]]:
    """query . key of one pair of source and mark dimensions, cut into diagonal and siblings."""
    scores = _einsum("clk,cmk->clm", heavy.query[:, :, q], heavy.key[:, :, a])
    return blocks.split(scores[:, :, None, :, None])


def _gate(crossing: Crossing, q: int, a: int) -> Array:
    """mark . source of every pair of steps that meet: [c, P/2, b, JO, b, JV]."""
    mark, source = crossing.mark[..., q, :], crossing.source[..., a, :]
    terms = (
        mark[:, :, :, :, None, None, i] * source[:, :, None, None, :, i, :]
        for i in range(mark.shape[-1])
    )
    return functools.reduce(jnp.add, terms)


def gating_matrix(heavy: Heavy, gates: Levels) -> Array:
    """The matrix from values to outputs of a chunk, [c, L, JO, L, JV]: scores times gates."""
    diagonals, siblings = [], []
    for q, a in _pairs(heavy):
        scores_diagonal, scores = _scores(heavy, q, a)
        diagonals.append(scores_diagonal * heavy.direct[:, :, :, q, a])
        siblings.append([s * _gate(x, q, a) for s, x in zip(scores, gates.crossings, strict=True)])
    return blocks.join(sum(diagonals), tuple(sum(level) for level in zip(*siblings, strict=True)))


def inner(heavy: Heavy, gates: Levels) -> Array:
    """What the steps of a chunk read from each other: [c, L, JO, DV]."""
    matrix = gating_matrix(heavy, gates)
    return _einsum("clomw,cmwv->clov", matrix, heavy.value)


def inner_backward(heavy: Heavy, gates: Levels, cotangent: Array) -> tuple[Heavy, Levels]:
    """Cotangents of `inner`."""
    value = _einsum("clomw,clov->cmwv", gating_matrix(heavy, gates), cotangent)
    matrix = _einsum("clov,cmwv->clomw", cotangent, heavy.value)
    diagonal, siblings = blocks.split(matrix)
    query, key = jnp.zeros_like(heavy.query), jnp.zeros_like(heavy.key)
    direct = jnp.zeros_like(heavy.direct)
    marks = [jnp.zeros_like(x.mark) for x in gates.crossings]
    sources = [jnp.zeros_like(x.source) for x in gates.crossings]
    for q, a in _pairs(heavy):
        scores_diagonal, scores = _scores(heavy, q, a)
        direct = direct.at[:, :, :, q, a].set(diagonal * scores_diagonal)
        down = (diagonal * heavy.direct[:, :, :, q, a]).sum((-1, -2), keepdims=True)
        downs = []
        for level, (crossing, block, score) in enumerate(
            zip(gates.crossings, siblings, scores, strict=True)
        ):
            downs.append((block * _gate(crossing, q, a)).sum((3, 5), keepdims=True))
            weighted = block * score
            mark = _einsum("cplomw,cpmiw->cploi", weighted, crossing.source[..., a, :])
            source = _einsum("cplomw,cploi->cpmiw", weighted, crossing.mark[..., q, :])
            marks[level] = marks[level].at[..., q, :].add(mark)
            sources[level] = sources[level].at[..., a, :].add(source)
        score_cotangent = blocks.join(down, tuple(downs))[:, :, 0, :, 0]
        query = query.at[:, :, q].add(_einsum("clm,cmk->clk", score_cotangent, heavy.key[:, :, a]))
        key = key.at[:, :, a].add(_einsum("clm,clk->cmk", score_cotangent, heavy.query[:, :, q]))
    crossings = tuple(Crossing(*pair) for pair in zip(marks, sources, strict=True))
    return Heavy(query, key, value, direct), Levels(
        crossings,
        jnp.zeros_like(gates.mark),
        jnp.zeros_like(gates.source),
        jnp.zeros_like(gates.transition),
    )
