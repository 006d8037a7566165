"""Following the jobs of a sweep in the queue."""

from __future__ import annotations

import pickle
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from experiments.run import RunError
from experiments.sweeps.worker import BUSY

if TYPE_CHECKING:
    from submitit.core.core import Job

FINISHED, SKIPPED = "finished", "skipped"
_POLL_SECONDS = 2.0
_PATIENCE_SECONDS = 60.0
# Slurm's states of a job that has not come to its end; the others are ends.
_PENDING = frozenset(
    ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")
)
_RUNNING = frozenset(
    ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED")
)


def queued(jobs: Mapping[str, Job[Any]]) -> set[str]:
    """The groups whose jobs have not come to their ends.

    Args:
        jobs: of the groups, by name.

    Raises:
        RunError: the queue does not answer, for a minute.
    """
    return {group for group, state in _states(jobs).items() if state in _PENDING | _RUNNING}


def follow(jobs: Mapping[str, Job[Any]], announce: Callable[[str], None]) -> dict[str, str]:
    """Waits until every job has come to its end.

    Args:
        jobs: of the groups, by name.
        announce: takes a line for every change.

    Returns:
        What became of each group: `FINISHED`, `SKIPPED` (another process works on it), or else
        how its job ended, such as "failed" or "cancelled".

    Raises:
        RunError: the queue does not answer, for a minute.
    """
    known: dict[str, str] = {}
    left = dict(jobs)
    while left:
        for group, state in _states(left).items():
            ended = state not in _PENDING | _RUNNING
            word = _outcome(left[group], state) if ended else _word(state)
            if word != known.get(group):
                again = " again" if word == "pending" and group in known else ""
                announce(f"{group}: {word}{again} (job {left[group].job_id})")
            known[group] = word
            if ended:
                del left[group]
        if left:
            time.sleep(_POLL_SECONDS)
    return known


def _word(state: str) -> str:
    return "pending" if state in _PENDING else "running"


def _outcome(job: Job[Any], state: str) -> str:
    """What became of a job; one that Slurm has forgotten is known by the result that it left."""
    try:
        kind, code = pickle.loads(job.paths.result_pickle.read_bytes())
    except FileNotFoundError:
        return FINISHED if state == "COMPLETED" else (state or "lost").lower()
    if kind != "success":
        return "failed"
    return SKIPPED if code == BUSY else FINISHED


def _states(jobs: Mapping[str, Job[Any]]) -> dict[str, str]:
    """Slurm's word for the state of each job; empty: Slurm does not know the job any more."""
    slurm = _squeue() if any(map(_is_slurm, jobs.values())) else {}
    return {
        group: slurm.get(job.job_id, "") if _is_slurm(job) else job.state.upper()
        for group, job in jobs.items()
    }


def _is_slurm(job: Job[Any]) -> bool:
    from submitit import SlurmJob

    return isinstance(job, SlurmJob)


def _squeue() -> dict[str, str]:
    """States by job; not from sacct, as submitit has them: that needs a cluster with accounts."""
    command = ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T"]
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            lines = (line.strip().partition("|") for line in done.stdout.splitlines())
            return {job: state for job, _, state in lines}
        if time.monotonic() > deadline:
            raise RunError(
                f"squeue does not answer ({done.stderr.strip()}); what is queued goes on without "
                "this command"
            )
        time.sleep(_POLL_SECONDS)
