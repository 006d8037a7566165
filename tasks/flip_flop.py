"""A memory that is written to and held."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tasks.automaton import AutomatonTask, Machine
from tasks.base import MOST_SYMBOLS, check_at_least


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
