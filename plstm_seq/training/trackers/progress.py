"""Progress for whoever watches: a live line on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from plstm_seq.training.trackers.base import Record

# A terminal may be closed while training goes on, or before it is saved: nobody watches then.
_SHOWN = suppress(OSError)


class ProgressTracker:
    """Shows loss, accuracy, tokens/s and time left on stderr.

    On a terminal one line is kept up to date. Elsewhere (in a log file or a pipe) plain lines are
    written: for the first record, about `plain_lines` times during training, and at the end.

    Example:
        >>> import sys
        >>> from plstm_seq.training import ProgressTracker
        >>> tracker = ProgressTracker("parity", stream=sys.stdout)
        >>> tracker.start(0, steps=2)
        >>> tracker.log({"step": 1, "loss": 0.5, "seconds": 3.0, "tokens_per_second": 2000.0})
        parity: step 1/2  loss 0.5000  2.0k tokens/s  0:03 left
        >>> tracker.close("interrupted")
        parity: interrupted at step 1
    """

    def __init__(self, name: str = "train", *, stream: TextIO | None = None, plain_lines: int = 10):
        if plain_lines < 1:
            raise ValueError(f"plain_lines must be >= 1, got {plain_lines}")
        self.name = name
        self._console = Console(file=sys.stderr if stream is None else stream)
        self._plain_lines = plain_lines
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._steps = self._step = 0
        self._next = 0.0

    def start(self, step: int, steps: int) -> None:
        """Show the bar, or say where training starts."""
        self._steps, self._step, self._next = steps, step, 0.0
        with _SHOWN:
            self._open(step, steps)

    def _open(self, step: int, steps: int) -> None:
        if not self._console.is_terminal:
            if step:
                self._print(f"resuming after step {step} of {steps}")
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._bar.start()
        self._task = self._bar.add_task(self.name, total=steps, completed=step, numbers="compiling")

    def log(self, record: Record) -> None:
        """Show the record's numbers."""
        step = int(record["step"])
        taken, self._step = step - self._step, step
        with _SHOWN:
            self._show(record, step, taken)

    def _show(self, record: Record, step: int, taken: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, numbers=numbers(record))
        elif step >= self._next:
            left = record["seconds"] / max(taken, 1) * (self._steps - step)
            place = f"step {step}/{self._steps}"
            self._print(f"{place}  {numbers(record)}  {_clock(left)} left")
            share = self._steps / self._plain_lines
            self._next = (step // share + 1) * share

    def close(self, status: str) -> None:
        """Stop the live line and say how training ended."""
        with _SHOWN:
            if self._bar is not None:
                self._bar.stop()
            self._print(f"{status} at step {self._step}")
        self._bar = self._task = None

    def _print(self, text: str) -> None:
        self._console.print(f"{self.name}: {text}", markup=False, highlight=False, soft_wrap=True)


def numbers(record: Record) -> str:
    """The record's stage, loss, accuracies of labels, and speed in one short line."""
    # Of several members the means.
    stage = (
        f"stage {record['stage']:.3g} (to length {record['maximum_length']:.3g})  "
        if "stage" in record
        else ""
    )
    accuracies = "".join(
        f"{name} {record[f'{name}_accuracy']:.3f}  "
        for name in ("token", "sequence")
        if f"{name}_accuracy" in record
    )
    speed = f"{_thousands(record['tokens_per_second'])} tokens/s"
    return f"{stage}loss {record['loss']:.4f}  {accuracies}{speed}"


def _thousands(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
