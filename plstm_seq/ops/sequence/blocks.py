"""Lower block-triangular matrices of a chunk as a tree: a diagonal and the blocks below it.

A matrix [c, L, X, L, Y] (rows of L steps times X, columns of L steps times Y) is cut like the tree
of `levels`: on the level of blocks of b steps, the block of a right sibling's rows and its left
sibling's columns, [c, P/2, b, X, b, Y].
"""

import jax.numpy as jnp
from jax import Array


def split(matrix: Array) -> tuple[Array, tuple[Array, ...]]:
    """The diagonal [c, L, X, Y] and the sibling blocks, from single steps upwards."""
    blocks = matrix[:, None]
    siblings = []
    while (half := blocks.shape[2] // 2) > 0:
        siblings.append(blocks[:, :, half:, :, :half])
        left, right = blocks[:, :, :half, :, :half], blocks[:, :, half:, :, half:]
        blocks = _interleave(left, right)
    return blocks[:, :, 0, :, 0], tuple(reversed(siblings))


def join(diagonal: Array, siblings: tuple[Array, ...]) -> Array:
    """The inverse of `split`; above the diagonal stand zeros."""
    blocks = diagonal[:, :, None, :, None]
    for lower in siblings:
        left, right = blocks[:, 0::2], blocks[:, 1::2]
        upper_rows = jnp.concatenate([left, jnp.zeros_like(lower)], axis=4)
        lower_rows = jnp.concatenate([lower, right], axis=4)
        blocks = jnp.concatenate([upper_rows, lower_rows], axis=2)
    return blocks[:, 0]


def _interleave(left: Array, right: Array) -> Array:
    """left 0, right 0, left 1, ... along the axis of blocks."""
    c, blocks, *rest = left.shape
    return jnp.stack([left, right], axis=2).reshape(c, 2 * blocks, *rest)
