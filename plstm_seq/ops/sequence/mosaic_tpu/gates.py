"""The level algebra of a chunk's gates at full resolution, up and back down.

A gate is [I, J, R, L]: R sequences in the sublanes, the L steps of a chunk in the lanes, and every
component an array of its own, so that products of `JT x JT` matrices are multiply-adds of whole
registers, and transposes cost nothing.

On level l blocks have 2^l steps, and every step carries the transition of its whole block. A step
is `right` where its block is a right sibling. There its mark passes the left sibling's transition
on the way up; elsewhere its source passes the right sibling's. Both are one product:

    G = right ? TL^T : TR        crossing = right ? mark^T : source        moved = G crossing

Only the marks of right steps and the sources of left steps meet on a level, so `crossing` is also
all that the contraction needs of it. Marks are held transposed, [JT, JO], and padded to the width
of the sources, or these to theirs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.pallas import tpu as pltpu

from plstm_seq.ops.sequence.mosaic_tpu.products import add


class Ends(NamedTuple):
    """Marks (transposed) and sources of a level, or their cotangents: [JT, J, R, L] both."""

    mark: Array
    source: Array


def climb(ends: Ends, transition: Array, level: Array | int) -> tuple[Array, Ends, Array]:
    """One level up.

    Args:
        ends: of this level.
        transition: of every step's block on this level, [JT, JT, R, L].
        level: this level.

    Returns:
        What crosses on this level, [JT, J, R, L], then `ends` and `transition` of the next one.
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
    """The transpose of `climb`.

    The cotangent of a block's transition is kept spread over the steps of the block: it is their
    sum, and no step knows it. On level 0 a block is a step.

    Args:
        ends_bar: cotangents of the next level's marks and sources.
        spread: of the next level's transitions, [JT, JT, R, L].
        crossing_bar: of what crosses on this level, from the contraction.
        crossing: as `climb` returned it.
        transition: as `climb` was given it.
        level: this level.

    Returns:
        Cotangents of `ends`, and that of `transition`, spread.
    """
    right, sibling = _siblings(transition, level)
    back = jnp.where(right, sibling, flip(sibling))
    moved_bar = jnp.where(right, ends_bar.mark, ends_bar.source)
    crossing_bar = crossing_bar + product(back, moved_bar)
    ends_bar = Ends(
        jnp.where(right, crossing_bar, ends_bar.mark),
        jnp.where(right, ends_bar.source, crossing_bar),
    )
    # The gate that a step moved by belongs to its sibling.
    gate_bar = product(moved_bar, flip(crossing))
    gate_bar = jnp.where(right, flip(gate_bar), gate_bar)
    both = spread + _partner(spread, right, level)
    inner = product(back, jnp.where(right, flip(both), both))
    spread = jnp.where(right, flip(inner), inner) + _partner(gate_bar, right, level)
    return ends_bar, spread


def product(a: Array, b: Array) -> Array:
    """Matrix products of components, [I, K, R, L] and [K, J, R, L] -> [I, J, R, L]."""
    return add(a[:, k][:, None] * b[k][None] for k in range(len(b)))


def flip(a: Array) -> Array:
    """The transposes, [I, J, R, L] -> [J, I, R, L]."""
    return jnp.stack([a[:, j] for j in range(a.shape[1])])


def widen(gate: Array, width: int) -> Array:
    """Zero columns behind, [I, J, R, L] -> [I, width, R, L]."""
    missing = width - gate.shape[1]
    if not missing:
        return gate
    zeros = jnp.zeros((gate.shape[0], missing, *gate.shape[2:]), gate.dtype)
    return jnp.concatenate([gate, zeros], axis=1)


def _siblings(transition: Array, level: Array | int) -> tuple[Array, Array]:
    """Whether a step is right, and the transition of its sibling block."""
    lane = jax.lax.broadcasted_iota(jnp.int32, transition.shape[-2:], 1)
    right = (lane >> level) & 1 == 1
    return right, _partner(transition, right, level)


def _partner(x: Array, right: Array, level: Array | int) -> Array:
    """What the step at the same place of the sibling block has."""
    L = x.shape[-1]
    b = jnp.left_shift(jnp.int32(1), level)
    return jnp.where(right, _roll(x, b), _roll(x, L - b))


def _roll(x: Array, shift: Array) -> Array:
    return pltpu.roll(x, shift, x.ndim - 1)
