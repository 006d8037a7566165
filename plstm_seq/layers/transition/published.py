"""The normalisations of the published code (github.com/ml-jku/plstm), with their defects.

Published weights were trained with them; nothing else should use them. The docstring of each
function describes its defect; `matrices.py` has the correct functions.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from plstm_seq.layers.transition.matrices import orthogonal_factor, reflection_product, skew_part
from plstm_seq.ops.sequence.levels import small_matmul

_EPS = 1e-3


@jax.jit
def qr(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S J J"]:
    """Return Q of `matrix = Q R` with LAPACK's signs.

    The determinant of Q is then that of J - 1 reflections for almost all matrices. (The published
    code also rounds to float32 first; this function does not.)
    """
    return orthogonal_factor(matrix, lapack_signs=True)


@partial(jax.jit, static_argnames="order")
def exponential_orthogonalization(
    matrix: Float[Array, "*S J J"], factor: float | Float[Array, ""], order: int
) -> Float[Array, "*S J J"]:
    """Return the sum of the first `order` terms of the exponential series.

    Without scaling and squaring, the result is orthogonal only if the norm of
    `factor (matrix - matrix^T)` is small. For large norms it grows like their power `order - 1`.
    """
    skew = factor * skew_part(matrix)
    identity = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)

    def horner(tail: Array, n: Array) -> tuple[Array, None]:
        return identity + small_matmul(skew, tail) / n, None

    start = jnp.broadcast_to(identity, matrix.shape)
    return jax.lax.scan(horner, start, jnp.arange(order - 1, 0, -1))[0]


@jax.jit
def householder_orthogonalization(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S J J"]:
    """Return minus the product of the first `2^floor(log2 J)` reflections along the rows.

    The other rows have no effect, unless J is a power of two. An epsilon of 1e-5 in the lengths
    makes the result orthogonal only to 1e-4.
    """
    kept = matrix[..., : 2 ** int(math.log2(matrix.shape[-1])), :]
    directions = kept / (jnp.linalg.norm(kept, axis=-1, keepdims=True) + 1e-5)
    return -reflection_product(directions, jnp.full(kept.shape[:-1], 2, matrix.dtype))


@partial(jax.jit, static_argnames="iterations")
def eigenvalue_restriction(
    matrix: Float[Array, "*S J J"], iterations: int
) -> Float[Array, "*S J J"]:
    """Divide by a power iteration's estimate of the largest eigenvalue, if it exceeds 1.

    The iteration looks for a real eigenvalue. If the leading eigenvalues are complex it does not
    find them, and the result may have any spectral radius.
    """
    return matrix / _restriction(matrix, matrix, iterations)


@partial(jax.jit, static_argnames="iterations")
def singularvalue_restriction(
    matrix: Float[Array, "*S J J"], iterations: int
) -> Float[Array, "*S J J"]:
    """Divide by a power iteration's estimate of the largest singular value, if it exceeds 1.

    The estimate is a lower bound, so singular values up to about 1.002 remain.
    """
    gram = small_matmul(matrix, jnp.swapaxes(matrix, -1, -2))
    return matrix / jnp.sqrt(_restriction(matrix, gram, iterations))


def _restriction(matrix: Array, target: Array, iterations: int) -> Array:
    """Estimate the largest eigenvalue of `target`, `[..., 1, 1]`; the result is at least 1.

    The first power iteration is on `target - 1`. The second one is on the target minus a shift: the
    eigenvalue that the first one found if that is below 1, else 1. Close to the identity the result
    is 1.
    """
    identity = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    from_one = target - identity
    start = jnp.arange(1, matrix.shape[-1] + 1, dtype=matrix.dtype)[:, None]
    vector = _power_iteration(
        from_one, jnp.broadcast_to(start, (*matrix.shape[:-1], 1)), iterations
    )
    first = _quadratic_form(vector, from_one)
    shift = jnp.where(first < 0, 1 + first, 1)
    shifted = target - shift * identity
    vector = _power_iteration(shifted, vector, iterations)
    eigenvalue = jnp.maximum(_quadratic_form(vector, shifted) + shift, 1)
    near_identity = jnp.sum(jnp.abs(from_one), axis=(-2, -1), keepdims=True) < _EPS
    return jnp.where(near_identity, 1, eigenvalue)


def _power_iteration(matrix: Array, vector: Array, iterations: int) -> Array:
    def step(vector: Array, _: None) -> tuple[Array, None]:
        image = small_matmul(matrix, vector)
        return image / (jnp.linalg.norm(image, axis=-2, keepdims=True) + _EPS), None

    return jax.lax.scan(step, vector, None, length=iterations)[0]


def _quadratic_form(vector: Array, matrix: Array) -> Array:
    return small_matmul(jnp.swapaxes(vector, -1, -2), small_matmul(matrix, vector))
