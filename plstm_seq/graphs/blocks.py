"""The order in which line-graph edges are gone through: levels cut into blocks of one size."""

import numpy as np

from plstm_seq.graphs.order import Index

WIDEST = 256


def in_blocks(level: Index, width: int | None = None) -> Index:
    """Groups lines by the level of the edge they lead to, each level in blocks of its own.

    Together the blocks hold fewer empty places than one block a level.

    Args:
        level: of the edge that each line leads to, [P].
        width: of a block; None: the mean of a level's lines, rounded up to a power of two, and
            `WIDEST` at most.

    Returns:
        [steps, width], lines in ascending order of level; an empty place is P.
    """
    levels, group, counts = np.unique(level, return_inverse=True, return_counts=True)
    if width is None:
        mean = -(-level.size // max(levels.size, 1))
        width = min(1 << max(mean - 1, 0).bit_length(), WIDEST)
    per_level = -(-counts // width)
    blocks = np.full((int(per_level.sum()), width), level.size, np.int32)
    lines = np.argsort(group, kind="stable")
    first = np.cumsum(per_level) - per_level
    within = np.arange(level.size) - np.repeat(np.cumsum(counts) - counts, counts)
    blocks.reshape(-1)[np.repeat(first, counts) * width + within] = lines
    return blocks
