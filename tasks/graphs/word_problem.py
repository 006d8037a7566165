"""Products of group elements along paths through a graph."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.base import check_at_least
from tasks.graphs.base import Graphs, SymbolGraphTask
from tasks.graphs.drawing import random_inputs
from tasks.graphs.order import node_depths
from tasks.groups import Group, group

_COLOURS = ("black", "white")


@dataclass(frozen=True)
class PathWordProblem(SymbolGraphTask):
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

    group: str = "S3"
    max_inputs: int = 1
    window: int = 4

    name: ClassVar[str] = "dag_word_problem"
    axis: ClassVar[str] = "size"
    smallest: ClassVar[int] = 2
    _places: ClassVar[tuple[str, ...]] = ("every", "output")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self.max_inputs, self.window)
        object.__setattr__(self, "group", group(self.group).name)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The elements; with several inputs, for each colour of a node and of its input."""
        if self.max_inputs == 1:
            return self.labels
        pairs = itertools.product(_COLOURS, _COLOURS)
        return tuple(f"{own}<{of}:{element}" for own, of in pairs for element in self.labels)

    @property
    def labels(self) -> tuple[str, ...]:
        """All elements of the group."""
        return self._group.elements

    @property
    def chance(self) -> float:
        """Every label is as frequent as any other."""
        return 1 / len(self.labels)

    @property
    def _group(self) -> Group:
        return group(self.group)

    def _draw(self, random: np.random.Generator, batch: int, size: int) -> Graphs:
        elements = random.integers(self._group.order, size=(batch, size))
        colours = random.integers(2, size=(batch, size)) if self.max_inputs > 1 else None
        edge_index, first = random_inputs(
            random, batch, size, self.window, self.max_inputs, colours
        )
        if colours is not None:
            taken = np.take_along_axis(colours, np.maximum(first, 0), axis=1)
            elements = elements + self._group.order * (2 * colours + taken)
        graph = np.repeat(np.arange(batch, dtype=np.int32), size)
        return Graphs(edge_index, elements.ravel().astype(np.int32), graph)

    def _label(self, graphs: Graphs) -> np.ndarray:
        element, kind = graphs.nodes % self._group.order, graphs.nodes // self._group.order
        tail, head = graphs.edge_index
        if self.max_inputs > 1:
            counts = kind[tail] // 2 == kind[head] % 2
            tail, head = tail[counts], head[counts]
        several = np.bincount(head, minlength=len(element)) > 1
        if several.any():
            raise ValueError(
                f"node {several.argmax()} takes from several inputs: its product depends on the "
                "path"
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


def check_window(max_inputs: int, window: int) -> None:
    """Check how many inputs nodes have, and how far back.

    Raises:
        ValueError: If `window` is below 1, or `max_inputs` not in 1 .. `window`.
        TypeError: If one is no integer.
    """
    check_at_least("window", window, 1)
    check_at_least("max_inputs", max_inputs, 1)
    if max_inputs > window:
        raise ValueError(f"max_inputs must be at most window={window}, got {max_inputs}")
