"""What a tracker is, and many of them as one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Protocol

# One record stands for the steps since the one before: `step` is the last of them.
Record = dict[str, int | float]

# Fields of a record that depend on the clock; all others are the same in every identical run. For
# members in one program, `seconds` is each one's share, and `tokens_per_second` the program's rate.
TIMING_FIELDS = ("seconds", "tokens_per_second", "compile_seconds")


class Tracker(Protocol):
    """Receives the records of one training, in order.

    Example:
        >>> from plstm_seq.training import Tracker
        >>> class LowestLoss:
        ...     def start(self, step, steps):
        ...         self.loss = float("inf")
        ...     def log(self, record):
        ...         self.loss = min(self.loss, record["loss"])
        ...     def close(self, status):
        ...         print(f"{status}, lowest loss {self.loss}")
        >>> tracker: Tracker = LowestLoss()
        >>> tracker.start(0, steps=2)
        >>> tracker.log({"step": 1, "loss": 0.5})
        >>> tracker.close("finished")
        finished, lowest loss 0.5
    """

    def start(self, step: int, steps: int) -> None:
        """Training starts or resumes after `step` of `steps`: forget all records past `step`."""
        ...

    def log(self, record: Record) -> None:
        """Take a record; it must be safe before this returns (a checkpoint may follow)."""
        ...

    def close(self, status: str) -> None:
        """Training ended: `finished`, `solved`, `diverged`, `interrupted` or `failed`."""
        ...


class CompositeTracker:
    """Passes everything on to each of its trackers in turn.

    Example:
        >>> import sys
        >>> from plstm_seq.training import CompositeTracker, ProgressTracker
        >>> names = ("one", "two")
        >>> tracker = CompositeTracker([ProgressTracker(name, stream=sys.stdout) for name in names])
        >>> tracker.start(0, steps=2)
        >>> tracker.close("interrupted")
        one: interrupted at step 0
        two: interrupted at step 0
    """

    def __init__(self, trackers: Sequence[Tracker]):
        self._trackers = tuple(trackers)

    def start(self, step: int, steps: int) -> None:
        """See `Tracker`."""
        for tracker in self._trackers:
            tracker.start(step, steps)

    def log(self, record: Record) -> None:
        """See `Tracker`."""
        for tracker in self._trackers:
            tracker.log(record)

    def close(self, status: str) -> None:
        """See `Tracker`."""
        for tracker in self._trackers:
            # Training that failed has a reason of its own; a tracker that cannot write its end, as
            # in a folder that was removed, does not replace it, nor keep the others open.
            with suppress(OSError) if status == "failed" else nullcontext():
                tracker.close(status)
