"""The level algebra of a chunk's gates at full resolution, up the levels and back down.

A gate is [I, J, R, L]: R sequences are in the sublanes, the L steps of a chunk are in the lanes,
and every component is an array of its own. Products of `JT x JT` matrices are therefore
multiply-adds of whole registers, and transposes cost nothing.

On level l blocks have 2^l steps, and every step holds the transition of its whole block. A step is
`right` if its block is a right sibling. On the way up its mark is then multiplied by the transition
TL of the left sibling; otherwise its source is multiplied by the transition TR of the right
sibling. Both are one product:

    G = right ? TL^T : TR        crossing = right ? mark^T : source        moved = G crossing

The contraction on a level needs only the marks of right steps and the sources of left steps, which
`crossing` contains. Marks are stored transposed, [JT, JO]; marks and sources are padded to the same
width.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.pallas import tpu as pltpu

from plstm_seq.ops.sequence.mosaic_tpu.products import add


class Ends(NamedTuple):
    """Transposed marks and sources of a level, or their cotangents; both are [JT, J, R, L]."""

    mark: Array
    source: Array


def climb(ends: Ends, transition: Array, level: Array | int) -> tuple[Array, Ends, Array]:
    """Climbs one level.

    Args:
        ends: marks and sources of this level.
        transition: the transition of every step's block on this level, [JT, JT, R, L].
        level: this level.

    Returns:
        The crossing of this level, [JT, J, R, L], then `ends` and `transition` of the next one.
    """
    right, sibling = _siblings(transition, level)
    crossing = jnp.where(right, ends.mark, ends.source)
    moved = product(jnp.where(right, flip(sibling), sibling), crossing)
    ends = Ends(jnp.where(right, moved, ends.mark), jnp.where(right, ends.source, moved))
    later = jnp.where(right, transition, sibling)
    earlier = jnp.where(right, sibling, transition)
    return crossing, ends, product(later, earlier)


def descend(
    ends_bar: Ends,
    spread: Array,
    crossing_bar: Array,
    crossing: Array,
    transition: Array,
    level: Array | int,
) -> tuple[Ends, Array]:
    """Computes the transpose of `climb`.

    The cotangent of a block's transition is spread over the steps of the block: it is the sum of
    the steps' numbers, and this sum is never computed. On level 0 a block is one step.

    Args:
        ends_bar: cotangents of the next level's marks and sources.
        spread: spread cotangents of the next level's transitions, [JT, JT, R, L].
        crossing_bar: cotangent of this level's crossing, from the contraction.
        crossing: the crossing that `climb` returned.
        transition: the transition that `climb` was given.
        level: this level.

    Returns:
        The cotangents of `ends`, and the spread cotangent of `transition`.
    """
    right, sibling = _siblings(transition, level)
    back = jnp.where(right, sibling, flip(sibling))
    moved_bar = jnp.where(right, ends_bar.mark, ends_bar.source)
    crossing_bar = crossing_bar + product(back, moved_bar)
    ends_bar = Ends(
        jnp.where(right, crossing_bar, ends_bar.mark),
        jnp.where(right, ends_bar.source, crossing_bar),
    )
    # A step's crossing is multiplied by a gate that belongs to the sibling.
    gate_bar = product(moved_bar, flip(crossing))
    gate_bar = jnp.where(right, flip(gate_bar), gate_bar)
    both = spread + _partner(spread, right, level)
    inner = product(back, jnp.where(right, flip(both), both))
    spread = jnp.where(right, flip(inner), inner) + _partner(gate_bar, right, level)
    return ends_bar, spread


def product(a: Array, b: Array) -> Array:
    """Multiplies matrices of components, [I, K, R, L] and [K, J, R, L] -> [I, J, R, L]."""
    return add(a[:, k][:, None] * b[k][None] for k in range(len(b)))


def flip(a: Array) -> Array:
    """Transposes matrices of components, [I, J, R, L] -> [J, I, R, L]."""
    return jnp.stack([a[:, j] for j in range(a.shape[1])])


def widen(gate: Array, width: int) -> Array:
    """Appends columns of zeros, [I, J, R, L] -> [I, width, R, L]."""
    missing = width - gate.shape[1]
    if not missing:
        return gate
    zeros = jnp.zeros((gate.shape[0], missing, *gate.shape[2:]), gate.dtype)
    return jnp.concatenate([gate, zeros], axis=1)


def _siblings(transition: Array, level: Array | int) -> tuple[Array, Array]:
    """Returns whether each step is right, and the transition of its sibling block."""
    lane = jax.lax.broadcasted_iota(jnp.int32, transition.shape[-2:], 1)
    right = (lane >> level) & 1 == 1
    return right, _partner(transition, right, level)


def _partner(x: Array, right: Array, level: Array | int) -> Array:
    """Returns the number of the step at the same place of the sibling block."""
    L = x.shape[-1]
    b = jnp.left_shift(jnp.int32(1), level)
    return jnp.where(right, _roll(x, b), _roll(x, L - b))


def _roll(x: Array, shift: Array) -> Array:
    return pltpu.roll(x, shift, x.ndim - 1)
