"""Automata over trees."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.base import check_at_least, check_choice
from tasks.graphs.trees import TreeTask

_MOST_STATES = 64
_MOST_OPERATORS = 1000


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
        """Numbers of the states."""
        return tuple(map(str, range(self.states)))

    @property
    def _operators(self) -> dict[str, tuple[int, int]]:
        return {f"f{number}": (2, 2) for number in range(self.operators)}

    @functools.cached_property
    def table(self) -> np.ndarray:
        """The next state, int32 `[operators, states, states]` of operator, left and right."""
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
