"""Products inside a chunk: on the matrix unit, and of gates with the blocks of a matrix.

A matrix is [J * DV, L] or, cut into blocks, [J, DV, L]: features in the sublanes, time in the
lanes. A gate of one sequence is [I, J, 1, L]: one row of lanes for every component.
"""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jax import Array


def nn(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """A @ b; operands rounded to `dtype`, the sum in float32."""
    return _dot(a, b, 1, 0, dtype)


def nt(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """A @ b^T."""
    return _dot(a, b, 1, 1, dtype)


def tn(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """a^T @ b."""
    return _dot(a, b, 0, 0, dtype)


def _dot(a: Array, b: Array, i: int, j: int, dtype: jnp.dtype) -> Array:
    # The matrix unit multiplies bf16: "highest" makes it six products of parts for a float32.
    precision = jax.lax.Precision.HIGHEST if dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    return jax.lax.dot_general(
        a.astype(dtype),
        b.astype(dtype),
        (((i,), (j,)), ((), ())),
        precision=precision,
        preferred_element_type=jnp.float32,
    )


def flat(blocks: Array) -> Array:
    """[J, DV, L] -> [J * DV, L]."""
    return blocks.reshape(-1, blocks.shape[-1])


def blocks_of(matrix: Array, count: int) -> Array:
    """[J * DV, L] -> [J, DV, L]."""
    return matrix.reshape(count, -1, matrix.shape[-1])


def mix(gate: Array, blocks: Array) -> Array:
    """sum_w gate[i, w] blocks[w], [I, J, 1, L] and [J, DV, L] -> [I, DV, L]."""
    return add(gate[:, w] * blocks[w] for w in range(len(blocks)))


def unmix(gate: Array, blocks: Array) -> Array:
    """sum_i gate[i, w] blocks[i], [I, J, 1, L] and [I, DV, L] -> [J, DV, L]."""
    return add(gate[i] * blocks[i] for i in range(len(blocks)))


def correlate(one: Array, other: Array) -> Array:
    """sum_v one[i, v] other[w, v], the cotangent of the gate in `mix`, but for the last step.

    Returns:
        [I, J, 8, L], to be summed over its sublanes (`over_sublanes`): after all that can be added
        to it, since that last step costs more than the others.
    """
    rows, DV, L = one.shape
    sums = [jnp.sum((one * x).reshape(rows, DV // 8, 8, L), axis=1) for x in other]
    return jnp.stack(sums, axis=1)


def over_sublanes(sums: Array) -> Array:
    """[I, J, 8, L] -> [I, J, 1, L]."""
    return jnp.sum(sums, axis=2, keepdims=True)


def add(terms: Iterable[Array]) -> Array:
    """Sum of arrays."""
    return functools.reduce(jnp.add, terms)
