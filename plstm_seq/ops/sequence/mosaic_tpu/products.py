"""Products inside a chunk: on the matrix unit, and of gates with the blocks of a matrix.

A matrix is [J * DV, L] or, cut into blocks, [J, DV, L]: features are in the sublanes, time is in
the lanes. A gate of one sequence is [I, J, 1, L], one row of lanes for every component.
"""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jax import Array


def nn(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """Returns a @ b; the operands are rounded to `dtype`, the sum is in float32."""
    return _dot(a, b, 1, 0, dtype)


def nt(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """Returns a @ b^T."""
    return _dot(a, b, 1, 1, dtype)


def tn(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """Returns a^T @ b."""
    return _dot(a, b, 0, 0, dtype)


def _dot(a: Array, b: Array, i: int, j: int, dtype: jnp.dtype) -> Array:
    # The matrix unit multiplies bf16; "highest" makes a float32 product from six products of parts.
    precision = jax.lax.Precision.HIGHEST if dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    return jax.lax.dot_general(
        a.astype(dtype),
        b.astype(dtype),
        (((i,), (j,)), ((), ())),
        precision=precision,
        preferred_element_type=jnp.float32,
    )


def flat(blocks: Array) -> Array:
    """Reshapes [J, DV, L] to [J * DV, L]."""
    return blocks.reshape(-1, blocks.shape[-1])


def blocks_of(matrix: Array, count: int) -> Array:
    """Reshapes [J * DV, L] to [J, DV, L]."""
    return matrix.reshape(count, -1, matrix.shape[-1])


def mix(gate: Array, blocks: Array) -> Array:
    """Returns sum_w gate[i, w] blocks[w], [I, J, 1, L] and [J, DV, L] -> [I, DV, L]."""
    return add(gate[:, w] * blocks[w] for w in range(len(blocks)))


def unmix(gate: Array, blocks: Array) -> Array:
    """Returns sum_i gate[i, w] blocks[i], [I, J, 1, L] and [I, DV, L] -> [J, DV, L]."""
    return add(gate[i] * blocks[i] for i in range(len(blocks)))


def correlate(one: Array, other: Array) -> Array:
    """Computes sum_v one[i, v] other[w, v], the cotangent of the gate in `mix`, up to a last sum.

    Returns:
        [I, J, 8, L], which `over_sublanes` sums over its sublanes. Add everything else to it first,
        since this last sum costs more than the other additions.
    """
    rows, DV, L = one.shape
    sums = [jnp.sum((one * x).reshape(rows, DV // 8, 8, L), axis=1) for x in other]
    return jnp.stack(sums, axis=1)


def over_sublanes(sums: Array) -> Array:
    """Sums [I, J, 8, L] over its sublanes to [I, J, 1, L]."""
    return jnp.sum(sums, axis=2, keepdims=True)


def add(terms: Iterable[Array]) -> Array:
    """Returns the sum of arrays."""
    return functools.reduce(jnp.add, terms)
