"""Tasks on paths through a graph: products along paths, and the parity of the longest path."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.graphs.base import Graphs, SymbolGraphTask, node_depths
from tasks.groups import OfGroup, group
from tasks.options import check, check_at_least

_COLOURS = ("black", "white")


@dataclass(frozen=True)
class WindowTask(SymbolGraphTask):
    """A task over graphs of `size` nodes, whose inputs are some of the nodes before each.

    Args:
        labels_at: See `SymbolGraphTask`.
        max_inputs: Most inputs of a node, 1 .. `window`.
        window: How far back inputs lie, at least 1.
    """

    max_inputs: int = 2
    window: int = 4

    axis: ClassVar[str] = "size"
    smallest: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("window", self.window, 1)
        check_at_least("max_inputs", self.max_inputs, 1)
        fits = self.max_inputs <= self.window
        check(fits, "max_inputs", self.max_inputs, f"at most window={self.window}")

    def _graphs(self, edge_index: np.ndarray, symbols: np.ndarray) -> Graphs:
        """Make graphs whose symbols are the rows of `symbols` `[batch, size]`."""
        batch, size = symbols.shape
        graph = np.repeat(np.arange(batch, dtype=np.int32), size)
        return Graphs(edge_index, symbols.ravel().astype(np.int32), graph)


@dataclass(frozen=True)
class PathWordProblem(OfGroup, WindowTask):
    """The product of the group elements that the path to a node collects.

    *Rule.* The label of a node is that of its input times its own element, and its element alone
    where it has no input. Along several paths a product would depend on the path; so one of them
    is part of the graph. With `max_inputs=1` every node has at most one input. With more, nodes are
    black or white and each says which colour it takes: the one input of that colour counts, and
    the others, which have another, do not.

    *Alphabet.* All elements of the group, drawn uniformly; with `max_inputs` above 1 before them
    the node's colour and the one it takes, `black<white:` and so on. Labels are all elements. A
    product `a b` is `table[a, b]` of `tasks.groups`: b acts first.

    *Graphs.* Of `size` nodes; the inputs of each but the first are 1 .. `max_inputs`, uniformly, of
    the `window` nodes before it, so that paths grow with the size.

    *Example.* The group S3; behind `<-`, the inputs:

        nodes    black<black:(12) / white<black:(23) <- 0 / black<black:(13) <- 0 1
        label    (12) (123) (132)

    *Chance.* One over the number of elements.

    *Source.* The word problem of Merrill et al., The Illusion of State in State-Space Models,
    arXiv 2404.08819, along the paths of the graphs of pLSTM, arXiv 2506.11997.

    Args:
        labels_at: Score "every" node that has inputs, or the "output" nodes, which no edge leaves.
        group: Any that `tasks.groups.group` knows.
        max_inputs: Most inputs of a node, 1 .. `window`.
        window: How far back inputs lie, at least 1.

    Raises:
        ValueError: If an option leaves its range.
    """

    max_inputs: int = 1
    group: str = "S3"

    name: ClassVar[str] = "dag_word_problem"
    _places: ClassVar[tuple[str, ...]] = ("every", "output")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "group", group(self.group).name)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The elements, which with several inputs are repeated for each pair of colours."""
        if self.max_inputs == 1:
            return self.labels
        pairs = itertools.product(_COLOURS, _COLOURS)
        return tuple(f"{own}<{of}:{element}" for own, of in pairs for element in self.labels)

    def _draw(self, random: np.random.Generator, batch: int, size: int) -> Graphs:
        elements = random.integers(self._group.order, size=(batch, size))
        colours = random.integers(2, size=(batch, size)) if self.max_inputs > 1 else None
        edge_index, first = random_inputs(
            random, batch, size, self.window, self.max_inputs, colours
        )
        if colours is not None:
            taken = np.take_along_axis(colours, np.maximum(first, 0), axis=1)
            elements = elements + self._group.order * (2 * colours + taken)
        return self._graphs(edge_index, elements)

    def _label(self, graphs: Graphs) -> np.ndarray:
        element, kind = graphs.nodes % self._group.order, graphs.nodes // self._group.order
        tail, head = graphs.edge_index
        if self.max_inputs > 1:
            counts = kind[tail] // 2 == kind[head] % 2
            tail, head = tail[counts], head[counts]
        several = np.bincount(head, minlength=len(element)) > 1
        if several.any():
            raise ValueError(
                f"edge_index: got several inputs of node {several.argmax()}, expected one: its "
                "product depends on the path"
            )
        depths = node_depths(graphs.edge_index, len(element))
        order = np.argsort(depths[head], kind="stable")
        ends = np.cumsum(np.bincount(depths[head], minlength=1))
        labels = element.copy()
        for start, end in itertools.pairwise(ends):
            edges = order[start:end]
            nodes = head[edges]
            labels[nodes] = self._group.table[labels[tail[edges]], element[nodes]]
        return labels


@dataclass(frozen=True)
class LongestPathParity(WindowTask):
    """Has the longest path to a node an odd number of edges?

    *Rule.* The label of a node is the number of edges of the longest path that ends in it, modulo
    2; that of a graph, of the longest of all its paths.

    *Alphabet.* One symbol, at every node: all that counts is how they are joined.

    *Graphs.* Of `size` nodes; the inputs of each but the first are 1 .. `max_inputs`, uniformly, of
    the `window` nodes before it, so that paths grow with the size.

    *Example.* Behind `<-`, the inputs:

        nodes    node / node <- 0 / node <- 0 1 / node <- 1 / node <- 2 3
        label    0 1 0 0 1

    *Chance.* 1/2, that of large graphs.

    *Source.* The longest path to a node is what orders a graph into levels (Kahn 1962); its length
    counts as a (max, +) product does.

    Args:
        labels_at: Score "every" node that has inputs, the "output" nodes, which no edge leaves, or
            one label a "graph".
        max_inputs: Most inputs of a node, 1 .. `window`.
        window: How far back inputs lie, at least 1.

    Raises:
        ValueError: If an option leaves its range.
    """

    name: ClassVar[str] = "dag_longest_path_parity"

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The one symbol that every node has."""
        return ("node",)

    @property
    def labels(self) -> tuple[str, ...]:
        """The two labels: even, odd."""
        return ("0", "1")

    def _draw(self, random: np.random.Generator, batch: int, size: int) -> Graphs:
        edge_index, _ = random_inputs(random, batch, size, self.window, self.max_inputs)
        return self._graphs(edge_index, np.zeros((batch, size)))

    def _label(self, graphs: Graphs) -> np.ndarray:
        return node_depths(graphs.edge_index, len(graphs.nodes)) % 2

    def _label_graphs(self, graphs: Graphs, labels: np.ndarray) -> np.ndarray:
        depths = node_depths(graphs.edge_index, len(labels))
        longest = np.zeros(graphs.graph[-1] + 1, depths.dtype)
        np.maximum.at(longest, graphs.graph, depths)
        return longest % 2


def random_inputs(
    random: np.random.Generator,
    batch: int,
    size: int,
    window: int,
    most: int,
    colours: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw for each node which of the nodes before it are its inputs.

    Node 0 has none. Every other has 1 .. `most`, uniformly, of the `window` nodes before it, as far
    as there are so many. So the longest path grows with the size.

    Args:
        random: Random numbers.
        batch: Number of graphs.
        size: Nodes of each.
        window: How far back inputs lie.
        most: Most inputs.
        colours: int `[batch, size]`, of nodes. If given, the first input has a colour that no other
            input of the node has.

    Returns:
        The edges, int32 `[2, E]`, ordered by the node that they enter, in numbers of all graphs;
        and the first input of each node, int `[batch, size]`, as a number within its graph. It is
        negative for node 0.
    """
    here, back = np.ogrid[:size, 1 : window + 1]
    inputs = here - back
    scores = np.where(inputs >= 0, random.random((batch, size, window)), np.inf)
    first = scores.argmin(axis=2)
    if colours is not None:
        theirs = colours[:, np.maximum(inputs, 0)]
        own = np.take_along_axis(theirs, first[..., None], axis=2)
        alike = (theirs == own) & (np.arange(window) != first[..., None])
        scores[alike] = np.inf
    wanted = random.integers(1, most + 1, (batch, size, 1))
    place = scores.argsort(axis=2).argsort(axis=2)
    graph, head, offset = np.nonzero((place < wanted) & np.isfinite(scores))
    head = head + size * graph
    edge_index = np.stack([head - 1 - offset, head]).astype(np.int32)
    return edge_index, np.arange(size) - 1 - first
