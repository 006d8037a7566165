"""Pruning to a multitree: between any two nodes at most one path is left."""

import numpy as np
from numpy.typing import NDArray

from plstm_seq.graphs.order import Index, generations, grouped


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
    """
    order, _ = generations(tail, head, nodes)
    if order.size < nodes:
        raise ValueError("the graph has a cycle: a multitree is made of an acyclic one")
    if min(np.bincount(ends, minlength=1).max() for ends in (tail, head)) <= 1:
        return np.ones(tail.size, bool)  # trees, all directed one way
    # A set of nodes is an integer, whose bit at a node's position in the order says it is in it.
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
