"""Joins graphs into one, and pads them to sizes for which a program is compiled only once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from plstm_seq.graphs.line_graph import LineGraph, padding
from plstm_seq.graphs.order import Index, in_blocks


class Sizes(NamedTuple):
    """The sizes that a compiled program depends on: graphs of equal sizes share one program.

    Attributes:
        graphs: number of graphs (G).
        nodes: number of nodes (N).
        edges: number of edges (E).
        lines: number of lines (P).
        steps: number of blocks of lines.
        width: number of lines in a block.
    """

    graphs: int
    nodes: int
    edges: int
    lines: int
    steps: int
    width: int


class Axis(NamedTuple):
    """The axis of an index array of a `LineGraph`, and what its entries count.

    Attributes:
        length: the field of `Sizes` that is the length of the array.
        numbers: the field of `Sizes` that all entries are below, such as "nodes" for the tails of
            edges; None: the entries are not numbers of graphs, nodes or edges.
    """

    length: str
    numbers: str | None = None

    def behind(self, sizes: Sizes) -> int:
        """Return the entry that marks padding: the number after the last valid one.

        It is 0 if the entries do not number graphs, nodes or edges.
        """
        return getattr(sizes, self.numbers) if self.numbers else 0


AXES = {
    "tail": Axis("edges", "nodes"),
    "head": Axis("edges", "nodes"),
    "out_slot": Axis("edges"),
    "in_slot": Axis("edges"),
    "level": Axis("edges"),
    "before": Axis("lines", "edges"),
    "after": Axis("lines", "edges"),
    "node": Axis("lines", "nodes"),
    "graph": Axis("nodes", "graphs"),
    "sizes": Axis("graphs"),
    "multitree": Axis("lines"),
}
"""The axis of each array of a `LineGraph` but `blocks`, whose shape is [steps, width]."""


def sizes_of(graph: LineGraph) -> Sizes:
    """The sizes of a graph, read off its arrays.

    Example:
        >>> from plstm_seq.graphs import line_graph, sizes_of
        >>> sizes_of(line_graph([[0, 1], [1, 2]], nodes=3))
        Sizes(graphs=1, nodes=3, edges=2, lines=1, steps=1, width=1)
    """
    return Sizes(
        graph.sizes.size, graph.graph.size, graph.tail.size, graph.before.size, *graph.blocks.shape
    )


def union(graphs: Sequence[LineGraph]) -> LineGraph:
    """Puts graphs next to each other as one, which an op goes through at once.

    The nodes, edges and lines of the first graph come first, then those of the second, and so on.

    Raises:
        ValueError: there is no graph, one is padded (pad the union), or only some know their
            multitree.

    Example:
        >>> from plstm_seq.graphs import line_graph, union
        >>> edge = line_graph([[0], [1]], nodes=2)
        >>> both = union([edge, edge])
        >>> both.tail.tolist(), both.head.tolist(), both.graph.tolist()
        ([0, 2], [1, 3], [0, 0, 1, 1])
    """
    if not graphs:
        raise ValueError("graphs: got none, expected at least one")
    if any(map(padding, graphs)):
        raise ValueError("graphs: got a padded one, expected the union to be padded instead")
    sizes = np.asarray([sizes_of(graph) for graph in graphs], np.int32)
    offsets = Sizes(*(np.cumsum(sizes, axis=0, dtype=np.int32) - sizes).T)
    pruned = {graph.multitree is not None for graph in graphs}
    if len(pruned) > 1:
        raise ValueError("graphs: got a multitree for some, expected all to be built in one mode")

    def joined(name: str, numbers: str | None) -> Index:
        shift = getattr(offsets, numbers) if numbers else [0] * len(graphs)
        return np.concatenate(
            [getattr(graph, name) + by for graph, by in zip(graphs, shift, strict=True)]
        )

    names = AXES if pruned == {True} else AXES.keys() - {"multitree"}
    arrays = {name: joined(name, AXES[name].numbers) for name in names}
    return LineGraph(**arrays, blocks=in_blocks(arrays["level"][arrays["after"]]))


def bucket(sizes: Sizes) -> Sizes:
    """Rounds every size but the width up, by less than a quarter.

    There are only four sizes between two powers of two, so few programs are compiled.

    Example:
        >>> from plstm_seq.graphs import Sizes, bucket
        >>> bucket(Sizes(graphs=1, nodes=9, edges=17, lines=33, steps=5, width=2))
        Sizes(graphs=1, nodes=10, edges=20, lines=40, steps=5, width=2)
    """

    def rounded(size: int) -> int:
        unit = 1 << max(size.bit_length() - 3, 0)
        return -(-size // unit) * unit

    graphs, nodes, edges, lines, steps = map(rounded, sizes[:5])
    return Sizes(graphs, nodes, edges, lines, steps, sizes.width)


def padded(graph: LineGraph, sizes: Sizes) -> LineGraph:
    """Lengthens every array to the given sizes; the added entries point past the last node or edge.

    Features and gates of the added nodes, edges and lines may be any finite numbers: nothing reads
    them.

    Raises:
        ValueError: the graph does not fit, or is padded already.

    Example:
        >>> from plstm_seq.graphs import bucket, line_graph, padded, sizes_of
        >>> graph = line_graph([[0] * 9, range(1, 10)], nodes=10)
        >>> bucket(sizes_of(graph)).edges
        10
        >>> padded(graph, bucket(sizes_of(graph))).head.tolist()
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    """
    if padding(graph):
        raise ValueError("graph: got a padded one, expected one without padding")
    blocks = graph.blocks
    if blocks.shape[1] != sizes.width:
        blocks = in_blocks(graph.level[graph.after], sizes.width)
    have = sizes_of(graph._replace(blocks=blocks))
    small = [
        f"{name} = {new} for {old}"
        for name, old, new in zip(Sizes._fields, have, sizes, strict=True)
        if new < old
    ]
    if small:
        raise ValueError(f"sizes: got {', '.join(small)}, expected at least those of the graph")

    def fill(array: Index, size: int, value: int) -> Index:
        return np.pad(array, (0, size - array.size), constant_values=value)

    arrays = {
        name: fill(array, getattr(sizes, axis.length), axis.behind(sizes))
        for name, axis in AXES.items()
        if (array := getattr(graph, name)) is not None
    }
    blocks = np.where(blocks == have.lines, sizes.lines, blocks)
    shape = (sizes.steps, sizes.width)
    blocks = fill(blocks.reshape(-1), sizes.steps * sizes.width, sizes.lines).reshape(shape)
    return LineGraph(**arrays, blocks=blocks)
