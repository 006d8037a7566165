"""Topological order and depth of every node of a directed graph."""

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int32]


def generations(tail: Index, head: Index, nodes: int) -> tuple[Index, Index]:
    """A topological order, shallow nodes first, and the depth of every node.

    Nodes of equal depth come in the order in which a walk over the shallower ones completes them,
    as in networkx's `topological_sort`.

    Args:
        tail: the node each edge leaves, [E].
        head: the node it enters, [E].
        nodes: how many there are.

    Returns:
        The order, shorter than `nodes` where there is a cycle: it lacks the nodes of a cycle and
        those behind one. And the number of edges of the longest path to each node, [nodes].
    """
    following, starts = grouped(tail, head, nodes)
    missing = np.bincount(head, minlength=nodes).tolist()
    depth = [0] * nodes
    order = [node for node in range(nodes) if not missing[node]]
    for node in order:
        for follower in following[starts[node] : starts[node + 1]]:
            missing[follower] -= 1
            if not missing[follower]:
                # The last one to come before it is a deepest one.
                depth[follower] = depth[node] + 1
                order.append(follower)
    return np.asarray(order, np.int32), np.asarray(depth, np.int32)


def grouped(by: Index, values: Index, count: int) -> tuple[list[int], list[int]]:
    """Values in groups, in the order given within one; group g is `[starts[g]:starts[g + 1]]`."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(by, minlength=count))])
    return values[np.argsort(by, kind="stable")].tolist(), starts.tolist()


def rank_within(by: Index) -> Index:
    """The number of earlier entries of the same group, for every entry."""
    order = np.argsort(by, kind="stable")
    sizes = np.bincount(by)
    rank = np.empty_like(by)
    rank[order] = np.arange(by.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank
