"""Runs a sweep on a Slurm cluster, with one array task per group, through submitit."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pydantic

from experiments.console import announce
from experiments.files import read_json, write_json
from experiments.reading import ConfigError
from experiments.run import RunError
from experiments.scalars import split_assignment
from experiments.sweeps import slurm_job
from experiments.sweeps.executors import BUSY, DONE, GroupsFailedError, worker_command
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.slurm_job import GroupJob
from tasks.options import check, nearest

if TYPE_CHECKING:
    from submitit.core.core import Job

FINISHED, SKIPPED = "finished", "skipped"
_POLL_SECONDS = 2.0
_PATIENCE_SECONDS = 60.0
# Slurm's states of a job that has not ended; in all other states it has.
_PENDING = frozenset(
    ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")
)
_RUNNING = frozenset(
    ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED")
)


_JOB_IDS = dict[str, str]
# A worker has this fraction of the time between Slurm's signal and its kill to end.
_GRACE = 0.75
_LOG_LEVEL = "SUBMITIT_LOG_LEVEL"
# submitit gives up a job after this many time limits. The number is large, because a group may take
# as long as it needs.
_TIME_LIMITS = 1000


@dataclass(frozen=True)
class SlurmOptions:
    """What the job of one group asks of the cluster; None stands for the cluster's default.

    Attributes:
        partition: the partition in which the job is queued.
        account: the account that the job is charged to.
        time: the time in minutes after which the job is stopped and queued again.
        cpus: number of CPU cores.
        gpus: number of GPUs, over which the members of the group are spread.
        memory: main memory in GB.
        setup: lines of shell that run before the job, such as `module load cuda`.
        signal_seconds: how many seconds before the time limit training is stopped and saved.
    """

    partition: str | None = None
    account: str | None = None
    time: int = 60
    cpus: int | None = None
    gpus: int | None = None
    memory: float | None = None
    setup: tuple[str, ...] = ()
    signal_seconds: int = 90

    def __post_init__(self):
        for name in ("time", "cpus", "signal_seconds"):
            value = getattr(self, name)
            check(value is None or not value < 1, f"slurm {name}", value, "at least 1")
        gpus, memory, seconds = self.gpus, self.memory, self.signal_seconds
        check(gpus is None or not gpus < 0, "slurm gpus", gpus, "at least 0")
        check(memory is None or not memory <= 0, "slurm memory", memory, "above 0 GB")
        wanted = f"less than the time limit of {self.time} minutes"
        check(not seconds >= 60 * self.time, "slurm signal_seconds", seconds, wanted)


def read_options(words: Sequence[str]) -> SlurmOptions:
    """Reads the options of jobs from words of a command line.

    Args:
        words: options such as `time=30` or `partition=gpu`; `setup=LINE` is repeated for each line.

    Raises:
        ConfigError: an option is unknown or a value is wrong.
    """
    values: dict[str, Any] = {}
    known = [field.name for field in fields(SlurmOptions)]
    for path, text in map(split_assignment, words):
        name = ".".join(path)
        if name not in known:
            raise ConfigError(f"unknown option of slurm {name!r}; {nearest(name, known)}")
        if name == "setup":
            values[name] = (*values.get(name, ()), text)
        else:
            values[name] = text
    try:
        return pydantic.TypeAdapter(SlurmOptions).validate_python(values)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"slurm {name}: " for name in first["loc"][:1])
        raise ConfigError(where + first["msg"].removeprefix("Value error, ")) from None


class SlurmExecutor:
    """Works on each group in one array task of Slurm.

    A task that reaches its time limit or is preempted is queued again, and goes on from its
    checkpoints. The jobs go on when this process ends, and `run` finds them again.
    """

    def __init__(
        self,
        options: SlurmOptions | None = None,
        *,
        max_parallel: int | None = None,
        detach: bool = False,
    ):
        """Makes the executor; nothing is submitted yet.

        Args:
            options: the options of every task.
            max_parallel: number of groups that run at once; None: as many as the cluster grants.
            detach: whether `run` returns as soon as the jobs are in the queue.

        Raises:
            RunError: submitit is not installed.
        """
        _submitit()
        self._options = options or SlurmOptions()
        self._max_parallel = max_parallel
        self._detach = detach

    def run(self, folder: Path, groups: Sequence[str]) -> None:
        """See `Executor`; Ctrl-C leaves the jobs in the queue."""
        if not groups:
            return
        jobs = submit(folder, groups, self._options, max_parallel=self._max_parallel)
        ids = " ".join(dict.fromkeys(job.job_id.partition("_")[0] for job in jobs.values()))
        what = "1 group is" if len(jobs) == 1 else f"{len(jobs)} groups are"
        announce(f"{what} in the queue as job {ids}; it ends with: scancel {ids}")
        if self._detach:
            return
        try:
            outcomes = follow(jobs, announce)
        except KeyboardInterrupt:
            announce(f"what is in the queue goes on; it ends with: scancel {ids}")
            raise
        failed = [group for group in groups if outcomes[group] not in (FINISHED, SKIPPED)]
        if failed:
            ends = ", ".join(
                f"{group} {outcomes[group]} ({SweepFolder(folder).log(group)}, "
                f"{jobs[group].paths.stdout})"
                for group in failed
            )
            raise GroupsFailedError(
                f"{len(failed)} of {len(groups)} groups did not end well: {ends}"
            )


def submit(
    folder: Path,
    groups: Sequence[str],
    options: SlurmOptions,
    *,
    max_parallel: int | None = None,
    cluster: str = "slurm",
) -> dict[str, Job[Any]]:
    """Submits one array task per group, except for groups whose jobs are in the queue already.

    Args:
        folder: the folder of the sweep, which every node has to see at the same path.
        groups: the names of the groups.
        options: the options of every task.
        max_parallel: number of tasks that run at once; None: as many as the cluster grants.
        cluster: the cluster on which submitit runs the tasks; "local" runs them as processes of
            this machine.

    Returns:
        The jobs by group.

    Raises:
        RunError: this machine is not part of a cluster, or the cluster refused the job.
    """
    folder = folder.resolve()
    before = submitted(folder) if cluster == "slurm" else {}
    jobs = {group: before[group] for group in queued(before) & set(groups)}
    new = [group for group in groups if group not in jobs]
    if new:
        tasks = [_group_job(folder, group, options) for group in new]
        parameters = _parameters(folder, options, max_parallel)
        made = _submit_array(_jobs_folder(folder), tasks, parameters, cluster)
        jobs |= dict(zip(new, made, strict=True))
        if cluster == "slurm":
            _remember(folder, {**before, **jobs})
    return {group: jobs[group] for group in groups}


def submitted(folder: Path) -> dict[str, Job[Any]]:
    """Returns the jobs that were last submitted to Slurm for the groups of a sweep."""
    remedy = "delete it once squeue lists none of the sweep's jobs"
    ids = read_json(_memory(folder), _JOB_IDS, remedy) or {}
    return {
        group: _submitit().SlurmJob(_jobs_folder(folder), job_id) for group, job_id in ids.items()
    }


def _submit_array(
    folder: Path, tasks: Sequence[GroupJob], parameters: dict[str, Any], cluster: str
) -> Sequence[Job[Any]]:
    submitit = _submitit()
    import cloudpickle
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    limits = {"slurm_max_num_timeout": _TIME_LIMITS} if cluster == "slurm" else {}
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster, **limits)
    except RuntimeError as error:
        raise RunError(f"{error} Slurm takes jobs from the machines of its cluster") from None
    executor.update_parameters(**parameters)
    cloudpickle.register_pickle_by_value(slurm_job)
    try:
        return executor.submit_array(tasks)
    except (FailedJobError, FailedSubmissionError) as error:
        raise RunError(f"Slurm refused the job: {error}") from None
    finally:
        cloudpickle.unregister_pickle_by_value(slurm_job)


def _group_job(folder: Path, group: str, options: SlurmOptions) -> GroupJob:
    return GroupJob(
        command=worker_command(folder, group),
        log=SweepFolder(folder).log(group),
        grace_seconds=_GRACE * options.signal_seconds,
        fine_codes=(DONE, BUSY),
    )


def _parameters(folder: Path, options: SlurmOptions, max_parallel: int | None) -> dict[str, Any]:
    """Returns the options under the names that submitit has for them."""
    return {
        "name": folder.name,
        "timeout_min": options.time,
        "cpus_per_task": options.cpus,
        "gpus_per_node": options.gpus,
        "mem_gb": options.memory,
        "stderr_to_stdout": True,
        "slurm_partition": options.partition,
        "slurm_account": options.account,
        "slurm_setup": list(options.setup) or None,
        "slurm_signal_delay_s": options.signal_seconds,
        "slurm_array_parallelism": max_parallel,
    }


def _jobs_folder(folder: Path) -> Path:
    return folder / "slurm"


def _memory(folder: Path) -> Path:
    return _jobs_folder(folder) / "jobs.json"


def _remember(folder: Path, jobs: dict[str, Job[Any]]) -> None:
    write_json(_memory(folder), {group: job.job_id for group, job in jobs.items()})


def _submitit() -> ModuleType:
    """Imports submitit, which is an extra.

    At its import submitit configures logging, which makes Python close every handler, those of
    other libraries too. The environment variable that is set here prevents this in this process,
    but not in the jobs.
    """
    quiet = {_LOG_LEVEL: "NOCONFIG"} if _LOG_LEVEL not in os.environ else {}
    os.environ.update(quiet)
    try:
        return importlib.import_module("submitit")
    except ImportError:
        raise RunError("Slurm needs the package submitit: pip install 'plstm-seq[slurm]'") from None
    finally:
        for name in quiet:
            del os.environ[name]


def queued(jobs: Mapping[str, Job[Any]]) -> set[str]:
    """Returns the groups whose jobs have not ended.

    Args:
        jobs: the jobs by the names of their groups.

    Raises:
        RunError: the queue has not answered for a minute.
    """
    return {group for group, state in _states(jobs).items() if state in _PENDING | _RUNNING}


def follow(jobs: Mapping[str, Job[Any]], announce: Callable[[str], None]) -> dict[str, str]:
    """Waits until every job has ended.

    Args:
        jobs: the jobs by the names of their groups.
        announce: called with a line for every change of a job's state.

    Returns:
        What became of each group: `FINISHED`, `SKIPPED` (another process works on it), or else
        how its job ended, such as "failed" or "cancelled".

    Raises:
        RunError: the queue has not answered for a minute.
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
    """Says what became of a job, from the file of its result or else from Slurm's state."""
    try:
        kind, code = pickle.loads(job.paths.result_pickle.read_bytes())
    except FileNotFoundError:
        return FINISHED if state == "COMPLETED" else (state or "lost").lower()
    if kind != "success":
        return "failed"
    return SKIPPED if code == BUSY else FINISHED


def _states(jobs: Mapping[str, Job[Any]]) -> dict[str, str]:
    """Returns Slurm's word for the state of each job; "" for jobs that it no longer knows."""
    slurm = _squeue() if any(map(_is_slurm, jobs.values())) else {}
    return {
        group: slurm.get(job.job_id, "") if _is_slurm(job) else job.state.upper()
        for group, job in jobs.items()
    }


def _is_slurm(job: Job[Any]) -> bool:
    from submitit import SlurmJob

    return isinstance(job, SlurmJob)


def _squeue() -> dict[str, str]:
    """Asks squeue for the states of all jobs.

    submitit asks sacct instead, which works only on clusters with accounting.
    """
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
