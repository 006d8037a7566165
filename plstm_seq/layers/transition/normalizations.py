"""The normalisations of `Factorized`, from any `[..., J, J]` to one that does not grow a state.

The names are the published ones, the functions are ours; `published.py` has the published ones.
They are compiled, so that calls from a notebook compile each of them once for a shape.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from plstm_seq.layers.transition.exponential import exponential_of_skew
from plstm_seq.layers.transition.reflections import orthogonal_factor, reflection_product, unit
from plstm_seq.layers.transition.spectrum import spectral_norm, spectral_radius


@jax.jit
def qr(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S J J"]:
    """Return Q of `matrix = Q R` with a positive diagonal of R, in the type of `matrix`."""
    return orthogonal_factor(matrix)


@jax.jit
def eigenvalue_restriction(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S J J"]:
    """Divide by the spectral radius where that exceeds 1."""
    return matrix / jnp.maximum(spectral_radius(matrix), 1)[..., None, None]


@jax.jit
def singularvalue_restriction(
    matrix: Float[Array, "*S J J"], bound: float | Float[Array, ""] = 1.0
) -> Float[Array, "*S J J"]:
    """Scale back to spectral norm `bound` where the norm exceeds it."""
    return matrix / jnp.maximum(spectral_norm(matrix) / bound, 1)[..., None, None]


@jax.jit
def householder_orthogonalization(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S J J"]:
    """Return `-H_1 ... H_J`, `H_i` the reflection along row i: a rotation, 1 for the identity."""
    return -reflection_product(unit(matrix), jnp.full(matrix.shape[:-1], 2, matrix.dtype))


@jax.jit
def exponential_orthogonalization(
    matrix: Float[Array, "*S J J"], factor: float | Float[Array, ""] = 1.0
) -> Float[Array, "*S J J"]:
    """Return `exp(factor (matrix - matrix^T))`, a rotation."""
    return exponential_of_skew(factor * skew_part(matrix))


def skew_part(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S J J"]:
    """Return `matrix - matrix^T`."""
    return matrix - jnp.swapaxes(matrix, -1, -2)
