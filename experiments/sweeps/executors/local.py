"""This process works on one group after the other."""

import traceback
from collections.abc import Sequence
from pathlib import Path

from experiments.console import err, one_line, plain
from experiments.sweeps.executors.base import GroupsFailedError
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.group import run_group
from plstm_seq.training.interrupt import terminate_as_interrupt


class LocalExecutor:
    """Works on groups in this process, which keeps what it has compiled."""

    def __init__(self, *, progress: bool = True, trackers: Sequence[str] = ()):
        self._progress, self._trackers = progress, trackers

    def run(self, folder: Path, groups: Sequence[str]) -> None:
        """See `Executor`."""
        opened = SweepFolder(folder)
        failures: dict[str, Exception] = {}
        with terminate_as_interrupt():
            for group in groups:
                try:
                    run_group(
                        opened,
                        group,
                        progress=self._progress,
                        trackers=self._trackers,
                        announce=self._announce,
                    )
                except Exception as error:  # the other groups go on
                    failures[group] = error
                    with opened.log(group).open("a", encoding="utf-8") as log:
                        traceback.print_exc(file=log)
                    log_path = opened.log(group)
                    self._announce(f"{group}: failed: {one_line(error)} (more in {log_path})")
        if failures:
            reasons = "; ".join(f"{name}: {one_line(error)}" for name, error in failures.items())
            raise GroupsFailedError(
                f"{len(failures)} of {len(groups)} groups failed: {reasons}"
            ) from ExceptionGroup("groups failed", list(failures.values()))

    def _announce(self, text: str) -> None:
        if self._progress:
            err.print(plain(text), soft_wrap=True)
