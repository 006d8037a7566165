"""Where the groups of a sweep are worked on: in this process, or in worker processes beside it."""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from experiments.console import announce, one_line
from experiments.run import RunError
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.group import run_group
from experiments.sweeps.worker import BUSY, DONE, FAILED
from plstm_seq.training.interrupt import terminate_as_interrupt


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
            announce(text)


_PAUSE = 0.1
_WORKER = (sys.executable, "-m", "experiments.sweeps.worker")
_GPU_MEMORY = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_PREALLOCATE")


class ProcessesExecutor:
    """One worker process a group, up to `max_parallel` at once; each has its own log.

    Ctrl-C is passed on once: the workers save their members and end. A second one is passed on as
    well, and they end without saving. If this process is killed, the workers go on.
    """

    def __init__(self, max_parallel: int = 1, trackers: Sequence[str] = ()):
        self._max_parallel, self._trackers = max_parallel, trackers

    def run(self, folder: Path, groups: Sequence[str]) -> None:
        """See `Executor`."""
        opened = SweepFolder(folder)
        waiting = list(groups)
        working: dict[str, subprocess.Popen[bytes]] = {}
        failed: list[str] = []
        with terminate_as_interrupt():
            try:
                while waiting or working:
                    while waiting and len(working) < self._max_parallel:
                        group = waiting.pop(0)
                        working[group] = self._start(opened, group)
                    failed += self._collect(opened, working)
                    time.sleep(_PAUSE)
            except KeyboardInterrupt:
                _stop(list(working.values()))
                raise
        if failed:
            logs = ", ".join(str(opened.log(group)) for group in failed)
            raise GroupsFailedError(f"{len(failed)} of {len(groups)} groups failed; see {logs}")

    def _start(self, folder: SweepFolder, group: str) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        if self._max_parallel > 1 and not any(name in environment for name in _GPU_MEMORY):
            # By default each would take most of a GPU's memory.
            environment[_GPU_MEMORY[0]] = f"{0.9 / self._max_parallel:.3f}"
        announce(f"{group}: started, log: {folder.log(group)}")
        with folder.log(group).open("ab") as log:
            # A session of its own: a terminal's Ctrl-C comes to this process alone.
            return subprocess.Popen(
                [*_WORKER, str(folder.path), group, *self._trackers],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def _collect(
        self, folder: SweepFolder, working: dict[str, subprocess.Popen[bytes]]
    ) -> list[str]:
        """Takes out the workers that have ended; the groups of those that failed."""
        failed = []
        for group, process in list(working.items()):
            code = process.poll()
            if code is None:
                continue
            del working[group]
            if code == BUSY:
                holder = folder.holder(group) or "another process"
                announce(f"{group}: {holder} works on it; skipped")
            elif code == DONE:
                announce(f"{group}: done")
            else:
                announce(f"{group}: failed" if code == FAILED else f"{group}: ended with {code}")
                failed.append(group)
        return failed


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Passes Ctrl-C on, again each time it comes, until all have ended."""
    while any(process.poll() is None for process in processes):
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        try:
            for process in processes:
                process.wait()
        except KeyboardInterrupt:
            announce("ending without saving")
