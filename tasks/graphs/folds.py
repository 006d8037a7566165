"""Cross validation over labelled graphs, with the published folds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tasks.base import check_at_least


class Fold(NamedTuple):
    """One of the ways in which a data set is parted.

    Attributes:
        train: int `[n]`, numbers of the graphs to train on, in the published order.
        validation: int `[n]`, those that choose the epoch.
        test: int `[n]`, those of the fold, ascending.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def folds(labels: ArrayLike, num_folds: int = 10, seed: int = 42) -> list[Fold]:
    """Part a data set for cross validation, with every class in each part by its share.

    The graphs are dealt to folds; each fold is the test set once, and of what remains one graph in
    `num_folds - 1` is for validation. Those are drawn without regard to classes where one of them
    has too few graphs for both parts.

    Args:
        labels: Integer `[G]`, the class of each graph.
        num_folds: At least 3.
        seed: Of the random numbers, 42 as published.

    Returns:
        The folds, `num_folds` of them.

    Raises:
        ValueError: If there are fewer than 3 folds, or no class has a graph for each.
        TypeError: If an argument isn't of integers.

    *Source.* The indices are those of ml-jku/plstm_experiments: `StratifiedKFold` and
    `train_test_split` of scikit-learn (BSD-3-Clause), whose draws are repeated here.
    """
    check_at_least("num_folds", num_folds, 3)
    check_at_least("seed", seed, 0)
    array = np.asarray(labels)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"labels must have shape [G], G at least 1; got {array.shape}")
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"labels must be integers, got {array.dtype}")
    fold = _dealt(array, num_folds, seed)
    parts = []
    for number in range(num_folds):
        rest = np.flatnonzero(fold != number)
        train, validation = _split(array[rest], num_folds, seed)
        parts.append(Fold(rest[train], rest[validation], np.flatnonzero(fold == number)))
    return parts


def _dealt(labels: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """The fold in which each graph is tested, int `[G]`."""
    _, first, classes = np.unique(labels, return_index=True, return_inverse=True)
    classes = np.argsort(np.argsort(first))[classes]  # numbered as they come
    counts = np.bincount(classes)
    if counts.max() < num_folds:
        raise ValueError(
            f"num_folds must be at most {counts.max()}, the size of the largest class; "
            f"got {num_folds}"
        )
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
    """Places to train on and to validate, in the order in which they are drawn."""
    # Published with the share 0.888889 of 10 folds: (num_folds - 2) / (num_folds - 1), rounded up.
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
    """How many of each class make a total: largest remainders are rounded up, ties at random."""
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
    # Not a Generator: the published draws are of this one.
    return np.random.RandomState(seed)
