"""Causal softmax attention, computed for one block of queries at a time."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from plstm_seq.ops.not_finite import one_by_one, truth_where_not_finite
from plstm_seq.ops.products import einsum

_BLOCK = 128


def causal_attention(
    query: Float[Array, "B T H D"],
    key: Float[Array, "B S H D"],
    value: Float[Array, "B S H D"],
    *,
    block_size: int = _BLOCK,
) -> Float[Array, "B T H D"]:
    """Return `softmax(query key^T / sqrt(D)) value`, each query over the keys up to its own.

    The queries are the last T of S positions. Only the scores [B, H, block, S] of one block of
    queries are in memory at a time, also in the backward pass, which computes them again.
    Everything is computed in the types of the inputs, while `jax.nn.dot_product_attention` takes
    the softmax of float64 scores in float32. Differentiable in reverse mode.

    Args:
        query: [B, T, H, D].
        key: [B, S, H, D].
        value: [B, S, H, D].
        block_size: number of queries in a block; it changes the result by rounding alone.

    Returns:
        [B, T, H, D].
    """
    fast = functools.partial(_in_blocks, block_size=block_size)
    return truth_where_not_finite("causal_attention", fast, _query_by_query, query, key, value)


def _in_blocks(query: Array, key: Array, value: Array, *, block_size: int) -> Array:
    length, total = query.shape[1], key.shape[1]
    positions = total - length + jnp.arange(length)

    def block(queries: tuple[Array, Array]) -> Array:
        query, positions = queries
        scores = einsum("bthd,bshd->bhts", query, key) * query.shape[-1] ** -0.5
        seen = jnp.arange(total) <= positions[:, None]
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        return einsum("bhts,bshd->bthd", weights, value)

    if length <= block_size:
        return block((query, positions))
    # The queries that pad the last block see all keys.
    missing = -length % block_size
    query = jnp.pad(query, [(0, 0), (0, missing), (0, 0), (0, 0)])
    positions = jnp.pad(positions, (0, missing), constant_values=total)
    count = query.shape[1] // block_size
    blocks = query.reshape(query.shape[0], count, block_size, *query.shape[2:])
    y = jax.lax.map(
        jax.checkpoint(block), (jnp.moveaxis(blocks, 1, 0), positions.reshape(-1, block_size))
    )
    return jnp.moveaxis(y, 0, 1).reshape(query.shape)[:, :length]


def _query_by_query(query: Array, key: Array, value: Array) -> Array:
    """Compute the same with zeros for keys and values that a query does not see.

    So NaN there has no effect.
    """

    def head(query: Array, key: Array, value: Array) -> Array:
        """[T, D] and twice [S, D] -> [T, D]."""
        positions = jnp.arange(len(key))

        @jax.checkpoint
        def one(query: Array, position: Array) -> Array:
            seen = positions <= position
            keys, values = (jnp.where(seen[:, None], x, 0) for x in (key, value))
            scores = jnp.where(seen, keys @ query * len(query) ** -0.5, -jnp.inf)
            weights = jax.nn.softmax(scores)
            return weights @ values

        return jax.lax.map(lambda now: one(*now), (query, positions[len(key) - len(query) :]))

    moved = (jnp.moveaxis(x, 2, 1) for x in (query, key, value))
    return jnp.moveaxis(one_by_one(head, 2)(*moved), 1, 2)
