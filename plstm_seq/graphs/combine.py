"""Several graphs side by side as one, and padding to sizes for which programs are compiled once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from plstm_seq.graphs.blocks import in_blocks
from plstm_seq.graphs.line_graph import LineGraph, padding
from plstm_seq.graphs.order import Index


class Sizes(NamedTuple):
    """What a compiled program depends on: graphs of equal sizes share one."""

    graphs: int
    nodes: int
    edges: int
    lines: int
    steps: int
    width: int


def sizes_of(graph: LineGraph) -> Sizes:
    """The lengths of its arrays."""
    return Sizes(
        graph.sizes.size, graph.graph.size, graph.tail.size, graph.before.size, *graph.blocks.shape
    )


def union(graphs: Sequence[LineGraph]) -> LineGraph:
    """The disjoint union: nodes, edges and lines of the first graph, of the second, and so on.

    Levels of the graphs are gone through together.

    Raises:
        ValueError: there is no graph, one is padded (pad the union), or only some know their
            multitree.
    """
    if not graphs:
        raise ValueError("no graphs: at least one is expected")
    if any(map(padding, graphs)):
        raise ValueError("a graph is padded: pad the union instead")
    sizes = np.asarray([sizes_of(graph)[:3] for graph in graphs], np.int32)
    offsets = np.cumsum(sizes, axis=0, dtype=np.int32) - sizes

    def joined(name: str, of: int | None = None) -> Index:
        shift = np.zeros(len(graphs), np.int32) if of is None else offsets[:, of]
        return np.concatenate(
            [getattr(graph, name) + by for graph, by in zip(graphs, shift, strict=True)]
        )

    pruned = {graph.multitree is not None for graph in graphs}
    if len(pruned) > 1:
        raise ValueError("some graphs know their multitree and some do not: build all in one mode")
    level, after = joined("level"), joined("after", 2)
    return LineGraph(
        tail=joined("tail", 1),
        head=joined("head", 1),
        out_slot=joined("out_slot"),
        in_slot=joined("in_slot"),
        level=level,
        before=joined("before", 2),
        after=after,
        node=joined("node", 1),
        blocks=in_blocks(level[after]),
        graph=joined("graph", 0),
        sizes=joined("sizes"),
        multitree=joined("multitree") if pruned == {True} else None,
    )


def bucket(sizes: Sizes) -> Sizes:
    """Rounds every size but the width up by less than a quarter, to one of four a power of two."""

    def rounded(size: int) -> int:
        unit = 1 << max(size.bit_length() - 3, 0)
        return -(-size // unit) * unit

    graphs, nodes, edges, lines, steps = map(rounded, sizes[:5])
    return Sizes(graphs, nodes, edges, lines, steps, sizes.width)


def padded(graph: LineGraph, sizes: Sizes) -> LineGraph:
    """Lengthens every array to the sizes given; what is added has indices behind the last.

    Features and gates of what is added may be anything finite: it is read nowhere.

    Raises:
        ValueError: the graph does not fit, or is padded already.
    """
    if padding(graph):
        raise ValueError("the graph is padded already")
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
        raise ValueError(f"the graph does not fit: {', '.join(small)}")

    def fill(array: Index, size: int, value: int) -> Index:
        return np.pad(array, (0, size - array.size), constant_values=value)

    G, N, E, P, steps, width = sizes
    blocks = np.where(blocks == have.lines, P, blocks)
    return LineGraph(
        tail=fill(graph.tail, E, N),
        head=fill(graph.head, E, N),
        out_slot=fill(graph.out_slot, E, 0),
        in_slot=fill(graph.in_slot, E, 0),
        level=fill(graph.level, E, 0),
        before=fill(graph.before, P, E),
        after=fill(graph.after, P, E),
        node=fill(graph.node, P, N),
        blocks=fill(blocks.reshape(-1), steps * width, P).reshape(steps, width),
        graph=fill(graph.graph, N, G),
        sizes=fill(graph.sizes, G, 0),
        multitree=None if graph.multitree is None else fill(graph.multitree, P, 0),
    )
