"""Boolean formulas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.base import MOST_SYMBOLS, check_at_least, shown
from tasks.graphs.trees import TreeTask

_OPERATORS = ("not", "and", "or", "xor")
_MOST_OPERANDS = 8


@dataclass(frozen=True)
class BooleanFormula(TreeTask):
    """Is a Boolean formula true?

    *Rule.* The label of a node is the value of the formula below it.

    *Alphabet.* 0, 1 and the operators, drawn uniformly; `not` has one operand, the others have
    2 .. `max_operands`.

    *Example.*

        formula  xor(and(1, not(0)), or(0, 0))
        label    1

    *Chance.* 1/2: where `and` and `or` are equally frequent, values are.

    *Depth.* `and` and `or` hide what is below one of their operands as soon as another settles
    them: with the defaults a value counts `n` levels above with probability `(3/4)^n`. With
    `operators=("not", "xor")` each leaf counts at any depth.

    *Source.* The formula value problem, complete for NC1: Buss, The Boolean formula value problem
    is in ALOGTIME, STOC 1987.

    Args:
        labels_at: Score "every" operator, the "output", which is the root, or one label a "graph".
        branching: See `tasks.graphs.trees.TreeTask`.
        operators: Some of "not", "and", "or", "xor", in this order in the vocabulary; "and" and
            "or" only together.
        max_operands: Most operands of an operator, 2 .. 8.

    Raises:
        ValueError: If an option is none of these.
    """

    operators: Sequence[str] = _OPERATORS
    max_operands: int = 2

    name: ClassVar[str] = "dag_boolean"

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen = (self.operators,) if isinstance(self.operators, str) else tuple(self.operators)
        if not chosen or set(chosen) - set(_OPERATORS) or len(set(chosen)) < len(chosen):
            raise ValueError(
                f"operators must be different ones of {', '.join(_OPERATORS)}; got {shown(chosen)}"
            )
        if ("and" in chosen) != ("or" in chosen):
            raise ValueError(
                f"operators must hold both 'and' and 'or' or neither, got {shown(chosen)}: values "
                "would be mostly one of the two"
            )
        check_at_least("max_operands", self.max_operands, 2, MOST_SYMBOLS)
        if self.max_operands > _MOST_OPERANDS:
            raise ValueError(
                f"max_operands must be at most {_MOST_OPERANDS}, got {self.max_operands}"
            )
        ordered = tuple(operator for operator in _OPERATORS if operator in chosen)
        object.__setattr__(self, "operators", ordered)

    @property
    def labels(self) -> tuple[str, ...]:
        """False, true."""
        return ("0", "1")

    @property
    def _operators(self) -> dict[str, tuple[int, int]]:
        return {
            name: (1, 1) if name == "not" else (2, self.max_operands) for name in self.operators
        }

    def _value(self, operator: np.ndarray, values: np.ndarray, count: np.ndarray) -> np.ndarray:
        ones = np.where(np.arange(values.shape[1]) < count[:, None], values, 0).sum(axis=1)
        results = {"not": ones == 0, "and": ones == count, "or": ones > 0, "xor": ones % 2 == 1}
        chosen = np.stack([results[name] for name in self.operators])
        return chosen[operator, np.arange(len(operator))].astype(values.dtype)
