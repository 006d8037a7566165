"""Parity of a bit string."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.automaton import AutomatonTask, Machine


@dataclass(frozen=True)
class Parity(AutomatonTask):
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
    """

    name: ClassVar[str] = "parity"

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
        """The parity so far, changed by a one."""
        transition = np.array([[0, 1], [1, 0]])
        return Machine(transition, np.arange(2), 0, np.full(2, 1 / 2))
