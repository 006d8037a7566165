"""Tasks on trees: Boolean formulas, operations on lists of digits, and random tree automata."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.graphs.trees import TreeTask
from tasks.options import check_at_least, check_choice, shown

_OPERATORS = ("not", "and", "or", "xor")
_ON_LISTS = ("min", "max", "med", "sum")
_DIGITS = 10
_MOST_STATES, _MOST_OPERATORS = 64, 1000


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
                f"operators: got {shown(chosen)}, expected different ones of "
                f"{', '.join(_OPERATORS)}"
            )
        if ("and" in chosen) != ("or" in chosen):
            raise ValueError(
                f"operators: got {shown(chosen)}, expected both 'and' and 'or' or neither: values "
                "would be mostly one of the two"
            )
        check_at_least("max_operands", self.max_operands, 2, 8)
        ordered = tuple(operator for operator in _OPERATORS if operator in chosen)
        object.__setattr__(self, "operators", ordered)

    @property
    def labels(self) -> tuple[str, ...]:
        """The two labels: false, true."""
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
        check_at_least("max_operands", self.max_operands, 2, 5)

    @property
    def labels(self) -> tuple[str, ...]:
        """The digits."""
        return tuple(map(str, range(_DIGITS)))

    @property
    def _operators(self) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(_ON_LISTS, (2, self.max_operands))

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
        return np.stack([results[name] for name in _ON_LISTS])[operator, rows]


@dataclass(frozen=True)
class TreeAutomaton(TreeTask):
    """In which state does a random automaton leave a binary tree, from the leaves up?

    *Rule.* A leaf holds a state. The label of an inner node is `table[operator, left, right]`, of
    the labels of its two operands. What the tables are:

    - `kind="permutation"`: for each state of one operand, an operator permutes those of the other,
      so that each leaf counts at any depth. (A table is that of addition modulo `states`, with
      rows, columns and entries permuted at random.)
    - `kind="random"`: each entry is a random state; most of what is deep is forgotten.

    *Alphabet.* States 0, 1, ... and operators f0, f1, ..., drawn uniformly, with the side on which
    a node is an operand; labels are the states.

    *Example.* The default:

        formula  f0(f1(2, 3), f2(0, f0(1, 1)))
        label    3

    *Chance.* One over the number of states for permutations; else the frequency of the most
    frequent label in trees of depth 32, computed exactly.

    *Source.* Deterministic bottom-up tree automata: Comon et al., Tree Automata Techniques and
    Applications, 2008, chapter 1.

    Args:
        labels_at: Score "every" operator, the "output", which is the root, or one label a "graph".
        branching: See `tasks.graphs.trees.TreeTask`.
        states: Number of states, 2 .. 64.
        operators: Number of operators, at least 1.
        kind: "permutation" or "random".
        seed: Another automaton for each; a table is a function of these four options.

    Raises:
        ValueError: If an option leaves its range.
    """

    states: int = 4
    operators: int = 3
    kind: str = "permutation"
    seed: int = 0

    name: ClassVar[str] = "dag_automaton"
    _ordered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("kind", self.kind, ("permutation", "random"))
        check_at_least("states", self.states, 2, _MOST_STATES)
        check_at_least("operators", self.operators, 1, _MOST_OPERATORS)
        check_at_least("seed", self.seed, 0)

    @property
    def labels(self) -> tuple[str, ...]:
        """The numbers of the states."""
        return tuple(map(str, range(self.states)))

    @property
    def _operators(self) -> dict[str, tuple[int, int]]:
        return {f"f{number}": (2, 2) for number in range(self.operators)}

    @functools.cached_property
    def table(self) -> np.ndarray:
        """The next state for each operator, left and right state: `[operators, states, states]`."""
        kind = ("permutation", "random").index(self.kind)
        random = np.random.default_rng((self.seed, kind, self.states, self.operators))
        if self.kind == "random":
            shape = (self.operators, self.states, self.states)
            return random.integers(self.states, size=shape, dtype=np.int32)
        tables = []
        for _ in range(self.operators):
            left, right, entries = (random.permutation(self.states) for _ in range(3))
            tables.append(entries[(left[:, None] + right) % self.states])
        return np.array(tables, np.int32)

    def _value(self, operator: np.ndarray, values: np.ndarray, count: np.ndarray) -> np.ndarray:
        del count
        return self.table[operator, values[:, 0], values[:, 1]]
