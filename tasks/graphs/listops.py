"""Operations on lists of digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.base import MOST_SYMBOLS, check_at_least
from tasks.graphs.trees import TreeTask

_OPERATORS = ("min", "max", "med", "sum")
_DIGITS = 10
_MOST_OPERANDS = 5


@dataclass(frozen=True)
class ListOps(TreeTask):
    """What is a nested list of digits worth?

    *Rule.* The label of a node is the value below it: `min`, `max`, `med` (the median; of an even
    number of values, the mean of the middle two, rounded down) or `sum` (modulo 10).

    *Alphabet.* The digits and the four operators, drawn uniformly; operators have
    2 .. `max_operands` operands.

    *Example.*

        formula  max(2, med(1, 8), sum(5, 6, 8))
        label    9

    *Chance.* Frequency of the most frequent label in trees of depth 32, computed exactly.

    *Depth.* Only `sum` never hides what is below one of its operands.

    *Source.* Nangia and Bowman, ListOps: A Diagnostic Dataset for Latent Tree Learning, arXiv
    1804.06028, whose lists have at most 5 operands; the shapes of its trees are drawn otherwise.

    Args:
        labels_at: Score "every" operator, the "output", which is the root, or one label a "graph".
        branching: See `tasks.graphs.trees.TreeTask`.
        max_operands: Most operands of an operator, 2 .. 5.

    Raises:
        ValueError: If an option leaves its range.
    """

    max_operands: int = 3

    name: ClassVar[str] = "dag_listops"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("max_operands", self.max_operands, 2, MOST_SYMBOLS)
        if self.max_operands > _MOST_OPERANDS:
            raise ValueError(
                f"max_operands must be at most {_MOST_OPERANDS}, got {self.max_operands}"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """Digits."""
        return tuple(map(str, range(_DIGITS)))

    @property
    def _operators(self) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(_OPERATORS, (2, self.max_operands))

    def _value(self, operator: np.ndarray, values: np.ndarray, count: np.ndarray) -> np.ndarray:
        there = np.arange(values.shape[1]) < count[:, None]
        ascending = np.sort(np.where(there, values, _DIGITS), axis=1)
        rows = np.arange(len(values))
        low, high = ascending[rows, (count - 1) // 2], ascending[rows, count // 2]
        results = {
            "min": ascending[:, 0],
            "max": ascending[rows, count - 1],
            "med": (low + high) // 2,
            "sum": np.where(there, values, 0).sum(axis=1) % _DIGITS,
        }
        return np.stack([results[name] for name in _OPERATORS])[operator, rows]
