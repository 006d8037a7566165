"""What runs the groups of a sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from experiments.run import RunError


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
