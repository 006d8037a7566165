"""Random automata: permutations, resets, or both."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.automaton import AutomatonTask, Machine
from tasks.base import MOST_SYMBOLS, check_at_least, check_choice

MOST_STATES = 256
"""Largest number of states: automata are drawn until one is connected, the longer the larger."""


@dataclass(frozen=True)
class RandomAutomaton(AutomatonTask):
    """Which state is a random automaton in?

    *Rule.* `state_t = transition[state_(t-1)][x_t]` from state 0 on; the label at position t is
    `state_t`. What symbols do to the states:

    - `kind="permutation"`: each permutes them, at random.
    - `kind="reset"`: as many symbols as states, in random order, lead each to one state of its own,
      wherever one is; of further symbols the first changes nothing, others do either.
    - `kind="mixed"`: the first permutes them, the second leads to one of them, others do either;
      different symbols lead to different states, as far as there are some.

    From every state every other can be reached, and some symbol changes something.

    *Alphabet.* Symbols 0, 1, ..., drawn uniformly; labels are the states.

    *Example.* The default:

        input   0 1 2 3 4 0 2
        label   3 0 3 2 1 2 3

    *Chance.* Frequency of the most frequent state in long inputs, from the chain of states.

    *Source.* Permutation-reset automata as in Liu et al., Transformers Learn Shortcuts to Automata,
    arXiv 2210.10749.

    Args:
        states: Number of states, 2 .. 256.
        symbols: Number of symbols; at least `states` for resets, at least 2 for "mixed".
        kind: "permutation", "reset" or "mixed".
        seed: Another automaton for each; a table is a function of these four options.
        labels_at: Score "every" position or the "last" of each row.

    Raises:
        ValueError: If an option leaves its range.
    """

    states: int = 4
    symbols: int = 5
    kind: str = "mixed"
    seed: int = 0

    name: ClassVar[str] = "random_automaton"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("kind", self.kind, ("permutation", "reset", "mixed"))
        check_at_least("states", self.states, 2, MOST_STATES)
        fewest = {"permutation": 1, "reset": self.states, "mixed": 2}[self.kind]
        check_at_least(f"symbols of kind={self.kind!r}", self.symbols, fewest, MOST_SYMBOLS)
        check_at_least("seed", self.seed, 0)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Numbers of the symbols."""
        return tuple(map(str, range(self.symbols)))

    @property
    def labels(self) -> tuple[str, ...]:
        """Numbers of the states."""
        return tuple(map(str, range(self.states)))

    @functools.cached_property
    def machine(self) -> Machine:
        """The automaton, with uniform symbols."""
        kind = ("permutation", "reset", "mixed").index(self.kind)
        random = np.random.default_rng((self.seed, kind, self.states, self.symbols))
        table = self._table(random)
        while not _connected(table):
            table = self._table(random)
        frequencies = np.full(self.symbols, 1 / self.symbols)
        return Machine(table, np.arange(self.states), 0, frequencies)

    def _table(self, random: np.random.Generator) -> np.ndarray:
        """A table of the kind, int32 `[states, symbols]`, connected or not."""
        n, spare = self.states, self.symbols - self.states
        if self.kind == "reset":
            targets = random.permutation(n)
            more = random.integers(-1, n, max(spare, 0))
            more[:1] = -1
            chosen = np.concatenate([targets, more])
            columns = [np.arange(n) if t < 0 else np.full(n, t) for t in chosen]
        else:
            permutes = np.ones(self.symbols, bool)
            if self.kind == "mixed":
                permutes = random.random(self.symbols) < 1 / 2
                permutes[:2] = True, False
            # Resets lead to different states, as far as there are some.
            targets = np.resize(random.permutation(n), self.symbols)
            columns = [
                random.permutation(n) if permute else np.full(n, target)
                for permute, target in zip(permutes, targets, strict=True)
            ]
        return np.stack(columns, axis=1).astype(np.int32)


def _connected(table: np.ndarray) -> bool:
    """Whether every state can be reached from every other."""
    states = len(table)
    steps = np.zeros((states, states), bool)
    steps[np.arange(states)[:, None], table] = True
    there = _reached(steps)
    return bool(there.all() and _reached(steps.T).all())


def _reached(steps: np.ndarray) -> np.ndarray:
    """The states that can be reached from state 0."""
    reached = np.arange(len(steps)) == 0
    while True:
        wider = reached | steps[reached].any(axis=0)
        if (wider == reached).all():
            return reached
        reached = wider
