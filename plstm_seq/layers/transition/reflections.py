"""Products of reflections, and the orthogonal factor that is one."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from plstm_seq.ops.sequence.levels import small_matmul


def unit(vector: Float[Array, "*S J"]) -> Float[Array, "*S J"]:
    """Scale to length 1; a vector shorter than 1e-10 (in float32) goes smoothly to zero."""
    squares = jnp.sum(vector * vector, axis=-1, keepdims=True)
    return vector * jax.lax.rsqrt(squares + jnp.finfo(vector.dtype).eps ** 3)


def reflection_product(
    directions: Float[Array, "*S N J"], factors: Float[Array, "*S N"]
) -> Float[Array, "*S J J"]:
    """Return `(1 - f_1 k_1 k_1^T) ... (1 - f_N k_N k_N^T)` for directions k and factors f."""

    def step(product: Array, factor: tuple[Array, Array]) -> tuple[Array, None]:
        return small_matmul(product, _reflection(*factor)), None

    steps = (jnp.moveaxis(directions, -2, 0), jnp.moveaxis(factors, -1, 0))
    first = _reflection(*jax.tree.map(lambda x: x[0], steps))
    return jax.lax.scan(step, first, jax.tree.map(lambda x: x[1:], steps))[0]


def orthogonal_factor(
    matrix: Float[Array, "*S J J"], *, lapack_signs: bool = False
) -> Float[Array, "*S J J"]:
    """Return Q of `matrix = Q R`, by Householder reflections.

    Orthogonal to rounding error also where the matrix is singular; there Q jumps.

    Args:
        matrix: `[..., J, J]`.
        lapack_signs: False: the diagonal of R is positive, so Q is that of Gram and Schmidt, the
            identity for a triangular matrix with positive diagonal, and its determinant has the
            sign of the matrix's. True: the signs of LAPACK, hence of `jnp.linalg.qr`.

    Returns:
        `[..., J, J]`.
    """
    dim = matrix.shape[-1]
    index = jnp.arange(dim)

    def eliminate(rows: Array, j: Array) -> tuple[Array, Array]:
        """Reflect column j of what R has become (row j of its transpose) onto its diagonal."""
        row = jax.lax.dynamic_index_in_dim(rows, j, axis=-2, keepdims=False)
        column = jnp.where(index >= j, row, 0)
        sign = _sign(jax.lax.dynamic_index_in_dim(column, j, axis=-1, keepdims=False))
        squares = jnp.sum(column * column, axis=-1)
        length = jnp.sqrt(jnp.where(squares > 0, squares, 1))
        vector = column + jnp.where(index == j, (sign * length)[..., None], 0)
        direction = vector * jax.lax.rsqrt(jnp.sum(vector * vector, axis=-1, keepdims=True))
        rows = small_matmul(rows, _reflection(direction, jnp.full_like(length, 2)))
        # The reflection makes the diagonal entry of R -sign * length; LAPACK leaves out one that
        # has nothing to eliminate.
        nothing = jnp.all(jnp.where(index > j, column, 0) == 0, axis=-1)
        return rows, jnp.where(nothing, -1, 1).astype(sign.dtype) if lapack_signs else -sign

    identity = jnp.broadcast_to(jnp.eye(dim, dtype=matrix.dtype), matrix.shape)
    # Transposed R above Q: the reflections act on the rows of both.
    rows = jnp.concatenate([jnp.swapaxes(matrix, -1, -2), identity], axis=-2)
    rows, signs = jax.lax.scan(eliminate, rows, jnp.arange(dim - 1))
    last = rows[..., dim - 1, dim - 1]
    last = jnp.ones_like(last) if lapack_signs else _sign(last)
    signs = jnp.concatenate([signs, last[None]])
    return rows[..., dim:, :] * jnp.moveaxis(signs, 0, -1)[..., None, :]


def _reflection(direction: Array, factor: Array) -> Array:
    """`1 - factor k k^T` of k [..., J] and factor [...], [..., J, J]."""
    row = direction[..., None, :]
    outer = small_matmul(jnp.swapaxes(factor[..., None, None] * row, -1, -2), row)
    return jnp.eye(direction.shape[-1], dtype=outer.dtype) - outer


def _sign(x: Array) -> Array:
    """The sign with sign(0) = 1."""
    return jnp.where(x >= 0, 1, -1).astype(x.dtype)
