"""Cross validation over a data set of graphs: the published folds, and the task for one fold."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tasks.graphs.tu import TUData, read_tu
from tasks.options import check, check_at_least, check_choice


class Fold(NamedTuple):
    """One split of a data set; each part holds numbers of graphs.

    Attributes:
        train: int `[n]`, the graphs to train on, in the published order.
        validation: int `[n]`, the graphs by which the epoch is chosen.
        test: int `[n]`, the graphs to test on, ascending.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def folds(labels: ArrayLike, num_folds: int = 10, seed: int = 42) -> list[Fold]:
    """Split a data set for cross validation; every class has the same share in each part.

    The graphs are dealt to `num_folds` folds. Each fold is the test set once, and one graph in
    `num_folds - 1` of the others is for validation. Where a class has too few graphs for both
    parts, those for validation are drawn without regard to classes.

    Args:
        labels: Integer `[G]`, the class of each graph.
        num_folds: Number of folds, at least 3.
        seed: Seed of the random numbers; 42 gives the published folds.

    Returns:
        `num_folds` splits, in the order of the folds that they test on.

    Raises:
        ValueError: If there are fewer than 3 folds, or no class has a graph for each.
        TypeError: If an argument isn't of integers.

    *Source.* The indices are those of ml-jku/plstm_experiments: `StratifiedKFold` and
    `train_test_split` of scikit-learn (BSD-3-Clause), whose draws are repeated here.

    Example:
        >>> from tasks.graphs import Fold, folds
        >>> first: Fold = folds([0, 1] * 6, num_folds=3)[0]
        >>> len(first.train), len(first.validation), first.test.tolist()
        (4, 4, [0, 2, 3, 5])
    """
    check_at_least("num_folds", num_folds, 3)
    check_at_least("seed", seed, 0)
    array = np.asarray(labels)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"labels: got shape {array.shape}, expected [G], G at least 1")
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"labels: got {array.dtype}, expected integers")
    fold = _dealt(array, num_folds, seed)
    parts = []
    for number in range(num_folds):
        rest = np.flatnonzero(fold != number)
        train, validation = _split(array[rest], num_folds, seed)
        parts.append(Fold(rest[train], rest[validation], np.flatnonzero(fold == number)))
    return parts


def _dealt(labels: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Return the fold in which each graph is tested, int `[G]`."""
    _, first, classes = np.unique(labels, return_index=True, return_inverse=True)
    classes = np.argsort(np.argsort(first))[classes]  # in order of first occurrence
    counts = np.bincount(classes)
    largest = f"at most {counts.max()}, the size of the largest class"
    check(counts.max() >= num_folds, "num_folds", num_folds, largest)
    ascending = np.sort(classes)
    shares = [np.bincount(ascending[k::num_folds], minlength=len(counts)) for k in range(num_folds)]
    random = _published(seed)
    fold = np.empty(len(classes), int)
    for number, share in enumerate(np.transpose(shares)):
        dealt = np.repeat(np.arange(num_folds), share)
        random.shuffle(dealt)
        fold[classes == number] = dealt
    return fold


def _split(labels: np.ndarray, num_folds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions to train on and to validate on, in the order in which they are drawn."""
    # The published share for 10 folds is 0.888889: (num_folds - 2) / (num_folds - 1), rounded up.
    share = math.ceil(1e6 * (num_folds - 2) / (num_folds - 1)) / 1e6
    size = len(labels)
    wanted = math.floor(share * size)
    random = _published(seed)
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.min() < 2 or min(wanted, size - wanted) < len(counts):
        order = random.permutation(size)
        return order[size - wanted :], order[: size - wanted]
    first = _by_share(counts, wanted, random)
    second = _by_share(counts - first, size - wanted, random)
    train, validation = [], []
    for number, (here, there) in enumerate(zip(first, second, strict=True)):
        drawn = np.flatnonzero(classes == number)[random.permutation(counts[number])]
        train.append(drawn[:here])
        validation.append(drawn[here : here + there])
    parts = (random.permutation(np.concatenate(part)) for part in (train, validation))
    train, validation = parts
    return train, validation


def _by_share(counts: np.ndarray, total: int, random: np.random.RandomState) -> np.ndarray:
    """Divide a total among classes by their counts.

    The largest remainders are rounded up, and ties are broken at random.
    """
    exact = counts / counts.sum() * total
    chosen = np.floor(exact)
    missing = int(total - chosen.sum())
    remainders = exact - chosen
    for remainder in np.unique(remainders)[::-1]:
        if missing > 0:
            tied = np.flatnonzero(remainders == remainder)
            chosen[random.choice(tied, min(len(tied), missing), replace=False)] += 1
            missing -= min(len(tied), missing)
    return chosen.astype(int)


def _published(seed: int) -> np.random.RandomState:
    # The published draws were made with `RandomState`, so a `Generator` would not repeat them.
    return np.random.RandomState(seed)


@functools.lru_cache(maxsize=4)
def _read(folder: str, files: tuple[tuple[str, int, int], ...]) -> TUData:
    del files  # it is part of the cache key, so that a folder that has changed is read again
    return read_tu(folder)


def _files(folder: str) -> tuple[tuple[str, int, int], ...]:
    """Return the name, size and time of the last change of each text file of a folder."""
    found = [(path.name, path.stat()) for path in sorted(Path(folder).glob("*.txt"))]
    return tuple((name, file.st_size, file.st_mtime_ns) for name, file in found)


class Scaling(NamedTuple):
    """The mean and standard deviation of each attribute over the training graphs.

    The model learns attributes from which the mean was subtracted and which were then divided by
    the standard deviation.

    Attributes:
        mean: float64 `[A]`, in the units of the file.
        std: float64 `[A]`, in the units of the file; 1 for an attribute that is always equal.
    """

    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class TUTask:
    r"""Classes or attributes of graphs, learned on one part of a data set and tested on another.

    *Rule.* The files say for each graph a class, or one or more numbers.

    *Cross validation.* The graphs are dealt to folds as published (without regard to classes where
    attributes are predicted). Fold k is the test set, and one part in `num_folds - 1` of the others
    is for choosing the epoch.

    *Attributes.* The model learns them scaled to mean 0 and standard deviation 1 over the graphs to
    train on. Errors are in the units of the file; of several columns, the mean is given.

    *Source.* The format of TUDataset, https://chrsmrrs.github.io/datasets; Pöppel et al., pLSTM,
    arXiv 2506.11997, table 3.

    Args:
        data: The folder that holds the files `NAME_A.txt`, `NAME_graph_indicator.txt`, ...
        target: What is predicted: the "class" in `NAME_graph_labels.txt`, or the "attribute" in
            `NAME_graph_attributes.txt`.
        column: Which attribute is predicted, counted from 0; None: all.
        fold: Which fold is tested, counted from 0.
        num_folds: Number of folds.
        fold_seed: Seed by which graphs are dealt to folds.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from tasks.graphs import TUTask
        >>> files = {"A": "1,2", "graph_indicator": "1\n1\n2\n3\n4\n5\n6"}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for kind, lines in {**files, "graph_labels": "1\n0\n1\n0\n1\n0"}.items():
        ...         _ = Path(folder, f"TOY_{kind}.txt").write_text(lines)
        ...     task = TUTask(folder, num_folds=3)
        ...     print(task.labels, task.chance, len(task.part.train), len(task.part.test))
        ('0', '1') 0.5 2 2
    """

    data: str = ""
    target: str = "class"
    column: int | None = None
    fold: int = 0
    num_folds: int = 10
    fold_seed: int = 42

    name: ClassVar[str] = "tu"
    per_node: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.data, str) or not self.data:
            raise TypeError(
                f"data: got {self.data!r}, expected the folder of a data set, data=PATH"
            )
        check_choice("target", self.target, ("class", "attribute"))
        if self.column is not None:
            check_at_least("column", self.column, 0)
            if self.target == "class":
                raise ValueError("target: got class, expected target=attribute with a column")
        check_at_least("num_folds", self.num_folds, 3)
        check_at_least("fold", self.fold, 0)
        inside = self.fold < self.num_folds
        check(inside, "fold", self.fold, f"below num_folds={self.num_folds}")

    @functools.cached_property
    def graphs(self) -> TUData:
        """The data set, as it was when this task first read the files."""
        return _read(self.data, _files(self.data))

    @property
    def part(self) -> Fold:
        """The fold: the graphs to train on, those that choose the epoch, and those to test."""
        if self.target == "attribute":
            _ = self.attributes  # raises an error if there are none
        return _folds(self.graphs, self.target, self.num_folds, self.fold_seed)[self.fold]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes; there are none if attributes are predicted."""
        return self.graphs.labels if self.target == "class" else ()

    @property
    def chance(self) -> float:
        """The share of the most frequent class, or 0 if attributes are predicted."""
        return self.graphs.chance if self.target == "class" else 0.0

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics; the first metric chooses the epoch."""
        return ("accuracy",) if self.target == "class" else ("mae", "rmse")

    @property
    def attributes(self) -> np.ndarray:
        """The attributes that are predicted, float64 `[G, A]`, in the units of the file.

        Raises:
            ValueError: If graphs have no attributes, or no such column.
        """
        data = self.graphs
        if data.graph_attributes is None:
            raise ValueError(f"there is no file {data.name}_graph_attributes.txt in {self.data}")
        if self.column is None:
            return data.graph_attributes
        columns = data.graph_attributes.shape[1]
        check(self.column < columns, "column", self.column, f"below {columns} of {data.name}")
        return data.graph_attributes[:, [self.column]]

    @property
    def scaling(self) -> Scaling:
        """The mean and the standard deviation of the attributes of the graphs to train on."""
        known = self.attributes[self.part.train]
        std = np.where(np.ptp(known, axis=0) > 0, known.std(0), 1.0)
        return Scaling(known.mean(0), std)

    @functools.cached_property
    def learned(self) -> np.ndarray | None:
        """The scaled attributes that a model learns, float32 `[G, A]`, or None for classes."""
        if self.target == "class":
            return None
        mean, std = self.scaling
        return ((self.attributes - mean) / std).astype(np.float32)

    @property
    def outputs(self) -> int:
        """The number of outputs of a model for each graph."""
        return len(self.labels) if self.target == "class" else self.attributes.shape[1]

    def measured(self, graphs: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
        """Compute the metrics for some graphs.

        Args:
            graphs: int `[n]`, the numbers of the graphs.
            outputs: float `[n, .]`, a model's outputs for each of them.
        """
        if self.target == "class":
            right = outputs.argmax(-1) == np.asarray(self.graphs.graph_labels)[graphs]
            return {"accuracy": float(right.mean())}
        mean, std = self.scaling
        errors = outputs * std + mean - self.attributes[graphs]
        rmse = np.sqrt((errors**2).mean(0)).mean()
        return {"mae": float(abs(errors).mean()), "rmse": float(rmse)}


@functools.lru_cache(maxsize=4)
def _folds(data: TUData, target: str, num_folds: int, fold_seed: int) -> list[Fold]:
    labels = data.graph_labels
    if target == "attribute":
        labels = np.zeros(len(data), int)
    elif labels is None:
        raise ValueError(
            f"the graphs of {data.name} have no class; task.target=attribute predicts their "
            "attributes"
        )
    return folds(labels, num_folds, fold_seed)
