"""What an executor of a sweep is, and how it starts the worker process of a group."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from experiments.files import RunError

# The exit codes of a worker: nothing is left to do, it failed, another process has the group, and
# it was interrupted.
DONE, FAILED, BUSY, INTERRUPTED = 0, 1, 3, 130


def worker_command(folder: Path, group: str, *trackers: str) -> tuple[str, ...]:
    """The command that starts the worker of a group."""
    return (sys.executable, "-m", "experiments.sweeps.worker", str(folder), group, *trackers)


class GroupsFailedError(RunError):
    """Some groups failed; the others were worked on all the same."""


class Executor(Protocol):
    """Works on groups of a sweep."""

    def run(self, folder: Path, groups: Sequence[str]) -> None:
        """Does what is left to do of each group; returns when nothing is left to do here.

        Args:
            folder: of the sweep. What is done and what is left stands in it alone.
            groups: their names, in the order in which to start them.

        Raises:
            GroupsFailedError: a group failed, for another reason than diverging members.
            KeyboardInterrupt: Ctrl-C; what was being trained is saved.
        """
        ...
