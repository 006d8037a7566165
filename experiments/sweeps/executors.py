"""The protocol of executors of sweeps, and the command that starts the worker of a group."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from experiments.files import RunError

# The exit codes of a worker: nothing is left to do, it failed, another process works on the group,
# and it was interrupted.
DONE, FAILED, BUSY, INTERRUPTED = 0, 1, 3, 130


def worker_command(folder: Path, group: str, *trackers: str) -> tuple[str, ...]:
    """Returns the command that starts the worker of a group."""
    return (sys.executable, "-m", "experiments.sweeps.worker", str(folder), group, *trackers)


class GroupsFailedError(RunError):
    """Some groups failed; the work on the others was done."""


class Executor(Protocol):
    """Works on groups of a sweep."""

    def run(self, folder: Path, groups: Sequence[str]) -> None:
        """Does the remaining work of each group; returns when nothing is left to do here.

        Args:
            folder: the folder of the sweep, whose files alone say what is done and what is left.
            groups: the names of the groups, in the order in which to start them.

        Raises:
            GroupsFailedError: a group failed; members that diverge are no such failure.
            KeyboardInterrupt: Ctrl-C stopped the work; what was being trained is saved.
        """
        ...
