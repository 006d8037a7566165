"""From networkx graphs and undirected edge arrays to a directed acyclic graph."""

from collections.abc import Hashable, Sequence

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from plstm_seq.graphs.line_graph import LineGraph, Mode, index_pairs, line_graph


def from_networkx(
    graph: nx.Graph, *, order: Sequence[Hashable] | None = None, mode: Mode = "P"
) -> LineGraph:
    """Node i is the i-th of `graph.nodes`, whatever its label, and edge i of `graph.edges`.

    Args:
        graph: a directed one keeps its directions, an undirected one is given them: every edge
            from its earlier to its later node.
        order: of the nodes of an undirected graph; None: that of `graph.nodes`.
        mode: as in `line_graph`.

    Raises:
        ValueError: the graph has no node or a cycle, an edge joins a node to itself, or `order`
            is not one of the nodes, or is given for a directed graph.
    """
    place = {node: i for i, node in enumerate(graph.nodes)}
    pairs = [(place[u], place[v]) for u, v in graph.edges()]
    edge_index = np.asarray(pairs, np.int32).reshape(-1, 2).T
    if graph.is_directed():
        if order is not None:
            raise ValueError("order is given for a directed graph, which keeps its directions")
        return line_graph(edge_index, len(place), mode=mode)
    ranks = np.arange(len(place))
    if order is not None:
        if len(order) != len(place) or set(order) != set(place):
            raise ValueError(f"order is {list(order)}: every node once is expected, {list(place)}")
        ranks[[place[node] for node in order]] = np.arange(len(place))
    return line_graph(_ascending(edge_index, ranks), len(place), mode=mode)


def orient(
    edge_index: ArrayLike, order: ArrayLike | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Directs undirected edges from the earlier to the later node, each pair of nodes once.

    Args:
        edge_index: ends, [2, n]; an edge may be named in one direction or in both.
        order: the nodes in their order, [N]; None: by number.

    Returns:
        Edges in the order in which they first come, [2, E], and where each is in the input, [E]:
        `features[first]` are theirs.

    Raises:
        ValueError: an edge joins a node to itself, or `order` is not one.
    """
    pairs = np.stack(index_pairs("edge_index", edge_index))
    if pairs.min(initial=0) < 0:
        raise ValueError(f"edge_index names node {pairs.min()}: nodes are counted from 0")
    ranks = np.arange(pairs.max(initial=-1) + 1)
    if order is not None:
        places = np.asarray(order)
        if not np.array_equal(np.sort(places), np.arange(places.size)) or places.size < ranks.size:
            raise ValueError(
                f"order is {places.tolist()}: the nodes from 0 on, each once, expected"
            )
        ranks = np.argsort(places)
    _, first = np.unique(_ascending(pairs, ranks), axis=1, return_index=True)
    first = np.sort(first).astype(np.int32)
    return _ascending(pairs[:, first], ranks), first


def _ascending(pairs: NDArray[np.int32], ranks: NDArray[np.intp]) -> NDArray[np.int32]:
    loops = np.flatnonzero(pairs[0] == pairs[1])
    if loops.size:
        raise ValueError(f"edge {loops[0]} joins node {pairs[0, loops[0]]} to itself")
    turned = ranks[pairs[0]] > ranks[pairs[1]]
    return np.where(turned, pairs[::-1], pairs)
