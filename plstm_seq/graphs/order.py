"""Orders nodes and lines topologically, and prunes a graph to a multitree."""

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int32]
WIDEST = 256


def generations(tail: Index, head: Index, nodes: int) -> tuple[Index, Index]:
    """Computes a topological order, shallow nodes first, and the depth of every node.

    Nodes of equal depth come in the order in which a walk over the shallower ones completes them,
    as in networkx's `topological_sort`.

    Args:
        tail: the node that each edge leaves, [E].
        head: the node that each edge enters, [E].
        nodes: the number of nodes.

    Returns:
        The order, and the number of edges of the longest path to each node, [nodes]. If there is a
        cycle, the order lacks its nodes and all that can be reached from them.
    """
    following, starts = grouped(tail, head, nodes)
    missing = np.bincount(head, minlength=nodes).tolist()
    depth = [0] * nodes
    order = [node for node in range(nodes) if not missing[node]]
    for node in order:
        for follower in following[starts[node] : starts[node + 1]]:
            missing[follower] -= 1
            if not missing[follower]:
                # Nodes are visited in order of depth, so this last predecessor is a deepest one.
                depth[follower] = depth[node] + 1
                order.append(follower)
    return np.asarray(order, np.int32), np.asarray(depth, np.int32)


def grouped(by: Index, values: Index, count: int) -> tuple[list[int], list[int]]:
    """Returns the values sorted by group, and `starts`: group g is `[starts[g]:starts[g + 1]]`.

    Within a group the values keep their order.
    """
    starts = np.concatenate([[0], np.cumsum(np.bincount(by, minlength=count))])
    return values[np.argsort(by, kind="stable")].tolist(), starts.tolist()


def rank_within(by: Index) -> Index:
    """Counts, for every entry, the earlier entries of the same group."""
    order = np.argsort(by, kind="stable")
    sizes = np.bincount(by)
    rank = np.empty_like(by)
    rank[order] = np.arange(by.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank


def in_blocks(level: Index, width: int | None = None) -> Index:
    """Groups lines by the level of the edge they lead to; each level has blocks of its own.

    Several blocks per level have fewer empty places than one wide block per level would have.

    Args:
        level: the level of the edge that each line leads to, [P].
        width: the width of a block; None: the mean number of lines per level, rounded up to a power
            of two, at most `WIDEST`.

    Returns:
        The lines in ascending order of level, [steps, width]; an empty place holds P.
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


def multitree(tail: Index, head: Index, nodes: int) -> NDArray[np.bool_]:
    """The edges of a directed acyclic graph that the published greedy pruning keeps.

    Edges are gone through by their tails in topological order; one is kept if it opens no second
    path, that is if no node leads to both of its ends already. On the line graph of a grid this
    keeps both turns in places: it is not the D-mode of `plstm_2d`, which leaves out one turn.

    Args:
        tail: the node each edge leaves, [E].
        head: the node it enters, [E].
        nodes: how many there are.

    Returns:
        Whether each edge is kept, [E].

    Raises:
        ValueError: there is a cycle.

    Example:
        >>> import numpy as np
        >>> from plstm_seq.graphs import multitree
        >>> multitree(np.array([0, 0, 1]), np.array([1, 2, 2]), nodes=3).tolist()
        [True, True, False]
    """
    order, _ = generations(tail, head, nodes)
    if order.size < nodes:
        raise ValueError("tail, head: got a cycle, expected an acyclic graph")
    if min(np.bincount(ends, minlength=1).max() for ends in (tail, head)) <= 1:
        return np.ones(tail.size, bool)  # a forest, whose edges all point to or from the roots
    # A set of nodes is an integer: a bit is 1 if the node at that position of the order is in it.
    leading = [0] * nodes
    edges, starts = grouped(tail, np.arange(tail.size, dtype=np.int32), nodes)
    heads = head.tolist()
    kept = np.zeros(tail.size, bool)
    for position, node in enumerate(order.tolist()):
        mine = leading[node] | 1 << position
        leading[node] = 0
        for edge in edges[starts[node] : starts[node + 1]]:
            if not mine & leading[heads[edge]]:
                leading[heads[edge]] |= mine
                kept[edge] = True
    return kept
