"""Reads data sets of labelled graphs in the text format of TUDataset."""

from __future__ import annotations

import functools
import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from tasks.graphs.base import GraphBatch, Seed, generator, ranges
from tasks.options import check_at_least, check_range

# The largest number of zeros and ones that encode labels: 2 GiB of float32.
_MOST_FEATURES = 1 << 29

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)


class TUFile(NamedTuple):
    """A file with a line for each node, edge or graph, whose values are separated by commas.

    Attributes:
        path: The path of the file.
        values: float64 `[lines, columns]`, all finite.
    """

    path: Path
    values: np.ndarray

    def refuse(self, row: int, problem: str) -> NoReturn:
        """Raise a `ValueError` that names the file, the line and the problem."""
        raise ValueError(f"{self.path}:{row + 1}: {problem}")

    def refuse_where(self, wrong: np.ndarray, problem: str) -> None:
        """Raise `ValueError` for the first line that is marked as wrong, if there is one.

        In the text of the problem, `{}` stands for the values of the line.
        """
        if wrong.any():
            row = int(wrong.argmax())
            values = ", ".join(f"{value:g}" for value in self.values[row])
            self.refuse(row, problem.format(values))

    def integers(self) -> np.ndarray:
        """Return the values as int32.

        Raises:
            ValueError: If a value is not an integer or is too large.
        """
        whole = (self.values == np.rint(self.values)) & (abs(self.values) < 2**31)
        self.refuse_where(~whole.all(axis=1), "got {}, expected integers")
        return self.values.astype(np.int32)

    def reals(self) -> np.ndarray:
        """Return the values after checking that they are within the range of float32.

        Raises:
            ValueError: If a value is too large.
        """
        most = float(np.finfo(np.float32).max)
        large = np.any(abs(self.values) > most, axis=1)
        self.refuse_where(np.asarray(large), f"got {{}}, expected numbers up to {most:.2g}")
        return self.values

    def singles(self) -> np.ndarray:
        """Return the values as float32; see `reals`."""
        return self.reals().astype(np.float32)

    def check_lines(self, count: int, of: str) -> None:
        """Check the number of lines.

        Raises:
            ValueError: If there are not `count` lines.
        """
        lines = len(self.values)
        if lines != count:
            problem = f"got {lines} lines, expected one for each of {count} {of}"
            self.refuse(min(lines, count), problem)


def read_file(path: Path, columns: int | None = None) -> TUFile:
    """Read one file.

    Args:
        path: Of the file.
        columns: Values that each line must have; as many as the first one has by default.

    Raises:
        ValueError: If the file can't be read, or a line holds anything else than so many finite
            numbers; empty lines at the end don't count.
    """
    try:
        text = path.read_text(encoding="utf-8").rstrip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} can't be read: {error}") from None
    if not text:
        return TUFile(path, np.zeros((0, columns or 1)))
    try:
        values = np.loadtxt(io.StringIO(text), delimiter=",", ndmin=2, comments=None)
    except ValueError:
        values = np.zeros((0, 0))
    lines = text.count("\n") + 1
    expected = columns or text.partition("\n")[0].count(",") + 1
    if values.shape != (lines, expected) or not np.isfinite(values).all():
        _refuse_first(path, text, expected)
    return TUFile(path, values)


def _refuse_first(path: Path, text: str, columns: int) -> NoReturn:
    """Raise `ValueError` for the first line that does not hold so many finite numbers."""
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split(",")
        right = all(_NUMBER.fullmatch(word) and np.isfinite(float(word)) for word in words)
        if not right or len(words) != columns:
            numbers = "a number" if columns == 1 else f"{columns} numbers separated by commas"
            given = line if len(line) <= 100 else line[:100] + "..."
            raise ValueError(f"{path}:{number}: got {given!r}, expected {numbers}")
    raise ValueError(f"{path}: got something else, expected lines of numbers separated by commas")


@dataclass(frozen=True, eq=False)
class TUData:
    """Graphs with labels, N nodes and E edges together, numbered from 0 on.

    Attributes:
        name: Name of the data set, such as `MUTAG`.
        labels: Names of the classes, as in the files; empty where graphs have no class.
        graph: int32 `[N]`, the graph that each node belongs to, ascending.
        edge_index: int32 `[2, E]`, as in the file; an undirected edge comes in both directions.
        graph_labels: int32 `[G]`, the index in `labels` of each graph's class.
        graph_attributes: float64 `[G, .]`, numbers of each graph that a model may predict.
        node_labels: int32 `[N, .]`, as in the file.
        node_attributes: float32 `[N, .]`.
        edge_labels: int32 `[E, .]`, as in the file.
        edge_attributes: float32 `[E, .]`.
    """

    name: str
    labels: tuple[str, ...]
    graph: np.ndarray
    edge_index: np.ndarray
    graph_labels: np.ndarray | None
    graph_attributes: np.ndarray | None
    node_labels: np.ndarray | None
    node_attributes: np.ndarray | None
    edge_labels: np.ndarray | None
    edge_attributes: np.ndarray | None

    def __len__(self) -> int:
        """Return the number of graphs."""
        return int(self.graph[-1]) + 1

    @property
    def chance(self) -> float:
        """The share of the most frequent class.

        Raises:
            ValueError: If graphs have no class.
        """
        return float(np.bincount(self._classes).max() / len(self))

    @functools.cached_property
    def node_features(self) -> np.ndarray:
        """The attributes and labels of nodes, float32 `[N, F]`; labels are one-hot.

        If nodes have neither, each has the single feature 1.
        """
        features = _features("node", self.node_attributes, self.node_labels)
        return np.ones((len(self.graph), 1), np.float32) if features is None else features

    @functools.cached_property
    def edge_features(self) -> np.ndarray | None:
        """The attributes and labels of edges, float32 `[E, F]`, or None if there are none."""
        return _features("edge", self.edge_attributes, self.edge_labels)

    def batch(self, graphs: ArrayLike, targets: np.ndarray | None = None) -> GraphBatch:
        """Join some of the graphs to a batch, with their features and targets.

        Every edge leads from its lower to its higher node, as published. Several edges between the
        same two nodes become one, with the features of the first in the file. Edges from a node to
        itself are left out.

        Args:
            graphs: Integer `[B]`, the numbers of the graphs, B at least 1.
            targets: `[G, ...]`, a target for every graph of the data set; `graph_labels` by
                default.

        Returns:
            The batch, whose `nodes` are rows of `node_features`.

        Raises:
            ValueError: If a number is unknown or none is given, if the targets are not those of G
                graphs, or if no targets are given and graphs have no class.
            TypeError: If the numbers are not integers.
        """
        chosen = np.asarray(graphs)
        if chosen.ndim != 1 or not chosen.size:
            raise ValueError(f"graphs: got shape {chosen.shape}, expected [B], B at least 1")
        if not np.issubdtype(chosen.dtype, np.integer):
            raise TypeError(f"graphs: got {chosen.dtype}, expected integers")
        check_range("graphs", chosen, 0, len(self) - 1)
        if targets is None:
            targets = self._classes
        elif len(targets) != len(self):
            raise ValueError(
                f"targets: got {len(targets)}, expected one for each of {len(self)} graphs"
            )
        pairs, which = self._ascending
        starts = np.searchsorted(self.graph, np.arange(len(self) + 1))
        first, sizes = starts[chosen], np.diff(starts)[chosen]
        edge_starts = np.searchsorted(pairs[0], starts)
        edge_sizes = np.diff(edge_starts)[chosen]
        edges = ranges(edge_starts[chosen], edge_sizes)
        shift = np.repeat(np.cumsum(sizes) - sizes - first, edge_sizes)
        return GraphBatch(
            (pairs[:, edges] + shift).astype(np.int32),
            self.node_features[ranges(first, sizes)],
            np.repeat(np.arange(len(chosen), dtype=np.int32), sizes),
            targets[chosen],
            np.ones(len(chosen), bool),
            None if self.edge_features is None else self.edge_features[which[edges]],
        )

    def batches(
        self, graphs: ArrayLike, batch: int, *, seed: Seed | None = None
    ) -> Iterator[GraphBatch]:
        """Yield batches that together hold each of some graphs once.

        Args:
            graphs: Integer `[n]`, the numbers of the graphs, such as a fold's `train`.
            batch: Number of graphs per batch, at least 1; the last batch may have fewer.
            seed: Seed of a random order, such as `(seed, epoch)`. By default the graphs come in the
                order given.

        Raises:
            ValueError: As in `batch`.
            TypeError: As in `batch`.
        """
        check_at_least("batch", batch, 1)
        chosen = np.asarray(graphs)
        if seed is not None:
            chosen = generator(seed).permutation(chosen)
        for start in range(0, len(chosen), batch):
            yield self.batch(chosen[start : start + batch])

    @property
    def _classes(self) -> np.ndarray:
        if self.graph_labels is None:
            raise ValueError(f"the graphs of {self.name} have no class, but attributes alone")
        return self.graph_labels

    @functools.cached_property
    def _ascending(self) -> tuple[np.ndarray, np.ndarray]:
        """Return each edge once, from lower to higher node, sorted, and its index in the file."""
        low, high = self.edge_index.min(axis=0), self.edge_index.max(axis=0)
        proper = np.flatnonzero(low < high)
        keys = low[proper].astype(np.int64) * len(self.graph) + high[proper]
        _, first = np.unique(keys, return_index=True)
        which = proper[first]
        return np.stack([low[which], high[which]]), which


def read_tu(folder: str | os.PathLike[str]) -> TUData:
    r"""Read a data set in the format of TUDataset.

    A folder holds `NAME_A.txt`, a line `i, j` for each edge, `NAME_graph_indicator.txt`, a line for
    each node with the number of its graph, and `NAME_graph_labels.txt`, a line for each graph (or
    `NAME_graph_attributes.txt`, or both). There may be `NAME_node_labels.txt`,
    `NAME_node_attributes.txt`, `NAME_edge_labels.txt` and `NAME_edge_attributes.txt`, with one
    or more values a line. Nodes and graphs are numbered from 1 on, nodes in the order of their
    graphs.

    *Source.* Morris et al., TUDataset, arXiv 2007.08663; https://chrsmrrs.github.io/datasets.

    Args:
        folder: The folder that holds the files of one data set.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is malformed, with the file and the line.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from tasks.graphs import TUData, read_tu
        >>> files = {"A": "1,2\n2,1\n3,4\n4,3", "graph_indicator": "1\n1\n2\n2"}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for kind, lines in {**files, "graph_labels": "1\n-1"}.items():
        ...         _ = Path(folder, f"TOY_{kind}.txt").write_text(lines)
        ...     data: TUData = read_tu(folder)
        >>> data.name, data.labels, data.graph.tolist(), data.edge_index.tolist()
        ('TOY', ('-1', '1'), [0, 0, 1, 1], [[0, 1, 2, 3], [1, 0, 3, 2]])
    """
    root = Path(folder)
    # Some systems add hidden files, such as `._MUTAG_A.txt`.
    found = sorted(path for path in root.glob("*_A.txt") if not path.name.startswith("."))
    if len(found) != 1:
        raise FileNotFoundError(
            f"{root}: got {len(found)} files NAME_A.txt of a data set, expected one"
        )
    name = found[0].name.removesuffix("_A.txt")

    def read(
        kind: str,
        as_numbers: Callable[[TUFile], np.ndarray],
        lines: tuple[int, str],
        columns: int | None = None,
    ) -> np.ndarray | None:
        path = root / f"{name}_{kind}.txt"
        if not path.is_file():
            return None
        file = read_file(path, columns)
        file.check_lines(*lines)
        return as_numbers(file)

    indicator = root / f"{name}_graph_indicator.txt"
    if not indicator.is_file():
        raise FileNotFoundError(f"there is no file {indicator}")
    graph = _graph_of_nodes(read_file(indicator, 1))
    graphs, nodes = (int(graph[-1]) + 1, "graphs"), (len(graph), "nodes")
    edge_index = _edges(read_file(found[0], 2), graph)
    edges = (edge_index.shape[1], "edges")
    labels, attributes = (
        read("graph_labels", TUFile.integers, graphs, 1),
        read("graph_attributes", TUFile.reals, graphs),
    )
    if labels is None and attributes is None:
        raise FileNotFoundError(f"there is no file {root / f'{name}_graph_labels.txt'}")
    names = ()
    if labels is not None:
        values, labels = np.unique(labels, return_inverse=True)
        names, labels = tuple(map(str, values.tolist())), labels.ravel().astype(np.int32)
    return TUData(
        name=name,
        labels=names,
        graph=graph,
        edge_index=edge_index,
        graph_labels=labels,
        graph_attributes=attributes,
        node_labels=read("node_labels", TUFile.integers, nodes),
        node_attributes=read("node_attributes", TUFile.singles, nodes),
        edge_labels=read("edge_labels", TUFile.integers, edges),
        edge_attributes=read("edge_attributes", TUFile.singles, edges),
    )


def _graph_of_nodes(indicator: TUFile) -> np.ndarray:
    """Return the graph of each node, counted from 0."""
    graph = indicator.integers()[:, 0] - 1
    if not graph.size:
        indicator.refuse(0, "expected a line for each node")
    steps = np.diff(graph, prepend=0)
    wrong = (steps < 0) | (steps > np.minimum(np.arange(len(graph)), 1))
    problem = "got {}, expected nodes in the order of their graphs 1, 2, ..., none without"
    indicator.refuse_where(wrong, problem)
    return graph


def _edges(adjacency: TUFile, graph: np.ndarray) -> np.ndarray:
    """Return the ends of each edge, counted from 0."""
    ends = adjacency.integers() - 1
    unknown = ((ends < 0) | (ends >= len(graph))).max(axis=1)
    adjacency.refuse_where(unknown, f"got {{}}, expected nodes 1 .. {len(graph)}")
    apart = graph[ends[:, 0]] != graph[ends[:, 1]]
    adjacency.refuse_where(apart, "got {}, expected an edge between nodes of one graph")
    return np.ascontiguousarray(ends.T)


def _features(
    of: str, attributes: np.ndarray | None, labels: np.ndarray | None
) -> np.ndarray | None:
    parts = [] if attributes is None else [attributes]
    columns = [] if labels is None else labels.T
    kinds = [np.unique(column) for column in columns]
    count = sum(len(kind) for kind in kinds)
    if labels is not None and count * len(labels) > _MOST_FEATURES:
        raise ValueError(
            f"{of} labels: got {len(labels)} of {count} kinds, which take {count * len(labels)} "
            f"zeros and ones, expected at most {_MOST_FEATURES}: bring numbers as {of} attributes"
        )
    parts += [column[:, None] == kind for column, kind in zip(columns, kinds, strict=True)]
    return np.concatenate(parts, axis=1, dtype=np.float32) if parts else None
