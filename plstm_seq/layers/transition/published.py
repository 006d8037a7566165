"""The normalisations of the published code (github.com/ml-jku/plstm), defects included.

They are what published weights were trained with, and nothing else should use them. What is wrong
with each is said in its docstring; `matrices.py` has the sound functions.
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
    """Return Q with LAPACK's signs: the determinant is that of J - 1 reflections for almost all.

    (The published code also rounds to float32 first; this does not.)
    """
    return orthogonal_factor(matrix, lapack_signs=True)


@partial(jax.jit, static_argnames="order")
def exponential_orthogonalization(
    matrix: Float[Array, "*S J J"], factor: float | Float[Array, ""], order: int
) -> Float[Array, "*S J J"]:
    """Return the first `order` terms of the exponential series, without scaling and squaring.

    Orthogonal only while the norm of `factor (matrix - matrix^T)` is small; grows like its power
    `order - 1` beyond.
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

    The rest is dropped, so unless J is a power of two rows have no effect; an epsilon of 1e-5 in
    the lengths leaves it orthogonal to 1e-4 only.
    """
    kept = matrix[..., : 2 ** int(math.log2(matrix.shape[-1])), :]
    directions = kept / (jnp.linalg.norm(kept, axis=-1, keepdims=True) + 1e-5)
    return -reflection_product(directions, jnp.full(kept.shape[:-1], 2, matrix.dtype))


@partial(jax.jit, static_argnames="iterations")
def eigenvalue_restriction(
    matrix: Float[Array, "*S J J"], iterations: int
) -> Float[Array, "*S J J"]:
    """Divide by a power iteration's estimate of the largest eigenvalue, where that exceeds 1.

    The iteration looks for a real eigenvalue: it finds none where the leading ones are complex,
    and the result may have any spectral radius.
    """
    return matrix / _restriction(matrix, matrix, iterations)


@partial(jax.jit, static_argnames="iterations")
def singularvalue_restriction(
    matrix: Float[Array, "*S J J"], iterations: int
) -> Float[Array, "*S J J"]:
    """Divide by a power iteration's estimate of the largest singular value, where that exceeds 1.

    The estimate is from below: singular values up to about 1.002 remain.
    """
    gram = small_matmul(matrix, jnp.swapaxes(matrix, -1, -2))
    return matrix / jnp.sqrt(_restriction(matrix, gram, iterations))


def _restriction(matrix: Array, target: Array, iterations: int) -> Array:
    """The largest eigenvalue of `target`, at least 1, `[..., 1, 1]`; 1 near the identity.

    Two power iterations, on `target - 1` and then, should the first have found a negative
    eigenvalue, on the target shifted by that.
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
