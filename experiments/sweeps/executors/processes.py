"""Worker processes on this machine, some at a time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.console import err, plain
from experiments.sweeps.executors.base import GroupsFailedError
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.worker import BUSY, DONE, FAILED
from plstm_seq.training.interrupt import terminate_as_interrupt

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
        _announce(f"{group}: started, log: {folder.log(group)}")
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
                _announce(f"{group}: {holder} works on it; skipped")
            elif code == DONE:
                _announce(f"{group}: done")
            else:
                _announce(f"{group}: failed" if code == FAILED else f"{group}: ended with {code}")
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
            _announce("ending without saving")


def _announce(text: str) -> None:
    err.print(plain(text), soft_wrap=True)
