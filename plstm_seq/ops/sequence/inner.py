"""The matrix by which steps of a chunk read from each other: scores times gates (README.md, 3).

The functions take one sequence of `c` chunks of `L` steps; `chunkwise` maps them over `*B`. `_pair`
and `_pair_backward` take one of the JQ queries and one of the JK keys; the public functions sum
over all pairs.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.products import einsum
from plstm_seq.ops.sequence import blocks
from plstm_seq.ops.sequence.levels import Crossings

# Marks and sources, as in `Crossings`.
_Pairwise = tuple[tuple[Array, ...], tuple[Array, ...]]

# These map over every pair of (query, mark) and (key, source): the inner map over JK, the outer JQ.
_QUERIES = (2, None, 3, (4, None))
_KEYS = (None, 2, 3, (None, 4))


def gating_matrix(
    query: Array, key: Array, direct: Array, crossings: Crossings, *, joined: bool
) -> Array:
    """Returns the matrix [c, L, JO, L, JV] from the values of a chunk to its outputs.

    Args:
        query: [c, L, JQ, DK].
        key: [c, L, JK, DK].
        direct: [c, L, JO, JQ, JK, JV].
        crossings: the crossings that `levels` returns.
        joined: whether there is a direct term; if not, `direct` is zero and is not used.
    """
    mapped = jax.vmap(jax.vmap(functools.partial(_pair, joined), _KEYS), _QUERIES)
    return mapped(query, key, direct, (crossings.marks, crossings.sources)).sum((0, 1))


def inner_backward(
    query: Array,
    key: Array,
    direct: Array,
    crossings: Crossings,
    matrix_bar: Array,
    *,
    joined: bool,
) -> tuple[Array, Array, Array, Crossings]:
    """Returns the cotangents of all arguments of `gating_matrix`, given that of the matrix."""
    diagonal_bar, siblings_bar = blocks.split(matrix_bar)
    backward = functools.partial(_pair_backward, joined, diagonal_bar, siblings_bar)
    mapped = jax.vmap(jax.vmap(backward, _KEYS), _QUERIES)
    query_bar, key_bar, direct_bar, crossings_bar = mapped(
        query, key, direct, (crossings.marks, crossings.sources)
    )
    return (
        jnp.moveaxis(query_bar.sum(1), 0, 2),
        jnp.moveaxis(key_bar.sum(0), 0, 2),
        jnp.moveaxis(direct_bar, (0, 1), (3, 4)),
        Crossings(
            tuple(jnp.moveaxis(x.sum(1), 0, 4) for x in crossings_bar.marks),
            tuple(jnp.moveaxis(x.sum(0), 0, 4) for x in crossings_bar.sources),
        ),
    )


def _pair(joined: bool, query: Array, key: Array, direct: Array, crossings: _Pairwise) -> Array:
    """Returns the matrix of query, key [c, L, DK], direct [c, L, JO, JV]; gates lack JQ and JK."""
    diagonal, siblings = _scores(query, key)
    gated = (s * _gate(*x) for s, *x in zip(siblings, *crossings, strict=True))
    return blocks.join(diagonal * direct if joined else direct, tuple(gated))


def _pair_backward(
    joined: bool,
    diagonal_bar: Array,
    siblings_bar: tuple[Array, ...],
    query: Array,
    key: Array,
    direct: Array,
    crossings: _Pairwise,
) -> tuple[Array, Array, Array, Crossings]:
    diagonal, siblings = _scores(query, key)
    scores_bar, marks_bar, sources_bar = [], [], []
    for mark, source, score, bar in zip(*crossings, siblings, siblings_bar, strict=True):
        scores_bar.append((bar * _gate(mark, source)).sum((3, 5), keepdims=True))
        gate_bar = bar * score
        marks_bar.append(einsum("cplomw,cpmiw->cploi", gate_bar, source))
        sources_bar.append(einsum("cplomw,cploi->cpmiw", gate_bar, mark))
    down = (diagonal_bar * direct if joined else direct).sum((2, 3), keepdims=True)
    bar = blocks.join(down, tuple(scores_bar))[:, :, 0, :, 0]
    key, spoil_query = blocks.reaching(key, diagonal=joined)
    query, spoil_key = blocks.reaching(query, diagonal=joined, backwards=True)
    return (
        spoil_query(einsum("clm,cmk->clk", bar, key)),
        spoil_key(einsum("clm,clk->cmk", bar, query)),
        diagonal_bar * diagonal if joined else direct,
        Crossings(tuple(marks_bar), tuple(sources_bar)),
    )


def _scores(query: Array, key: Array) -> tuple[Array, tuple[Array, ...]]:
    """Returns query . key, cut into the diagonal [c, L, 1, 1] and blocks [c, P/2, b, 1, b, 1]."""
    return blocks.split(einsum("clk,cmk->clm", query, key)[:, :, None, :, None])


def _gate(mark: Array, source: Array) -> Array:
    """Returns mark . source for all pairs of steps in sibling blocks: [c, P/2, b, JO, b, JV]."""
    mark, source = mark[:, :, :, :, None, None], source[:, :, None, None]
    terms = (mark[..., i] * source[..., i, :] for i in range(mark.shape[-1]))
    return functools.reduce(jnp.add, terms)
