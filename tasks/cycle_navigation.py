"""Steps forth and back on a cycle."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.automaton import AutomatonTask, Machine
from tasks.base import MOST_SYMBOLS, check_at_least


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

    @property
    def chance(self) -> float:
        """The accuracy of a guess among all places of the cycle."""
        return 1 / self.modulus

    @functools.cached_property
    def machine(self) -> Machine:
        """The position, moved by each step."""
        positions = np.arange(self.modulus)
        transition = (positions[:, None] + np.array([-1, 0, 1])) % self.modulus
        return Machine(transition, positions, 0, np.full(3, 1 / 3))
