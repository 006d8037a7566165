"""A directed acyclic graph and its line graph as index arrays, from edges or from networkx."""

from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple, get_args

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from plstm_seq.graphs.order import Index, generations, grouped, in_blocks, multitree, rank_within

Mode = Literal["P", "D", "PD"]


class LineGraph(NamedTuple):
    """The index arrays of one graph, or of several side by side: a pytree of int32 arrays.

    N nodes, E edges, P lines (edges of the line graph: pairs of an edge into a node and one out of
    it), G graphs. Nodes, edges and lines keep the order they are given in, and so do their
    features and gates. What is padding has indices behind the last: N, E, P, G.

    Attributes:
        tail: the node that an edge leaves, [E].
        head: the node that it enters, [E].
        out_slot: an edge's rank among those that leave its tail, [E].
        in_slot: an edge's rank among those that enter its head, [E].
        level: number of lines of the longest path to an edge, [E].
        before: the edge that a line comes from, [P].
        after: the edge that it leads to, [P].
        node: the node between them, [P].
        blocks: lines in topological order, [steps, width]; no line of a block leads to an edge that
            one of this block, or of a block before, comes from.
        graph: the graph that a node belongs to, [N].
        sizes: the number of nodes of each graph, [G].
        multitree: 1 for the lines that D-mode keeps, [P]; None: not known (mode P).

    Example:
        >>> from plstm_seq.graphs import LineGraph, line_graph
        >>> path: LineGraph = line_graph([[0, 1, 2], [1, 2, 3]], nodes=4)
        >>> path.before.tolist(), path.after.tolist(), path.node.tolist()
        ([0, 1], [1, 2], [1, 2])
        >>> path.level.tolist()
        [0, 1, 2]
    """

    tail: Index
    head: Index
    out_slot: Index
    in_slot: Index
    level: Index
    before: Index
    after: Index
    node: Index
    blocks: Index
    graph: Index
    sizes: Index
    multitree: Index | None = None


def line_graph(
    edge_index: ArrayLike,
    nodes: int,
    *,
    mode: Mode = "P",
    lines: ArrayLike | None = None,
    width: int | None = None,
    graph: ArrayLike | None = None,
) -> LineGraph:
    """Builds the line graph of a directed acyclic graph, or of several side by side.

    Args:
        edge_index: tails and heads, [2, E]; E may be 0, and a node may have no edge.
        nodes: their number; they are 0 .. nodes - 1. There may be none where `graph` is an empty
            array: no graphs.
        mode: P keeps every line, D prunes them to a multitree (`multitree`); PD keeps every
            line and marks those of D, for models with layers of both modes.
        lines: pairs of edges, [2, P], where not all that meet in a node are to be joined; None: all
            of them, ordered by the first and then the second edge.
        width: of the blocks; None: chosen (`in_blocks`).
        graph: the graph that each node belongs to, [N], 0 to G - 1; None: one graph.

    Raises:
        ValueError: there is no node and no `graph`, an edge names an unknown one, the edges form a
            cycle, a line joins edges that do not meet, or an edge joins two graphs.

    Example:
        >>> from plstm_seq.graphs import line_graph
        >>> diamond = [[0, 0, 1, 2], [1, 2, 3, 3]]
        >>> graph = line_graph(diamond, nodes=4)
        >>> list(zip(graph.before.tolist(), graph.after.tolist(), strict=True))
        [(0, 2), (1, 3)]
    """
    tail, head = index_pairs("edge_index", edge_index)
    if nodes < (1 if graph is None else 0):
        raise ValueError(f"nodes: got {nodes}, expected at least 1")
    _check_range("edge", (tail, head), "node", nodes)
    _check_acyclic(tail, head, nodes)
    if lines is None:
        before, after = _all_lines(tail, head, nodes)
    else:
        before, after = index_pairs("lines", lines)
        _check_range("line", (before, after), "edge", tail.size)
        apart = np.flatnonzero(head[before] != tail[after])
        if apart.size:
            d, e = before[apart[0]], after[apart[0]]
            raise ValueError(
                f"line {apart[0]} joins edge {d} into node {head[d]} to edge {e} out of node "
                f"{tail[e]}: the two are one node in a line graph"
            )
    if mode not in get_args(Mode):
        raise ValueError(f"mode: got {mode!r}, expected one of {', '.join(get_args(Mode))}")
    tree = None if mode == "P" else multitree(before, after, tail.size).astype(np.int32)
    if tree is not None and mode == "D":
        before, after, tree = (x[tree == 1] for x in (before, after, tree))
    of_node, sizes = _several(graph, nodes, tail, head)
    _, level = generations(before, after, tail.size)
    return LineGraph(
        tail=tail,
        head=head,
        out_slot=rank_within(tail),
        in_slot=rank_within(head),
        level=level,
        before=before,
        after=after,
        node=head[before],
        blocks=in_blocks(level[after], width),
        graph=of_node,
        sizes=sizes,
        multitree=tree,
    )


def from_networkx(
    graph: nx.Graph, *, order: Sequence[Hashable] | None = None, mode: Mode = "P"
) -> LineGraph:
    """Builds the line graph of a networkx graph.

    Node i is the i-th of `graph.nodes`, whatever its label, and edge i the i-th of `graph.edges`.

    Args:
        graph: a directed graph keeps its directions; in an undirected one every edge is directed
            from its earlier to its later node.
        order: the order of the nodes of an undirected graph; None: that of `graph.nodes`.
        mode: as in `line_graph`.

    Raises:
        ValueError: the graph has no node or a cycle, an edge joins a node to itself, or `order`
            is not one of the nodes, or is given for a directed graph.

    Example:
        >>> import networkx as nx
        >>> from plstm_seq.graphs import from_networkx
        >>> graph = from_networkx(nx.DiGraph([("a", "b"), ("b", "c")]))
        >>> graph.tail.tolist(), graph.head.tolist()
        ([0, 1], [1, 2])
    """
    place = {node: i for i, node in enumerate(graph.nodes)}
    pairs = [(place[u], place[v]) for u, v in graph.edges()]
    edge_index = np.asarray(pairs, np.int32).reshape(-1, 2).T
    if graph.is_directed():
        if order is not None:
            raise ValueError("order: got one, expected None: a directed graph keeps its directions")
        return line_graph(edge_index, len(place), mode=mode)
    ranks = np.arange(len(place))
    if order is not None:
        if len(order) != len(place) or set(order) != set(place):
            raise ValueError(f"order: got {list(order)}, expected every node once, {list(place)}")
        ranks[[place[node] for node in order]] = np.arange(len(place))
    return line_graph(_ascending(edge_index, ranks), len(place), mode=mode)


def orient(
    edge_index: ArrayLike, order: ArrayLike | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Directs undirected edges from the earlier to the later node, each pair of nodes once.

    Args:
        edge_index: the two ends of each edge, [2, n]; an edge may be listed in both directions.
        order: the nodes in their order, [N]; None: by number.

    Returns:
        Edges in the order in which they first come, [2, E], and where each is in the input, [E]:
        `features[first]` are theirs.

    Raises:
        ValueError: an edge joins a node to itself, or `order` is not one.

    Example:
        >>> from plstm_seq.graphs import orient
        >>> edges, first = orient([[2, 0, 1], [1, 1, 2]])
        >>> edges.tolist(), first.tolist()
        ([[1, 0], [2, 1]], [0, 1])
    """
    pairs = np.stack(index_pairs("edge_index", edge_index))
    if pairs.min(initial=0) < 0:
        raise ValueError(f"edge_index: got node {pairs.min()}, expected nodes counted from 0")
    ranks = np.arange(pairs.max(initial=-1) + 1)
    if order is not None:
        places = np.asarray(order)
        if not np.array_equal(np.sort(places), np.arange(places.size)) or places.size < ranks.size:
            raise ValueError(
                f"order: got {places.tolist()}, expected the nodes from 0 on, each once"
            )
        ranks = np.argsort(places)
    _, first = np.unique(_ascending(pairs, ranks), axis=1, return_index=True)
    first = np.sort(first).astype(np.int32)
    return _ascending(pairs[:, first], ranks), first


def reverse(graph: LineGraph) -> LineGraph:
    """Turns every edge around; nodes, edges and lines keep their numbers, and so their features.

    Raises:
        ValueError: the graph is padded: reverse first.

    Example:
        >>> from plstm_seq.graphs import line_graph, reverse
        >>> backwards = reverse(line_graph([[0, 1], [1, 2]], nodes=3))
        >>> backwards.tail.tolist(), backwards.head.tolist(), backwards.level.tolist()
        ([1, 2], [0, 1], [1, 0])
    """
    if padding(graph):
        raise ValueError("graph: got a padded one, expected it to be reversed before padding")
    _, level = generations(graph.after, graph.before, graph.tail.size)
    return graph._replace(
        tail=graph.head,
        head=graph.tail,
        out_slot=graph.in_slot,
        in_slot=graph.out_slot,
        level=level,
        before=graph.after,
        after=graph.before,
        blocks=in_blocks(level[graph.before]),
    )


def padding(graph: LineGraph) -> bool:
    """Whether some graphs, nodes, edges or lines are padding."""
    N, E, G = graph.graph.size, graph.tail.size, graph.sizes.size
    added = (graph.sizes == 0, graph.graph == G, graph.tail == N, graph.before == E)
    return any(map(np.any, added))


def index_pairs(name: str, array: ArrayLike) -> tuple[Index, Index]:
    """Return the two rows of an array of integers [2, n]; raise `ValueError` for another array."""
    pairs = np.asarray(array)
    if pairs.size == 0:
        pairs = np.zeros((2, 0), np.int32)
    if pairs.ndim != 2 or pairs.shape[0] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise ValueError(
            f"{name}: got shape {pairs.shape} and type {pairs.dtype}, expected integers [2, n]"
        )
    return pairs[0].astype(np.int32), pairs[1].astype(np.int32)


def _several(graph: ArrayLike | None, nodes: int, tail: Index, head: Index) -> tuple[Index, Index]:
    """Check and return the graph of every node, and return the number of nodes of every graph."""
    of_node = np.zeros(nodes, np.int32) if graph is None else np.asarray(graph)
    if of_node.size == 0:
        of_node = of_node.astype(np.int32)
    if of_node.shape != (nodes,) or not np.issubdtype(of_node.dtype, np.integer):
        raise ValueError(
            f"graph: got shape {of_node.shape} and type {of_node.dtype}, expected integers "
            f"[{nodes}], one a node"
        )
    least, most = of_node.min(initial=0), of_node.max(initial=0)
    if least < 0:
        raise ValueError(f"graph: got {least}, expected graphs counted from 0")
    if most >= max(nodes, 1):
        raise ValueError(f"graph: got {most}, expected graphs counted without gaps")
    sizes = np.bincount(of_node)
    if not sizes.all():
        raise ValueError(f"graph: got no node of graph {np.argmin(sizes)}, expected one or more")
    across = np.flatnonzero(of_node[tail] != of_node[head])
    if across.size:
        u, v = tail[across[0]], head[across[0]]
        raise ValueError(
            f"edge {across[0]} joins node {u} of graph {of_node[u]} to node {v} of graph "
            f"{of_node[v]}: graphs are apart"
        )
    return of_node.astype(np.int32), sizes.astype(np.int32)


def _check_range(name: str, pairs: tuple[Index, Index], of: str, count: int) -> None:
    wrong = np.flatnonzero([(x < 0) | (x >= count) for x in pairs]) % max(pairs[0].size, 1)
    if wrong.size:
        i = wrong.min()
        raise ValueError(
            f"{name} {i}: got ({pairs[0][i]}, {pairs[1][i]}), expected {of}s 0 to {count - 1}"
        )


def _check_acyclic(tail: Index, head: Index, nodes: int) -> None:
    order, _ = generations(tail, head, nodes)
    if order.size == nodes:
        return
    left = np.setdiff1d(np.arange(nodes), order)
    inside = np.isin(tail, left) & np.isin(head, left)
    cycle = nx.find_cycle(nx.DiGraph(list(zip(tail[inside], head[inside], strict=True))))
    way = " -> ".join(str(node) for node in [*(u for u, _ in cycle), cycle[0][0]])
    raise ValueError(f"edge_index: got a cycle {way}, expected a directed acyclic graph")


def _all_lines(tail: Index, head: Index, nodes: int) -> tuple[Index, Index]:
    """Return all pairs of an edge into a node and an edge out of it, in ascending order."""
    edges = np.arange(tail.size, dtype=np.int32)
    leaving, starts = (np.asarray(x, np.int32) for x in grouped(tail, edges, nodes))
    counts = np.diff(starts)[head]
    before = np.repeat(edges, counts)
    within = np.arange(before.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return before, leaving[starts[head[before]] + within]


def _ascending(pairs: NDArray[np.int32], ranks: NDArray[np.intp]) -> NDArray[np.int32]:
    loops = np.flatnonzero(pairs[0] == pairs[1])
    if loops.size:
        raise ValueError(
            f"edge_index: got edge {loops[0]} from node {pairs[0, loops[0]]} to itself, "
            "expected one to another node"
        )
    turned = ranks[pairs[0]] > ranks[pairs[1]]
    return np.where(turned, pairs[::-1], pairs)
