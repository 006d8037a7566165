"""The inverse of small triangular matrices, by products alone."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from plstm_seq.ops.products import einsum, small_matmul

_LARGEST_UNROLLED = 8


@jax.custom_vjp
def unit_triangular_inverse(strict: Float[Array, "*B L L"]) -> Float[Array, "*B L L"]:
    """Return `(1 + strict)^-1` for strictly lower triangular matrices.

    Blocks on the diagonal are inverted in pairs, `[[A, 0], [C, B]]^-1 = [[A^-1, 0], [-B^-1 C A^-1,
    B^-1]]`, from blocks of one on: log2 L batches of products, where LAPACK would take the matrices
    one by one.

    Args:
        strict: [*B, L, L]; what is on or above the diagonal is not read.

    Returns:
        [*B, L, L], lower triangular with a diagonal of ones.
    """
    length = strict.shape[-1]
    whole = 1 << (length - 1).bit_length()
    missing = [(0, 0)] * (strict.ndim - 2) + [(0, whole - length)] * 2
    strict = jnp.pad(strict, missing)
    lead = strict.shape[:-2]
    inverse = jnp.ones((*lead, whole, 1, 1), strict.dtype)
    size = 1
    while size < whole:
        pairs = whole // (2 * size)
        blocks = strict.reshape(*lead, pairs, 2, size, pairs, 2, size)
        below = jnp.diagonal(blocks[..., :, 1, :, :, 0, :], axis1=-4, axis2=-2)
        first, second = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        corner = -_product(second, _product(jnp.moveaxis(below, -1, -3), first))
        inverse = jnp.concatenate(
            [
                jnp.concatenate([first, jnp.zeros_like(first)], axis=-1),
                jnp.concatenate([corner, second], axis=-1),
            ],
            axis=-2,
        )
        size *= 2
    return inverse[..., 0, :length, :length]


def _forward(strict: Array) -> tuple[Array, Array]:
    inverse = unit_triangular_inverse(strict)
    return inverse, inverse


def _backward(inverse: Array, cotangent: Array) -> tuple[Array]:
    gradient = -einsum("...ji,...jk,...lk->...il", inverse, cotangent, inverse)
    return (jnp.tril(gradient, -1),)


unit_triangular_inverse.defvjp(_forward, _backward)


def _product(left: Array, right: Array) -> Array:
    if left.shape[-1] <= _LARGEST_UNROLLED:
        return small_matmul(left, right)
    return einsum("...ij,...jk->...ik", left, right)
