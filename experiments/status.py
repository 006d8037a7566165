"""How far the training of a run came, kept in its folder."""

import json
from typing import cast

from experiments.files import write_whole
from experiments.run import Ending, Run, RunStatus
from plstm_seq.training.trackers import Record


class StatusTracker:
    """Writes `status.json` when training ends or stops; while it runs there is none."""

    def __init__(self, run: Run):
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


def write_status(run: Run, status: RunStatus) -> None:
    """Writes `status.json`, whole."""
    write_whole(run.status_path, json.dumps(status._asdict()) + "\n")
