"""Is the number of unequal neighbours even?"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.automaton import AutomatonTask, Machine


@dataclass(frozen=True)
class EvenPairs(AutomatonTask):
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
    """

    name: ClassVar[str] = "even_pairs"

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Bits."""
        return ("0", "1")

    @property
    def labels(self) -> tuple[str, ...]:
        """Even, odd."""
        return ("0", "1")

    @functools.cached_property
    def machine(self) -> Machine:
        """First and last symbol in states `2 first + last`; state 4 is the start."""
        transition = np.array([[0, 1], [0, 1], [2, 3], [2, 3], [0, 3]])
        return Machine(transition, np.array([0, 1, 1, 0, 0]), 4, np.full(2, 1 / 2))
