"""The gate algebra of chunks: marks, sources and transitions on every level of a chunk's tree.

README.md, section 2, derives it. The letters are those of `plstm_seq.notation`; there are `c`
chunks of `L` steps, and on each level a chunk has `P` blocks of `b = L / P` steps.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.products import small_matmul


class Crossings(NamedTuple):
    """The gates with which right siblings read from left ones, per level: b = 1, 2, 4, ... steps.

    marks: [c, P/2, b, JO, JQ, JT], marks of right siblings, which read the state at the block's
        start;
    sources: [c, P/2, b, JT, JK, JV], sources of left siblings, which enter the state at the block's
        end.
    """

    marks: tuple[Array, ...]
    sources: tuple[Array, ...]


class Whole(NamedTuple):
    """The gates of whole chunks.

    mark [c, L, JO, JQ, JT] reads the state at the chunk's start; source [c, L, JT, JK, JV] enters
    the state at its end; transition [c, JT, JT] is the product over the chunk.
    """

    mark: Array
    source: Array
    transition: Array


def levels(
    mark: Array, source: Array, transition: Array, real: Array | None = None
) -> tuple[Crossings, Whole]:
    """Climbs the tree of a chunk. Transitions are multiplied and never inverted.

    Args:
        mark: [c, L, JO, JQ, JT], L a power of two.
        source: [c, L, JT, JK, JV].
        transition: [c, L, JT, JT].
        real: [c, L], true for steps that are not padding. The identities of padding are not
            multiplied, since they would spread over JT what is not finite. None: no step is
            padding.

    Returns:
        The crossings from blocks of one step upwards, and the gates of the whole chunks.
    """
    mark, source = mark[:, :, None], source[:, :, None]
    marks, sources = [], []
    while transition.shape[1] > 1:
        (mark_left, mark_right), (source_left, source_right), (first, second) = (
            (x[:, 0::2], x[:, 1::2]) for x in (mark, source, transition)
        )
        marks.append(mark_right)
        sources.append(source_left)
        mark_right = read_through(mark_right, first)
        moved, product = move_on(second, source_left), small_matmul(second, first)
        if real is not None:
            some, real = real[:, 1::2, None, None], real[:, 0::2]
            moved = jnp.where(some[..., None, None], moved, source_left)
            product = jnp.where(some, product, first)
        mark = jnp.concatenate([mark_left, mark_right], axis=2)
        source = jnp.concatenate([moved, source_right], axis=2)
        transition = product
    crossings = Crossings(tuple(marks), tuple(sources))
    return crossings, Whole(mark[:, 0], source[:, 0], transition[:, 0])


def read_through(mark: Array, transition: Array) -> Array:
    """Returns mark [c, P, b, JO, JQ, JT] . transition [c, P, JT, JT]."""
    rows = mark.reshape(*mark.shape[:2], -1, mark.shape[-1])
    return small_matmul(rows, transition).reshape(mark.shape)


def move_on(transition: Array, source: Array) -> Array:
    """Returns transition [c, P, JT, JT] . source [c, P, b, JT, JK, JV]."""
    columns = source.reshape(*source.shape[:4], -1)
    return small_matmul(transition[:, :, None], columns).reshape(source.shape)
