"""The order in which nodes of a directed acyclic graph can be computed."""

from __future__ import annotations

import numpy as np


def node_depths(edge_index: np.ndarray, count: int) -> np.ndarray:
    """Number of edges of the longest path to each node.

    One step a depth, over the edges that leave the nodes of this depth.

    Args:
        edge_index: int `[2, E]`, the node that each edge leaves and the one it enters.
        count: Number of nodes.

    Returns:
        int32 `[count]`.

    Raises:
        ValueError: If edges form a cycle.
    """
    tail, head = edge_index
    leaving = head[np.argsort(tail, kind="stable")]
    degree = np.bincount(tail, minlength=count)
    first = np.cumsum(degree) - degree
    missing = np.bincount(head, minlength=count)
    depth = np.full(count, -1, np.int32)
    ready, step = np.flatnonzero(missing == 0), 0
    while ready.size:
        depth[ready] = step
        entered, numbers = np.unique(
            leaving[ranges(first[ready], degree[ready])], return_counts=True
        )
        missing[entered] -= numbers
        ready, step = entered[missing[entered] == 0], step + 1
    if (depth < 0).any():
        raise ValueError(f"the edges form a cycle, which leads to node {(depth < 0).argmax()}")
    return depth


def ranges(first: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The numbers `first[i] .. first[i] + sizes[i] - 1` for each i, one after another."""
    return np.repeat(first, sizes) + ranks(sizes)


def ranks(sizes: np.ndarray) -> np.ndarray:
    """The numbers `0 .. sizes[i] - 1` for each i, one after another."""
    ends = np.cumsum(sizes)
    return np.arange(sizes.sum()) - np.repeat(ends - sizes, sizes)
