"""Spectral norm and spectral radius of small matrices, without a decomposition."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from plstm_seq.ops.sequence.levels import small_matmul

# The norm is too large by a factor of J ** (2 ** -25) at most, that is by less than 7e-8 at J = 8.
_NORM_SQUARINGS = 24
# The radius of a normal matrix is too large by a factor of J ** (2 ** -13) at most: 3e-4 at J = 8.
_RADIUS_SQUARINGS = 12


@jax.custom_vjp
def spectral_norm(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S"]:
    """Bound the largest singular value from above, so closely that it may be taken for it.

    `trace((M^T M)^N)^(1 / 2N)` with `N = 2^24`, by repeated squaring, is at least the norm and at
    most `J^(1 / 2N)` times it. The power itself, scaled to trace 1, is the projector on the
    leading singular vectors that the gradient asks for; where several singular values are equal
    the gradient is the mean of theirs.

    Args:
        matrix: `[..., J, J]` in float32 or float64.

    Returns:
        `[...]`; 0 with gradient 0 for a zero matrix.
    """
    return _norm_and_projector(matrix)[0]


def _norm_and_projector(matrix: Array) -> tuple[Array, Array]:
    size = jnp.max(jnp.abs(matrix), axis=(-2, -1), keepdims=True)
    unit = matrix / jnp.where(size > 0, size, 1)
    gram = small_matmul(jnp.swapaxes(unit, -1, -2), unit)
    trace = _trace(gram)
    gram = gram / jnp.where(trace > 0, trace, 1)

    def square(step: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        power, log_norm = carry
        power = small_matmul(power, power)
        trace = jnp.where(size > 0, _trace(power), 1)
        # The trace of step s enters the root of order 2N = 2^(s + 2) of the whole.
        weight = jnp.exp2(-(step + 2).astype(matrix.dtype))
        return power / trace, log_norm + weight * jnp.log(trace)

    start = (gram, jnp.zeros_like(trace))
    projector, log_norm = jax.lax.fori_loop(0, _NORM_SQUARINGS, square, start)
    norm = size * jnp.sqrt(trace) * jnp.exp(log_norm)
    return norm[..., 0, 0], projector


def _norm_forward(matrix: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    norm, projector = _norm_and_projector(matrix)
    return norm, (matrix, norm, projector)


def _norm_backward(residuals: tuple[Array, Array, Array], cotangent: Array) -> tuple[Array]:
    matrix, norm, projector = residuals
    rate = cotangent / jnp.where(norm > 0, norm, 1)
    return (rate[..., None, None] * small_matmul(matrix, projector),)


spectral_norm.defvjp(_norm_forward, _norm_backward)


def spectral_radius(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S"]:
    """Bound the largest modulus of an eigenvalue from above: `|M^N|_F^(1/N)`, `N = 2^12`.

    Gelfand's formula; never below the radius, and within 0.1 % of it unless the eigenvectors
    are almost parallel.

    Args:
        matrix: `[..., J, J]` in float32 or float64.

    Returns:
        `[...]`, positive (tiny for a nilpotent matrix).
    """

    def square(carry: tuple[Array, Array], weight: Array) -> tuple[tuple[Array, Array], None]:
        power, log_radius = carry
        power = small_matmul(power, power)
        size = _frobenius(power)
        return (power / size, log_radius + weight * jnp.log(size)), None

    size = _frobenius(matrix)
    weights = jnp.exp2(-jnp.arange(1, _RADIUS_SQUARINGS + 1, dtype=matrix.dtype))
    (_, log_radius), _ = jax.lax.scan(square, (matrix / size, jnp.log(size)), weights)
    return jnp.exp(log_radius)[..., 0, 0]


def _trace(matrix: Array) -> Array:
    return jnp.trace(matrix, axis1=-2, axis2=-1)[..., None, None]


def _frobenius(matrix: Array) -> Array:
    squares = jnp.sum(matrix * matrix, axis=(-2, -1), keepdims=True)
    return jnp.sqrt(jnp.maximum(squares, jnp.finfo(matrix.dtype).tiny))
