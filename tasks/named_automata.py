"""Automata with a name: parity, even pairs, steps on a cycle, a memory, and random ones."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.base import Bits
from tasks.options import MOST_SYMBOLS, check_at_least, check_choice
from tasks.prefix import AutomatonTask, Machine, reachable


@dataclass(frozen=True)
class Parity(Bits, AutomatonTask):
    """Is the number of ones so far odd?

    *Rule.* The label at position t is `(x_0 + ... + x_t) mod 2`.

    *Alphabet.* 0 and 1, drawn uniformly; labels 0 and 1.

    *Example.*

        input   1 0 1 1 0
        label   1 1 0 1 1

    *Chance.* 1/2.

    *Source.* Parity check of Delétang et al., Neural Networks and the Chomsky Hierarchy,
    arXiv 2207.02098, which asks for the last label only.

    Args:
        labels_at: Score "every" position or the "last" of each row.

    Example:
        >>> import tasks
        >>> task = tasks.Parity()
        >>> task.targets([task.encode("10110")]).tolist()
        [[1, 1, 0, 1, 1]]
    """

    name: ClassVar[str] = "parity"

    @functools.cached_property
    def machine(self) -> Machine:
        """The parity so far, changed by a one."""
        transition = np.array([[0, 1], [1, 0]])
        return Machine(transition, np.arange(2), 0, np.full(2, 1 / 2))


@dataclass(frozen=True)
class EvenPairs(Bits, AutomatonTask):
    """Is the number of unequal neighbours (01 and 10) so far odd?

    *Rule.* The label at position t is 1 if that number is odd. This is so if and only if the first
    symbol differs from the last: `x_0 xor x_t`.

    *Alphabet.* 0 and 1, drawn uniformly; labels 0 and 1.

    *Example.*

        input   1 0 0 1 0
        label   0 1 1 0 1

    *Chance.* 1/2. (The first label is always 0.)

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098, which
    asks for the last label only.

    Args:
        labels_at: Score "every" position or the "last" of each row.

    Example:
        >>> import tasks
        >>> task = tasks.EvenPairs()
        >>> task.targets([task.encode("10010")]).tolist()
        [[0, 1, 1, 0, 1]]
    """

    name: ClassVar[str] = "even_pairs"

    @functools.cached_property
    def machine(self) -> Machine:
        """First and last symbol in states `2 first + last`; state 4 is the start."""
        transition = np.array([[0, 1], [0, 1], [2, 3], [2, 3], [0, 3]])
        return Machine(transition, np.array([0, 1, 1, 0, 0]), 4, np.full(2, 1 / 2))


@dataclass(frozen=True)
class CycleNavigation(AutomatonTask):
    """Where on a cycle do steps of -1, 0 and +1 lead?

    *Rule.* The label at position t is the sum of the steps so far modulo the length of the cycle;
    the walk starts at position 0.

    *Alphabet.* `-`, `0`, `+`, drawn uniformly; labels 0 .. modulus - 1.

    *Example.* On a cycle of 5:

        input   + - 0 - -
        label   1 0 0 4 3

    *Chance.* One over the length of the cycle. (Short inputs stay near 0.)

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098, with a
    cycle of 5 and the last label only.

    Args:
        modulus: Length of the cycle, at least 2.
        labels_at: Score "every" position or the "last" of each row.

    Raises:
        ValueError: If the modulus is below 2.

    Example:
        >>> import tasks
        >>> task = tasks.CycleNavigation(modulus=5)
        >>> task.targets([task.encode("+-0--")]).tolist()
        [[1, 0, 0, 4, 3]]
    """

    modulus: int = 5

    name: ClassVar[str] = "cycle_navigation"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("modulus", self.modulus, 2, MOST_SYMBOLS)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Steps of -1, 0 and +1."""
        return ("-", "0", "+")

    @property
    def labels(self) -> tuple[str, ...]:
        """Positions on the cycle."""
        return tuple(map(str, range(self.modulus)))

    @functools.cached_property
    def chance(self) -> float:
        """The accuracy of a guess among all places of the cycle."""
        return 1 / self.modulus

    @functools.cached_property
    def machine(self) -> Machine:
        """The position, moved by each step."""
        positions = np.arange(self.modulus)
        transition = (positions[:, None] + np.array([-1, 0, 1])) % self.modulus
        return Machine(transition, positions, 0, np.full(3, 1 / 3))


@dataclass(frozen=True)
class FlipFlop(AutomatonTask):
    """Which value was written last?

    *Rule.* A digit writes its value to the memory, `.` holds it. The label at position t is the
    value in the memory, which is 0 before anything is written.

    *Alphabet.* `.` (hold), then the values 0 .. num_values - 1; labels are the values.

    *Example.*

        input   . 1 . . 0 1 .
        label   0 1 1 1 0 1 1

    *Chance.* One over the number of values, in long inputs.

    *Source.* The flip-flop automaton of Liu et al., arXiv 2210.10749; holding four times out of
    five is the base setting of Liu et al., Exposing Attention Glitches with Flip-Flop Language
    Modeling, arXiv 2306.00946.

    Args:
        num_values: How many values the memory distinguishes, at least 2.
        hold_probability: How often the memory is held, at least 0 and below 1; the more, the
            longer it has to remember. All values are written equally often.
        labels_at: Score "every" position or the "last" of each row.

    Raises:
        ValueError: If an option leaves its range.

    Example:
        >>> import tasks
        >>> task = tasks.FlipFlop()
        >>> task.targets([task.encode(".1..01.")]).tolist()
        [[0, 1, 1, 1, 0, 1, 1]]
    """

    num_values: int = 2
    hold_probability: float = 0.8

    name: ClassVar[str] = "flip_flop"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("num_values", self.num_values, 2, MOST_SYMBOLS)
        if not 0 <= self.hold_probability < 1:
            raise ValueError(
                f"hold_probability must be at least 0 and below 1, got {self.hold_probability}"
            )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Hold, then the values to write."""
        return (".", *self.labels)

    @property
    def labels(self) -> tuple[str, ...]:
        """The values of the memory."""
        return tuple(map(str, range(self.num_values)))

    @functools.cached_property
    def machine(self) -> Machine:
        """The memory: held, or overwritten."""
        values = np.arange(self.num_values)
        written = np.broadcast_to(values, (self.num_values, self.num_values))
        transition = np.concatenate([values[:, None], written], axis=1)
        writes = np.full(self.num_values, (1 - self.hold_probability) / self.num_values)
        return Machine(transition, values, 0, np.r_[self.hold_probability, writes])


MOST_STATES = 256
"""Largest number of states: automata are drawn until one is connected, the longer the larger."""


@dataclass(frozen=True)
class RandomAutomaton(AutomatonTask):
    """Which state is a random automaton in?

    *Rule.* `state_t = transition[state_(t-1)][x_t]` from state 0 on; the label at position t is
    `state_t`. What symbols do to the states:

    - `kind="permutation"`: each symbol permutes them at random.
    - `kind="reset"`: for each state there is one symbol that leads to it from everywhere. If there
      are more symbols, one changes nothing, and each other one changes nothing or is such a reset.
    - `kind="mixed"`: the first symbol permutes them, the second leads to one of them, and each
      other one does either; as far as possible, different symbols lead to different states.

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

    Example:
        >>> import tasks
        >>> task = tasks.RandomAutomaton(states=4, symbols=5, kind="mixed", seed=0)
        >>> task.targets([task.encode("0123402")]).tolist()
        [[3, 0, 3, 2, 1, 2, 3]]
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
        while not reachable(table).all():
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
