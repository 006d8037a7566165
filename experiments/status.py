"""Keeps in the folder of a run how its training ended or stopped."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from experiments.files import read_json
from plstm_seq.files import write_whole
from plstm_seq.training.records import Record

if TYPE_CHECKING:
    from experiments.run import Run

Ending = Literal["finished", "solved", "diverged", "interrupted", "failed"]
ENDED: tuple[Ending, ...] = ("finished", "solved", "diverged")
# After these endings the last checkpoint is of the last step. After divergence it is an earlier
# one.
WHOLE: tuple[Ending, ...] = ("finished", "solved")


class RunStatus(NamedTuple):
    """How the last training of a run ended or stopped.

    Attributes:
        status: the ending; `finished`, `solved` and `diverged` are final, while training can go on
            after the others.
        step: number of steps taken until then.
        error: the error, if there was one.
    """

    status: Ending
    step: int
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        return self.status in ENDED


def read_status(path: Path) -> RunStatus | None:
    """Reads `status.json`, or returns None if there is none.

    Raises:
        DamagedError: the file is not what was written.
    """
    remedy = "delete it, and resume: it is written anew from the last checkpoint"
    return read_json(path, RunStatus, remedy)


class StatusTracker:
    """Removes `status.json` when training starts, and writes it when training ends or stops."""

    def __init__(self, run: "Run"):
        self.run = run
        self.step = 0
        self.records = 0
        self.started = self.ended = False

    def start(self, step: int, steps: int) -> None:
        """See `Tracker`."""
        del steps
        self.step, self.started = step, True
        self.run.status_path.unlink(missing_ok=True)

    def log(self, record: Record) -> None:
        """See `Tracker`."""
        self.step = int(record["step"])
        self.records += 1

    def close(self, status: str) -> None:
        """See `Tracker`."""
        write_status(self.run, RunStatus(cast(Ending, status), self.step))


def write_status(run: "Run", status: RunStatus) -> None:
    """Writes `status.json` in one go."""
    write_whole(run.status_path, json.dumps(status._asdict()) + "\n")
