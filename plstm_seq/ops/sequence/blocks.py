"""Lower block-triangular matrices of a chunk as a tree: a diagonal and the blocks below it.

A matrix [c, L, X, L, Y] (rows of L steps times X, columns of L steps times Y) is cut like the tree
of `levels`. On the level whose blocks have b steps, a part [c, P/2, b, X, b, Y] has the rows of a
right sibling and the columns of its left sibling.

A product with such a matrix also multiplies by the zeros above the diagonal, and zero times
infinity is NaN. `reaching` therefore replaces numbers in the other factor that are not finite, and
marks the results that depend on them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array


def split(matrix: Array) -> tuple[Array, tuple[Array, ...]]:
    """Returns the diagonal [c, L, X, Y] and the sibling blocks, from single steps upwards."""
    blocks = matrix[:, None]
    siblings = []
    while (half := blocks.shape[2] // 2) > 0:
        siblings.append(blocks[:, :, half:, :, :half])
        left, right = blocks[:, :, :half, :, :half], blocks[:, :, half:, :, half:]
        blocks = _interleave(left, right)
    return blocks[:, :, 0, :, 0], tuple(reversed(siblings))


def join(diagonal: Array, siblings: tuple[Array, ...]) -> Array:
    """Inverts `split`; the result has zeros above the diagonal."""
    blocks = diagonal[:, :, None, :, None]
    for lower in siblings:
        left, right = blocks[:, 0::2], blocks[:, 1::2]
        upper_rows = jnp.concatenate([left, jnp.zeros_like(lower)], axis=4)
        lower_rows = jnp.concatenate([lower, right], axis=4)
        blocks = jnp.concatenate([upper_rows, lower_rows], axis=2)
    return blocks[:, 0]


def reaching(
    x: Array, *, diagonal: bool, backwards: bool = False
) -> tuple[Array, Callable[[Array], Array]]:
    """Makes the factor `x` of a matrix finite, and returns a function that restores NaN afterwards.

    Args:
        x: [c, L, *X, F]; the product sums over steps and over X.
        diagonal: whether a step depends on itself, or only on the steps before it.
        backwards: whether the matrix is transposed, so that steps depend on the steps after them.

    Returns:
        x with zeros in place of numbers that are not finite; and a function that takes the product
        [c, L, *Y, F] and puts NaN wherever it sums over a number that was not finite.
    """
    # Cotangents may be constants; without the barrier XLA would spend seconds on folding the flags.
    bad = ~jnp.isfinite(jax.lax.optimization_barrier(x))
    reached = bad.any(tuple(range(2, x.ndim - 1)))
    distance = 1
    while distance < x.shape[1]:
        reached |= _moved(reached, distance, backwards)
        distance *= 2
    if not diagonal:
        reached = _moved(reached, 1, backwards)

    def spoil(product: Array) -> Array:
        between = tuple(range(2, product.ndim - 1))
        return jnp.where(jnp.expand_dims(reached, between), jnp.nan, product)

    return jnp.where(bad, 0, x), spoil


def _moved(flags: Array, steps: int, backwards: bool) -> Array:
    """Shifts flags [c, L, F] to later steps, or to earlier ones if `backwards`."""
    length = flags.shape[1]
    parts, widths = (slice(steps, None), (0, steps)) if backwards else (slice(-steps), (steps, 0))
    return jnp.pad(flags[:, parts], [(0, 0), widths, (0, 0)]) if steps < length else flags & False


def _interleave(left: Array, right: Array) -> Array:
    """Interleaves blocks along their axis: left 0, right 0, left 1, ..."""
    c, blocks, *rest = left.shape
    return jnp.stack([left, right], axis=2).reshape(c, 2 * blocks, *rest)
