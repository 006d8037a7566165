"""Runs a sweep in this process or in worker processes, and says how far it is."""

import os
import signal
import subprocess
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.config import ConfigError
from experiments.config_files import has_config
from experiments.console import announce, one_line
from experiments.run import Run, RunError
from experiments.running import check_trackers
from experiments.sweeps.executors import (
    BUSY,
    DONE,
    FAILED,
    Executor,
    GroupsFailedError,
    worker_command,
)
from experiments.sweeps.folder import SweepFolder, open_sweep
from experiments.sweeps.group import run_group
from experiments.sweeps.rows import gather
from experiments.sweeps.slurm import SlurmExecutor, read_options
from plstm_seq.training import ByAccuracy
from plstm_seq.training.interrupt import terminate_as_interrupt

# Seconds between two checks of the worker processes.
_PAUSE = 0.1
_GPU_MEMORY = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_PREALLOCATE")


def run_sweep(
    folder: str | Path,
    *,
    executor: str | Executor = "local",
    max_parallel: int | None = None,
    progress: bool = True,
) -> Path:
    """Trains and evaluates all members of a sweep that are not finished, and gathers the results.

    This also resumes a sweep that was stopped or killed.

    Args:
        folder: the folder of a sweep (`create_sweep`), or its name in `sweeps/`.
        executor: `local`, `processes`, `slurm`, or an executor of your own.
        max_parallel: number of groups that are worked on at once, if the executor is given by
            name; None: see `make_executor`.
        progress: whether progress is written to standard error.

    Returns:
        The file of the table of results. Groups that another process works on are skipped. The
        table has what they have measured so far, and the other process will write it anew.

    Raises:
        RunError: there is no such sweep, or a group failed; the table is written even then.
        ConfigError: there is no such executor.
        KeyboardInterrupt: Ctrl-C stopped the work; everything is saved.

    Example:
        >>> import tempfile
        >>> from experiments import default_config
        >>> from experiments.sweeps import create_sweep, run_sweep, status, sweep_of_words
        >>> small = ["mixer=rnn", "width=8", "steps=2", "curriculum=uniform", "maximum=5"]
        >>> quick = ["training.batch_size=4", "evaluation.lengths=[4]", "num_sequences=8"]
        >>> sweep = sweep_of_words(default_config("parity"), [*small, *quick, "seed=0..1"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     created = create_sweep(sweep, f"{folder}/seeds")
        ...     _ = run_sweep(created.path, progress=False)
        ...     [(member.member, member.status, member.step) for member in status(created.path)]
        [('seed=0', 'finished', 2), ('seed=1', 'finished', 2)]
    """
    opened = open_sweep(folder)
    if isinstance(executor, str):
        executor = make_executor(executor, max_parallel=max_parallel, progress=progress)
    left = [group.name for group in opened.plan.groups if not _is_done(opened, group.name)]
    if left:
        (opened.path / "groups").mkdir(exist_ok=True)  # holds locks and logs
    try:
        executor.run(opened.path, left)
    finally:
        if any(has_config(folder) for folder in (opened.path / "members").glob("*")):
            gather(opened.path)
    return opened.path / "results.parquet"


def make_executor(
    name: str,
    max_parallel: int | None = None,
    slurm: Sequence[str] | None = None,
    detach: bool = False,
    trackers: Sequence[str] | None = None,
    progress: bool = True,
) -> Executor:
    """Makes an executor by its name.

    Args:
        name: `local`, `processes` or `slurm`.
        max_parallel: number of groups that are worked on at once; None: one, or as many as Slurm
            starts.
        slurm: options of the jobs, each as `option=value`, see `slurm.SlurmOptions`.
        detach: whether the executor returns as soon as the jobs are in Slurm's queue.
        trackers: names of trackers that members have in addition to their files, such as `wandb`.
        progress: whether progress is written to standard error, if this process trains.

    Raises:
        ConfigError: there is no such executor, or it does not take one of the arguments.
    """
    if max_parallel is not None and max_parallel < 1:
        raise ConfigError(f"max_parallel: got {max_parallel}, expected at least 1")
    if slurm and name != "slurm":
        raise ConfigError(f"options for Slurm go with --executor slurm, not {name}")
    if detach and name != "slurm":
        raise ConfigError(f"--detach goes with --executor slurm, not {name}")
    if trackers and name == "slurm":
        raise ConfigError("--tracker goes with --executor local or processes, not slurm")
    trackers = trackers or ()
    check_trackers(trackers)
    if name == "local":
        if max_parallel not in (None, 1):
            raise ConfigError(
                "this process works on one group at a time: several at once take --executor "
                "processes"
            )
        return LocalExecutor(progress=progress, trackers=trackers)
    if name == "processes":
        return ProcessesExecutor(max_parallel or 1, trackers)
    if name == "slurm":
        return SlurmExecutor(read_options(slurm or ()), max_parallel=max_parallel, detach=detach)
    raise ConfigError(f"unknown executor {name!r}; there are local, processes, slurm")


class LocalExecutor:
    """Works on groups in this process, so that compiled programs can be used again."""

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


class ProcessesExecutor:
    """Works on each group in a worker process with its own log, up to `max_parallel` at once.

    Ctrl-C is passed on to the workers, which save their members and end. After a second Ctrl-C they
    end without saving. If this process is killed, the workers go on.
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
            # By default each worker would take most of a GPU's memory.
            environment[_GPU_MEMORY[0]] = f"{0.9 / self._max_parallel:.3f}"
        announce(f"{group}: started, log: {folder.log(group)}")
        with folder.log(group).open("ab") as log:
            # The worker gets its own session, so that only this process hears a terminal's Ctrl-C.
            return subprocess.Popen(
                worker_command(folder.path, group, *self._trackers),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def _collect(
        self, folder: SweepFolder, working: dict[str, subprocess.Popen[bytes]]
    ) -> list[str]:
        """Removes the workers that have ended, and returns the groups of those that failed."""
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
    """Interrupts the workers, again at each further Ctrl-C, until all have ended."""
    while any(process.poll() is None for process in processes):
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        try:
            for process in processes:
                process.wait()
        except KeyboardInterrupt:
            announce("ending without saving")


class MemberStatus(NamedTuple):
    """How far a member of a sweep is.

    Attributes:
        member: the name of the member.
        group: the name of its group.
        status: `finished`, `solved`, `diverged`, `interrupted`, `failed`, `running` (a process
            works on its group), `stopped` (it was killed), `waiting`, or `damaged` (one of its
            files cannot be read).
        step: number of steps taken.
        steps: number of steps in all; with a curriculum by accuracy, the largest number.
        evaluated: whether it has been evaluated.
        error: the error, if there was one.
        stage: the stage of a curriculum by accuracy and the number of stages, counted from 1, such
            as `2/4`; None: the member has another curriculum, or no record yet.
    """

    member: str
    group: str
    status: str
    step: int
    steps: int
    evaluated: bool
    error: str | None
    stage: str | None = None


def status(folder: str | Path) -> list[MemberStatus]:
    """Says how far each member of a sweep is; the sweep may be running.

    Args:
        folder: the folder of a sweep, or its name in `sweeps/`.

    Raises:
        RunError: there is no such sweep.

    Example:
        >>> import tempfile
        >>> from experiments import default_config
        >>> from experiments.sweeps import MemberStatus, create_sweep, status, sweep_of_words
        >>> sweep = sweep_of_words(default_config("parity"), ["seed=0..1"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = create_sweep(sweep, f"{folder}/seeds")
        ...     members: list[MemberStatus] = status(f"{folder}/seeds")
        >>> [(member.member, member.status, member.step) for member in members]
        [('seed=0', 'waiting', 0), ('seed=1', 'waiting', 0)]
    """
    opened = open_sweep(folder)
    held = {group.name for group in opened.plan.groups if opened.holder(group.name)}
    return [
        _status(opened.run(member), member.group, member.group in held)
        for member in opened.plan.members
    ]


def _status(run: Run, group: str, held: bool) -> MemberStatus:
    try:
        ending, records, evaluated = run.status, run.metrics, run.is_evaluated
    except RunError as error:
        steps = run.config.training.steps
        return MemberStatus(run.name, group, "damaged", 0, steps, False, str(error))
    step = ending.step if ending else int(records[-1]["step"]) if records else 0
    if ending is not None and (ending.ended or not held):
        name = ending.status
    elif held:
        name = "running"
    else:
        name = "stopped" if run.checkpoints.exists() else "waiting"
    return MemberStatus(
        member=run.name,
        group=group,
        status=name,
        step=step,
        steps=run.config.training.steps,
        evaluated=evaluated,
        error=None if ending is None else ending.error,
        stage=_stage(run, records),
    )


def _stage(run: Run, records: Sequence[Mapping[str, Any]]) -> str | None:
    curriculum = run.config.training.curriculum
    if not records or not isinstance(curriculum, ByAccuracy):
        return None
    return f"{records[-1]['stage']}/{len(curriculum.stages)}"


def _is_done(folder: SweepFolder, group: str) -> bool:
    """Returns whether every member of a group has ended and been evaluated."""
    runs = [folder.run(member) for member in folder.plan.group(group).members]
    try:
        return all(run.is_trained and run.is_evaluated for run in runs)
    except RunError:  # a file is damaged; the work on the group reports it and does the rest
        return False
