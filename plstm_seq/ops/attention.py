"""Causal softmax attention, a block of queries at a time."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

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

    The queries are the last T of S positions. Scores [B, H, block, S] of one block of queries are
    in memory at a time, also in the backward pass, which makes them again. In the types of the
    inputs: `jax.nn.dot_product_attention` takes the softmax of float64 in float32.

    Args:
        query: [B, T, H, D].
        key: [B, S, H, D].
        value: [B, S, H, D].
        block_size: queries at a time; the result does not depend on it beyond rounding.

    Returns:
        [B, T, H, D].
    """
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
    # The queries behind the end see all keys.
    missing = -length % block_size
    query = jnp.pad(query, [(0, 0), (0, missing), (0, 0), (0, 0)])
    positions = jnp.pad(positions, (0, missing), constant_values=total)
    count = query.shape[1] // block_size
    blocks = query.reshape(query.shape[0], count, block_size, *query.shape[2:])
    y = jax.lax.map(
        jax.checkpoint(block), (jnp.moveaxis(blocks, 1, 0), positions.reshape(-1, block_size))
    )
    return jnp.moveaxis(y, 0, 1).reshape(query.shape)[:, :length]
