"""What a task over directed acyclic graphs is, and the order of their nodes."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from tasks.base import LabelledSymbols, OverSymbols
from tasks.options import check_at_least, check_choice

Seed = int | Sequence[int] | np.ndarray | np.random.Generator | jax.Array
"""A number or several, a typed key of jax, or a generator, whose state counts then."""


class GraphBatch(NamedTuple):
    """A batch of B graphs with N nodes and E edges in all, on the host.

    The nodes of the first graph come first, then those of the second, and so on. Edges point from
    inputs to outputs: what the label of a node depends on reaches it along its edges.

    Attributes:
        edge_index: int32 `[2, E]`, the node that each edge leaves and the one it enters.
        nodes: int32 `[N]`, symbol ids; float32 `[N, F]` where nodes have features.
        graph: int32 `[N]`, the graph that each node belongs to, ascending.
        targets: int32, label ids: `[N]` for nodes or `[B]` for graphs, 0 where there is none;
            floating-point `[B, .]` where numbers are predicted.
        mask: bool like `targets`, which of them are scored.
        edges: float32 `[E, F]`, features of edges; None: edges have none.

    Example:
        >>> import tasks
        >>> batch: tasks.GraphBatch = tasks.get_graph("dag_boolean").draw(0, batch=2, size=3)
        >>> batch.nodes.shape == batch.graph.shape == batch.targets.shape, batch.graph.max().item()
        (True, 1)
    """

    edge_index: np.ndarray
    nodes: np.ndarray
    graph: np.ndarray
    targets: np.ndarray
    mask: np.ndarray
    edges: np.ndarray | None = None


class Graphs(NamedTuple):
    """Graphs of symbols without labels; its fields are those of `GraphBatch`.

    Example:
        >>> from tasks.graphs import Graphs, get_graph
        >>> task = get_graph("dag_boolean")
        >>> tree: Graphs = task.encode("or(0, not(0))")
        >>> tree.edge_index.tolist(), task.decode(*tree)
        ([[1, 0, 2], [2, 3, 3]], ['or(0, not(0))'])
    """

    edge_index: np.ndarray
    nodes: np.ndarray
    graph: np.ndarray


@runtime_checkable
class GraphTask(OverSymbols, Protocol):
    """A task over graphs of symbols: how they are drawn, and the rule that labels nodes or graphs.

    A node's label depends only on the node itself and on those from which a path leads to it.
    `chance` is the accuracy of always answering the most frequent label of large graphs.

    Example:
        >>> import tasks
        >>> task: tasks.GraphTask = tasks.get_graph("dag_longest_path_parity")
        >>> triangle = [[0, 1, 0], [1, 2, 2]]
        >>> task.targets(triangle, nodes=[0, 0, 0], graph=[0, 0, 0]).tolist()
        [0, 1, 0]
        >>> task.axis, task.per_node, task.chance
        ('size', True, 0.5)
    """

    @property
    def axis(self) -> str:
        """What `size` counts: "depth", edges of the longest path, or "size", nodes of a graph."""
        ...

    @property
    def per_node(self) -> bool:
        """Whether nodes are labelled, and not graphs."""
        ...

    def draw(self, seed: Seed, batch: int, size: int) -> GraphBatch:
        """Draw a batch, a pure function of the arguments."""
        ...

    def targets(self, edge_index: ArrayLike, nodes: ArrayLike, graph: ArrayLike) -> np.ndarray:
        """Label given graphs; the function that `draw` itself uses."""
        ...

    def scored(self, edge_index: ArrayLike, nodes: ArrayLike, graph: ArrayLike) -> np.ndarray:
        """What is scored of given graphs, bool; as `draw` itself has it."""
        ...

    def decode(self, edge_index: ArrayLike, nodes: ArrayLike, graph: ArrayLike) -> list[str]:
        """Write graphs as text."""
        ...


@dataclass(frozen=True)
class SymbolGraphTask(LabelledSymbols):
    """Labels of nodes, and which of them count: what all tasks over graphs of symbols share.

    Args:
        labels_at: Score "every" node that has inputs, the "output" nodes, which no edge leaves, or
            one label for each "graph", where the rule gives it one.
    """

    labels_at: str = "every"

    name: ClassVar[str]
    axis: ClassVar[str]
    smallest: ClassVar[int] = 1
    _places: ClassVar[tuple[str, ...]] = ("every", "output", "graph")

    def __post_init__(self) -> None:
        check_choice("labels_at", self.labels_at, self._places)

    @abc.abstractmethod
    def _draw(self, random: np.random.Generator, batch: int, size: int) -> Graphs:
        """Draw graphs."""

    @abc.abstractmethod
    def _label(self, graphs: Graphs) -> np.ndarray:
        """The label of every node, int `[N]`."""

    def _label_graphs(self, graphs: Graphs, labels: np.ndarray) -> np.ndarray:
        """The label of each graph: that of its one node which no edge leaves."""
        outputs = np.flatnonzero(_has_no(graphs.edge_index[0], len(labels)))
        counts = np.bincount(graphs.graph[outputs])
        if (counts != 1).any():
            raise ValueError(
                f"graph {(counts != 1).argmax()} has {counts[counts != 1][0]} nodes that no edge "
                "leaves; labels_at='graph' needs one"
            )
        return labels[outputs]

    @property
    def per_node(self) -> bool:
        """Whether nodes are labelled, and not graphs."""
        return self.labels_at != "graph"

    def draw(self, seed: Seed, batch: int, size: int) -> GraphBatch:
        """Draw a batch, a pure function of the arguments (and of a generator's state).

        Args:
            seed: Integers, a typed key of jax, or a generator.
            batch: Number of graphs, at least 1.
            size: What `axis` says, the same for all graphs, at least `smallest`.

        Returns:
            The graphs with their labels.

        Raises:
            ValueError: If `batch` is below 1 or `size` below `smallest`.
            TypeError: If one is no integer.
        """
        check_at_least("batch", batch, 1)
        check_at_least(self.axis, size, self.smallest)
        graphs = self._draw(generator(seed), batch, size)
        return GraphBatch(*graphs, self._targets(graphs), self._scored(graphs))

    def targets(self, edge_index: ArrayLike, nodes: ArrayLike, graph: ArrayLike) -> np.ndarray:
        """Label given graphs: the function that `draw` itself uses.

        Args:
            edge_index: Integer `[2, E]`, the node that each edge leaves and the one it enters.
            nodes: Integer `[N]`, symbol ids.
            graph: Integer `[N]`, the graph that each node belongs to, ascending from 0.

        Returns:
            int32 `[N]`, or `[B]` with `labels_at="graph"`.

        Raises:
            ValueError: If a shape is wrong, an id is unknown, edges form a cycle, or the graphs are
                none that the rule has labels for.
            TypeError: If an array isn't of integers.
        """
        return self._targets(self._checked(edge_index, nodes, graph))

    def scored(self, edge_index: ArrayLike, nodes: ArrayLike, graph: ArrayLike) -> np.ndarray:
        """What is scored of given graphs: the mask that `draw` returns.

        Args:
            edge_index: As in `targets`.
            nodes: As in `targets`.
            graph: As in `targets`.

        Returns:
            bool `[N]`, or `[B]` with `labels_at="graph"`.

        Raises:
            ValueError: If a shape is wrong or an id is unknown.
            TypeError: If an array isn't of integers.
        """
        return self._scored(self._checked(edge_index, nodes, graph))

    def decode(self, edge_index: ArrayLike, nodes: ArrayLike, graph: ArrayLike) -> list[str]:
        """Write graphs as text, one string for each.

        Args:
            edge_index: As in `targets`.
            nodes: As in `targets`.
            graph: As in `targets`.

        Returns:
            The symbols of the nodes, and behind `<-` the numbers of their inputs within the graph.

        Raises:
            ValueError: If a shape is wrong or an id is unknown.
            TypeError: If an array isn't of integers.
        """
        return self._texts(self._checked(edge_index, nodes, graph))

    def _texts(self, graphs: Graphs) -> list[str]:
        first = np.searchsorted(graphs.graph, graphs.graph)
        inputs: list[list[str]] = [[] for _ in graphs.nodes]
        for tail, head in graphs.edge_index.T:
            inputs[head].append(str(tail - first[tail]))
        nodes = [
            " ".join([self.vocabulary[symbol], *(["<-", *found] if found else [])])
            for symbol, found in zip(graphs.nodes, inputs, strict=True)
        ]
        return by_graph(graphs, nodes)

    def _targets(self, graphs: Graphs) -> np.ndarray:
        labels = self._label(graphs)
        if not self.per_node:
            labels = self._label_graphs(graphs, labels)
        return labels.astype(np.int32)

    def _scored(self, graphs: Graphs) -> np.ndarray:
        count = len(graphs.nodes)
        if not self.per_node:
            return np.ones(graphs.graph[-1] + 1, bool)
        if self.labels_at == "output":
            return _has_no(graphs.edge_index[0], count)
        return ~_has_no(graphs.edge_index[1], count)

    def _checked(self, edge_index: ArrayLike, nodes: ArrayLike, graph: ArrayLike) -> Graphs:
        given = {"edge_index": edge_index, "nodes": nodes, "graph": graph}
        arrays = {name: np.asarray(values) for name, values in given.items()}
        for name, array in arrays.items():
            if array.size and not np.issubdtype(array.dtype, np.integer):
                raise TypeError(f"{name} must be integers, got {array.dtype}")
        edges, symbols, graphs = (array.astype(np.int32) for array in arrays.values())
        if edges.ndim != 2 or len(edges) != 2:
            raise ValueError(f"edge_index must have shape [2, E], got {edges.shape}")
        if symbols.ndim != 1 or not symbols.size or graphs.shape != symbols.shape:
            raise ValueError(
                "nodes and graph must have one shape [N], N at least 1; got "
                f"{symbols.shape} and {graphs.shape}"
            )
        steps = np.diff(graphs, prepend=-1)
        if graphs[0] != 0 or (steps < 0).any() or (steps > 1).any():
            raise ValueError(f"graph must ascend from 0 without gaps, got {graphs}")
        for name, array, count in (
            ("nodes", symbols, len(self.vocabulary)),
            ("edge_index", edges, len(symbols)),
        ):
            if array.size and not (array.min() >= 0 and array.max() < count):
                raise ValueError(
                    f"{name} must lie in 0 .. {count - 1}, got {array.min()} .. {array.max()}"
                )
        if (graphs[edges[0]] != graphs[edges[1]]).any():
            raise ValueError("an edge joins nodes of two graphs")
        return Graphs(edges, symbols, graphs)


def generator(seed: Seed) -> np.random.Generator:
    """Random numbers from a seed; a generator is taken as it is."""
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        seed = jax.random.key_data(seed)
    return np.random.default_rng(np.asarray(seed).ravel())


def by_graph(graphs: Graphs, texts: list[str]) -> list[str]:
    """The texts of the nodes of each graph as one."""
    ends = np.cumsum(np.bincount(graphs.graph)).tolist()
    return [
        " / ".join(filter(None, texts[start:end])) for start, end in itertools.pairwise([0, *ends])
    ]


def _has_no(ends: np.ndarray, count: int) -> np.ndarray:
    """The nodes that are no end: bool `[count]`."""
    return np.bincount(ends, minlength=count) == 0


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
