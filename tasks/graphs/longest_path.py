"""Parity of the longest path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.graphs.base import Graphs, SymbolGraphTask
from tasks.graphs.drawing import random_inputs
from tasks.graphs.order import node_depths
from tasks.graphs.word_problem import check_window


@dataclass(frozen=True)
class LongestPathParity(SymbolGraphTask):
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

    max_inputs: int = 2
    window: int = 4

    name: ClassVar[str] = "dag_longest_path_parity"
    axis: ClassVar[str] = "size"
    smallest: ClassVar[int] = 2
    chance: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self.max_inputs, self.window)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The one symbol that every node has."""
        return ("node",)

    @property
    def labels(self) -> tuple[str, ...]:
        """Even, odd."""
        return ("0", "1")

    def _draw(self, random: np.random.Generator, batch: int, size: int) -> Graphs:
        edge_index, _ = random_inputs(random, batch, size, self.window, self.max_inputs)
        graph = np.repeat(np.arange(batch, dtype=np.int32), size)
        return Graphs(edge_index, np.zeros(batch * size, np.int32), graph)

    def _label(self, graphs: Graphs) -> np.ndarray:
        return node_depths(graphs.edge_index, len(graphs.nodes)) % 2

    def _label_graphs(self, graphs: Graphs, labels: np.ndarray) -> np.ndarray:
        depths = node_depths(graphs.edge_index, len(labels))
        longest = np.zeros(graphs.graph[-1] + 1, depths.dtype)
        np.maximum.at(longest, graphs.graph, depths)
        return longest % 2
