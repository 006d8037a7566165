"""The base class of tasks on trees, whose labels are the values of expressions; random trees."""

from __future__ import annotations

import abc
import functools
import itertools
import re
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from tasks.graphs.base import Graphs, SymbolGraphTask, by_graph, node_depths, ranks
from tasks.options import check, shown, some

_LONG = 32
"""Depth at which chance is taken."""

SIDES = ("left", "right")


@dataclass(frozen=True)
class TreeTask(SymbolGraphTask):
    """Leaves hold values, inner nodes operators; the label of a node is the value below it.

    Edges lead from operands to operators, and the longest path of a drawn tree has `size` edges.
    Where the order of operands counts, the symbol of each names its side. `decode` writes trees as
    expressions, such as `and(or(0, 1), not(0))`.

    Args:
        labels_at: Score "every" operator, the "output", which is the root, or one label a "graph",
            that of the root.
        branching: How many operators stand, on average, right below one that is off the path drawn
            first (see `random_trees`), depth allowing; at least 0 and below 1. The
            size of trees grows linearly with the depth, and with 1 / (1 - branching).
    """

    branching: float = 0.6

    axis: ClassVar[str] = "depth"
    _ordered: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        below = "in [0, 1): trees of others would grow without bound"
        check(0 <= self.branching < 1, "branching", self.branching, below)

    @property
    @abc.abstractmethod
    def _operators(self) -> dict[str, tuple[int, int]]:
        """The operators, with the smallest and largest number of operands of each."""

    @abc.abstractmethod
    def _value(self, operator: np.ndarray, values: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Compute the values of operators, int `[n]`, from those of their operands.

        Args:
            operator: int `[n]`, indices in `_operators`.
            values: int `[n, K]`, values of the operands from left to right. If there are fewer than
                K, the other values do not matter.
            count: int `[n]`, numbers of operands.
        """

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The values and the operators.

        If the order of operands counts, all symbols come first for left and then for right
        operands. The root, which is not an operand, has a symbol for left operands.
        """
        symbols = (*self.labels, *self._operators)
        if not self._ordered:
            return symbols
        return tuple(f"{side}:{symbol}" for side in SIDES for symbol in symbols)

    @functools.cached_property
    def chance(self) -> float:
        """The frequency of the most frequent label at depth 32."""
        return round(float(self.label_frequencies(_LONG).max()), 12)

    def label_frequencies(self, depth: int) -> np.ndarray:
        """Compute the exact frequency of scored labels in trees of a depth: float64 `[labels]`."""
        values = len(self.labels)
        # The frequencies of the values of a leaf, of an operand off the first path and of an
        # operand on it; `below` sums those of all operators below an operand off the first path.
        leaf = np.full(values, 1 / values)
        off, on, below = leaf, leaf, np.zeros(values)
        scored = np.zeros(values)
        for _ in range(depth):
            side, on = self._frequencies(off, off), self._frequencies(off, on)
            scored = scored + on + (self._mean_operands - 1) * below
            below = self._share * (side + self._mean_operands * below)
            off = self._share * side + (1 - self._share) * leaf
        return scored / scored.sum() if self.labels_at == "every" else on

    def _frequencies(self, off: np.ndarray, on: np.ndarray) -> np.ndarray:
        """Compute the frequencies of an operator's value.

        One operand has the frequencies `on`, and the others have `off`.
        """
        total = np.zeros(len(off))
        for results, operands, weight in self._outcomes:
            places = range(operands) if self._ordered else range(1)
            for place in places:
                factors = [on if slot == place else off for slot in range(operands)]
                joint = functools.reduce(np.multiply.outer, factors).ravel()
                total += weight / len(places) * np.bincount(results, joint, len(off))
        return total

    @functools.cached_property
    def _outcomes(self) -> list[tuple[np.ndarray, int, float]]:
        """The results for each operator and number of operands.

        Each entry holds the operator's values for all combinations of operands, the number of
        operands, and the probability of this operator with this number.
        """
        outcomes = []
        for operator, (low, high) in enumerate(self._operators.values()):
            for operands in range(low, high + 1):
                shape = (len(self.labels),) * operands
                values = np.indices(shape).reshape(operands, -1).T
                same = np.full(len(values), operator), values, np.full(len(values), operands)
                weight = 1 / (len(self._operators) * (high - low + 1))
                outcomes.append((self._value(*same), operands, weight))
        return outcomes

    @functools.cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        fewest, most = np.array(list(self._operators.values())).T
        return fewest, most

    @property
    def _size(self) -> int:
        """The number of symbols, not counting those of the second side."""
        return len(self.labels) + len(self._operators)

    @property
    def _mean_operands(self) -> float:
        return float(np.mean(self._bounds))

    @property
    def _share(self) -> float:
        return min(1.0, self.branching / self._mean_operands)

    def _draw(self, random: np.random.Generator, batch: int, size: int) -> Graphs:
        trees = random_trees(random, batch, size, *self._bounds, self._share)
        leaves = random.integers(len(self.labels), size=len(trees.kind), dtype=np.int32)
        symbols = np.where(trees.kind < 0, leaves, len(self.labels) + trees.kind)
        if self._ordered:
            symbols = symbols + trees.slot * self._size
        return Graphs(trees.edge_index, symbols.astype(np.int32), trees.graph)

    def _label(self, graphs: Graphs) -> np.ndarray:
        symbols = graphs.nodes % self._size
        operands = self._operands(graphs)
        count = (operands >= 0).sum(axis=1)
        operator = symbols - len(self.labels)
        values = np.where(operator < 0, symbols, 0)
        depths = node_depths(graphs.edge_index, len(symbols))
        order = np.argsort(depths, kind="stable")
        ends = np.cumsum(np.bincount(depths))
        for start, end in itertools.pairwise(ends):
            nodes = order[start:end]
            values[nodes] = self._value(operator[nodes], values[operands[nodes]], count[nodes])
        return values

    def _operands(self, graphs: Graphs) -> np.ndarray:
        """Return the operands of each node in order, filled up with -1: int `[N, most]`.

        Raises:
            ValueError: If a node has a number of operands that its symbol does not permit, two of
                its operands have the same side, or a node is an operand twice.
        """
        fewest, most = self._bounds
        operator = graphs.nodes % self._size - len(self.labels)
        tail, head = graphs.edge_index
        count = np.bincount(head, minlength=len(graphs.nodes))
        # A value is not an operator and takes no operands.
        low, high = (np.append(ends, 0)[np.maximum(operator, -1)] for ends in (fewest, most))
        wrong = (count < low) | (count > high)
        if wrong.any():
            node = int(wrong.argmax())
            expected = f"{low[node]} .. {high[node]}" if low[node] < high[node] else f"{low[node]}"
            raise ValueError(
                f"edge_index: got {count[node]} inputs of node {node}, "
                f"{self.vocabulary[graphs.nodes[node]]!r}, expected {expected}"
            )
        by_head = np.argsort(head, kind="stable")
        tail, head = tail[by_head], head[by_head]
        slot = graphs.nodes[tail] // self._size if self._ordered else ranks(count)
        operands = np.full((len(graphs.nodes), most.max()), -1)
        operands[head, slot] = tail
        if ((operands >= 0).sum(axis=1) < count).any():
            node = int(((operands >= 0).sum(axis=1) < count).argmax())
            raise ValueError(
                f"edge_index: got two inputs of one side of node {node}, expected one of each"
            )
        return operands

    def _texts(self, graphs: Graphs) -> list[str]:
        tail, _ = graphs.edge_index
        outgoing = np.bincount(tail, minlength=len(graphs.nodes))
        if (outgoing > 1).any():
            return super()._texts(graphs)
        operands = self._operands(graphs)
        texts = [self._name(symbol) for symbol in graphs.nodes]
        for node in np.argsort(node_depths(graphs.edge_index, len(texts)), kind="stable"):
            below = [texts[operand] for operand in operands[node] if operand >= 0]
            if below:
                texts[node] += f"({', '.join(below)})"
        roots = ["" if parents else text for text, parents in zip(texts, outgoing, strict=True)]
        return by_graph(graphs, roots)

    def encode(self, text: str) -> Graphs:
        """Read one tree from text, as `decode` writes trees.

        Args:
            text: An expression such as `and(or(0, 1), not(0))`.

        Returns:
            The tree, with its root as the last node.

        Raises:
            ValueError: If a symbol is unknown or the brackets do not match.
        """
        ids = {self._name(symbol): symbol for symbol in range(self._size)}
        nodes: list[int] = []
        edges: list[tuple[int, int]] = []
        # The symbols whose brackets are open, and the operands found in each so far.
        calls: list[tuple[int, list[int]]] = [(-1, [])]
        for word, following in itertools.pairwise([*re.findall(r"[^\s(),]+|[(),]", text), ""]):
            if word in ("(", ","):
                continue
            if word != ")":
                if word not in ids:
                    raise ValueError(
                        f"text: got symbol {shown(word)}, expected one of {some(list(ids))}"
                    )
                calls.append((ids[word], []))
                if following == "(":
                    continue
            if len(calls) == 1:
                raise ValueError(
                    f"text: got {shown(text)}, expected an opening bracket for each closing one"
                )
            symbol, operands = calls.pop()
            for place, operand in enumerate(operands):
                nodes[operand] += self._size * place * self._ordered
                edges.append((operand, len(nodes)))
            calls[-1][1].append(len(nodes))
            nodes.append(symbol)
        if len(calls) > 1 or len(calls[0][1]) != 1:
            raise ValueError(
                f"text: got {shown(text)}, expected one expression with all its brackets closed"
            )
        edge_index = np.array(edges, np.int32).reshape(-1, 2).T
        return Graphs(edge_index, np.array(nodes, np.int32), np.zeros(len(nodes), np.int32))

    def _name(self, symbol: int) -> str:
        return (*self.labels, *self._operators)[symbol % self._size]


class Trees(NamedTuple):
    """Trees side by side; the root of each is its last node, and edges lead to higher numbers.

    Attributes:
        edge_index: int32 `[2, E]`, from children to parents, ordered by parent and then slot.
        kind: int32 `[N]`, which kind of inner node each is; -1 for leaves.
        slot: int32 `[N]`, the place of each node among its siblings.
        graph: int32 `[N]`, the tree that each belongs to.
    """

    edge_index: np.ndarray
    kind: np.ndarray
    slot: np.ndarray
    graph: np.ndarray


def random_trees(
    random: np.random.Generator,
    batch: int,
    depth: int,
    fewest: np.ndarray,
    most: np.ndarray,
    share: float,
) -> Trees:
    """Draw trees whose longest path has `depth` edges.

    The root is an inner node, and a random child of each inner node on the longest path is the
    next one on it, until the depth is reached. Every other child is an inner node with probability
    `share` while the depth allows it, and a leaf else. Kinds of inner nodes are uniform, and the
    number of children is uniform among those that a kind may have.

    Args:
        random: Random numbers.
        batch: Number of trees.
        depth: At least 1.
        fewest: int `[kinds]`, fewest children that each kind of inner node has, at least 1.
        most: int `[kinds]`, most children.
        share: Probability of an inner node off the longest path.
    """
    graph, on_path = np.arange(batch), np.ones(batch, bool)
    parent, slot = np.full(batch, -1), np.zeros(batch, np.int64)
    layers, count = [], 0
    for level in range(depth + 1):
        inner = (on_path | (random.random(len(graph)) < share)) & (level < depth)
        kind = np.where(inner, random.integers(len(fewest), size=len(graph)), -1)
        layers.append((parent, kind, slot, graph))
        drawn = random.integers(fewest[kind], most[kind] + 1)
        children, heir = np.where(inner, drawn, 0), random.integers(drawn)
        slot = ranks(children)
        on_path = np.repeat(on_path, children) & (slot == np.repeat(heir, children))
        parent = np.repeat(np.arange(count, count + len(graph)), children)
        count, graph = count + len(graph), np.repeat(graph, children)
    parent, kind, slot, graph = map(np.concatenate, zip(*layers, strict=True))
    # The nodes were made layer by layer from the root. They are numbered graph by graph, with the
    # root last.
    order = np.lexsort((-np.arange(count), graph))
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    parent, slot = parent[order], slot[order]
    children = np.flatnonzero(parent >= 0)
    parents = place[parent[children]]
    edges = np.lexsort((slot[children], parents))
    edge_index = np.stack([children[edges], parents[edges]])
    arrays = (edge_index, kind[order], slot, graph[order])
    return Trees(*(array.astype(np.int32) for array in arrays))
