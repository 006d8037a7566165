"""Runs the worker of one group on a node of a cluster, as one array task of a sweep.

A job carries this module with it (see `slurm.submit`). The module imports the standard library
alone, because a job that takes seconds to import jax does not hear Slurm's signals until then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

_POLL_SECONDS = 0.1


class GroupFailedError(Exception):
    """The worker of a group ended with an error; the message names its log."""


@dataclass
class GroupJob:
    """Runs the worker of a group in its own process; submitit can stop the job and queue it again.

    Before the time limit, and when the job is preempted, the worker is interrupted as by Ctrl-C:
    it saves its checkpoints and ends. A worker that takes too long, for instance because it
    compiles, is killed and loses the steps since its last checkpoints. Because it may have to be
    killed, it has its own process.

    Attributes:
        command: the command that starts the worker, which goes on from its group's checkpoints.
        log: the file to which the output of the worker is appended.
        grace_seconds: how many seconds the worker may take to end.
        fine_codes: exit codes of the worker that do not mean a failure.
    """

    command: tuple[str, ...]
    log: Path
    grace_seconds: float
    fine_codes: tuple[int, ...] = (0,)
    _worker: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _terminated: bool = field(default=False, init=False, repr=False)

    def __call__(self) -> int:
        """Runs the worker to its end.

        Returns:
            The exit code of the worker.

        Raises:
            GroupFailedError: the worker failed; or the job was stopped by SIGTERM, and Slurm
                neither ended nor requeued it afterwards.
        """
        previous = signal.signal(signal.SIGTERM, self._terminate)
        worker = self._start()
        try:
            while not _ended(worker):
                time.sleep(_POLL_SECONDS)
            if self._terminated:
                self._await_the_end()
        finally:
            self._stop()
            code = worker.wait()
            signal.signal(signal.SIGTERM, previous)
        if code not in self.fine_codes:
            raise GroupFailedError(f"the worker ended with exit code {code}: see {self.log}")
        return code

    def checkpoint(self) -> DelayedSubmission:
        """Stops the worker, and returns what to run when the job starts again.

        submitit calls this before the time limit and at preemption.
        """
        from submitit.helpers import DelayedSubmission

        self._stop()
        return DelayedSubmission(
            GroupJob(self.command, self.log, self.grace_seconds, self.fine_codes)
        )

    def _start(self) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log, _signals_kept_from_children():
            self._worker = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self._worker

    def _stop(self) -> None:
        """Ends the worker; a signal handler may call this at any moment."""
        worker = self._worker
        if worker is None or _ended(worker):
            return
        os.kill(worker.pid, signal.SIGINT)
        deadline = time.monotonic() + self.grace_seconds
        while not _ended(worker):
            if time.monotonic() > deadline:
                os.kill(worker.pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._terminated = True
        self._stop()

    def _await_the_end(self) -> None:
        """Waits for Slurm to kill or requeue the job after SIGTERM, and raises if it does not."""
        deadline = time.monotonic() + self.grace_seconds
        while time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        raise GroupFailedError("stopped by SIGTERM, and neither ended nor requeued after it")


@contextmanager
def _signals_kept_from_children() -> Iterator[None]:
    """Blocks two signals in processes that the block starts.

    Slurm sends them to every process of a job, but only this process should react to them.
    """
    kept = {signal.SIGUSR2, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, kept)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ended(worker: subprocess.Popen[bytes]) -> bool:
    """Returns whether a process has ended.

    Unlike `poll` it takes no lock, which a signal handler might find taken.
    """
    if worker.returncode is not None:
        return True
    try:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, worker.pid, flags) is not None
    except ChildProcessError:
        return True
