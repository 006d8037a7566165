"""Trains one run, or all runs of a group in one program."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median

import jax
from jax.sharding import Mesh

from experiments.config import ConfigError, ExperimentConfig, to_document
from experiments.distributed import agreed, is_first
from experiments.new_runs import new_run, starting_model
from experiments.run import Run, RunError, RunStatus, load_run, new_model
from experiments.status import StatusTracker, write_status
from plstm_seq.files import write_whole
from plstm_seq.training import (
    CompositeTracker,
    CorruptCheckpointError,
    FitResult,
    HostSample,
    JsonlTracker,
    Member,
    NonFiniteLossError,
    ProgressTracker,
    Sample,
    TensorBoardTracker,
    Tracker,
    WandbTracker,
    fit,
    fit_members,
)
from plstm_seq.training.interrupt import terminate_as_interrupt
from plstm_seq.training.trackers import require_wandb


def train(
    config: ExperimentConfig | None = None,
    folder: str | Path | None = None,
    *,
    resume: bool = False,
    progress: bool = True,
    trackers: Sequence[Tracker] = (),
    mesh: Mesh | None = None,
) -> Run:
    """Trains a model on a task, in a folder that holds everything about the run.

    A run that is killed loses at most the steps since its last checkpoint.

    Args:
        config: the config to train; with `resume` it may be None, which stands for the one in the
            folder.
        folder: the folder of the run; None: `runs/<task>-<n>`, the first n that is free.
        resume: whether to continue the run in `folder` from its last checkpoint.
        progress: whether progress is written to standard error.
        trackers: trackers that get the same records as `metrics.jsonl`.
        mesh: the devices that every batch is split over, see `fit`; None: one device.

    Returns:
        The trained run.

    Raises:
        RunError: the folder is not empty; or the run to resume is missing, has another config than
            `config`, or is being trained by another process.
        ConfigError, ValueError: the model cannot be made, or does not run here; no folder is made.
        NonFiniteLossError: training diverged; the last good checkpoint is kept.
        OSError: a file of the run could not be written, or was removed.
        KeyboardInterrupt: Ctrl-C or a signal stopped training; the run can be resumed.

    Example:
        >>> from experiments import default_config, override, train
        >>> small = ["width=16", "training.steps=200", "curriculum=uniform", "curriculum.maximum=8"]
        >>> run = train(override(default_config("parity"), small), progress=False)
        >>> run.folder, run.status.status
        (PosixPath('runs/parity-1'), 'finished')
    """
    run = _resumed(config, folder) if resume else _created(config, folder)
    fit_run(run, progress=progress, trackers=trackers, mesh=mesh)
    return run


def fit_run(
    run: Run, *, progress: bool, trackers: Sequence[Tracker] = (), mesh: Mesh | None = None
) -> FitResult:
    """Trains a run from its last checkpoint, or from the start if it has none.

    If several processes share a mesh, all write checkpoints, and the first one writes all other
    files.

    Raises:
        NonFiniteLossError: training diverged; the run's status says so, too.
        KeyboardInterrupt: Ctrl-C stopped training, and a checkpoint was saved.
    """
    result = train_members(
        [run], progress=progress, trackers=lambda _: trackers, together=False, mesh=mesh
    )[0]
    if result.error is not None:
        raise result.error
    return result


def train_members(
    runs: Sequence[Run],
    *,
    progress: bool,
    events: str | Path | None = None,
    trackers: Callable[[Run], Sequence[Tracker]] = lambda _: (),
    together: bool = True,
    mesh: Mesh | None = None,
) -> list[FitResult]:
    """Trains runs, each from its last checkpoint, and writes into each folder how training ended.

    Args:
        runs: the runs to train; runs that are trained together have the same `group_key`.
        progress: whether progress is written to standard error.
        events: the folder for TensorBoard events of the group, which are means over its members;
            None: no such events are written.
        trackers: returns the trackers that a run has in addition to `metrics.jsonl` and its own
            TensorBoard events.
        together: whether the runs share one program. Otherwise they are trained one after another,
            as always if batches are made on the host.
        mesh: the devices that every batch is split over, for runs that are not trained together.

    Returns:
        How training each run ended. A run that diverges or fails does not stop the others.

    Raises:
        ValueError: the runs cannot share a program.
        KeyboardInterrupt: Ctrl-C stopped training; every run was saved first.
    """
    results: dict[int, FitResult] = {}
    held: dict[int, _HeldRun] = {}
    with ExitStack() as stack:
        stack.enter_context(terminate_as_interrupt())
        for index, run in enumerate(runs):
            try:
                _take_over(run, stack)
                held[index] = _HeldRun(run, trackers(run))
            except (RunError, OSError) as error:
                results[index] = FitResult("failed", 0, {}, error=error)
        sample = runs[0].problem.sample if together and held else None
        if sample is not None and not isinstance(sample, HostSample):
            trained = _fit_together(list(held.values()), sample, progress=progress, events=events)
        else:
            trained = [_fit_alone(one, progress=progress, mesh=mesh) for one in held.values()]
        for (index, one), result in zip(held.items(), trained, strict=True):
            results[index] = one.checked(result)
    return [results[index] for index in range(len(runs))]


def _take_over(run: Run, stack: ExitStack) -> None:
    """Locks a run until the stack is closed; if several processes train it, the first one does.

    Raises:
        RunError: another process trains the run, or it has records but no checkpoint.
    """
    problem = None
    if is_first():
        try:
            if not stack.enter_context(run.lock()):
                raise RunError(f"{run.folder}: {run.holder or 'another process'} trains it")
            run.check_goes_on()
        except (RunError, OSError) as error:
            problem = error
    if not agreed(problem is None):
        raise problem or RunError(f"the first process could not begin with {run.folder}")


class _HeldRun:
    """A run that this process trains: the model it starts from, its trackers and its status.

    Args:
        run: the run.
        trackers: trackers that get its records in addition to those that write its files.
    """

    def __init__(self, run: Run, trackers: Sequence[Tracker]):
        self.run = run
        # A run with checkpoints no longer needs the run whose parameters it started from.
        resumed = any(run.checkpoints.glob("[0-9]*"))
        self.model = new_model(run.config) if resumed else starting_model(run.config)
        self.key = jax.random.key(run.config.seed)
        self.status = StatusTracker(run)
        own = [JsonlTracker(run.metrics_path), TensorBoardTracker(run.folder), self.status]
        self.trackers: list[Tracker] = [*own, *trackers] if is_first() else []

    def end(self, result: FitResult) -> None:
        """Writes how training ended, and the costs if anything was trained."""
        if result.status == "failed":
            self.fail(result.error)
        elif is_first():
            self.status.ended = True
            error = None if result.error is None else str(result.error)
            write_status(self.run, RunStatus(result.status, result.step, error))
            if self.status.records or self.run.cost is None:
                write_cost(self.run, result)

    def fail(self, error: Exception | None) -> None:
        """Writes the status of a failure, unless training has not begun or has ended already."""
        if self.status.started and not self.status.ended:
            with suppress(OSError):  # the folder may be the reason for the failure
                write_status(self.run, RunStatus("failed", self.status.step, _one_line(error)))

    def checked(self, result: FitResult) -> FitResult:
        """Returns the result, or a failure if files of the run were removed during training."""
        run = self.run
        if result.error is None and is_first():
            checkpoint = run.checkpoints / str(result.step)
            for path in (run.metrics_path, checkpoint, run.status_path, run.cost_path):
                if not path.exists():
                    error = FileNotFoundError(f"{path} was removed while the run was trained")
                    return result._replace(status="failed", error=error)
        return result


def _fit_together(
    held: Sequence[_HeldRun], sample: Sample, *, progress: bool, events: str | Path | None
) -> list[FitResult]:
    """Trains runs of one group in one program."""
    members = [
        Member(one.model, one.run.config.training, one.key, one.run.checkpoints, one.trackers)
        for one in held
    ]
    shown: list[Tracker] = [ProgressTracker(f"{len(held)} members")] if progress else []
    if events is not None:
        shown.append(TensorBoardTracker(events))
    try:
        return fit_members(
            members,
            sample,
            progress=CompositeTracker(shown),
            ended=lambda index, result: held[index].end(result),
        )
    except Exception as error:
        for one in held:
            one.fail(error)
        raise


def _fit_alone(held: _HeldRun, *, progress: bool, mesh: Mesh | None) -> FitResult:
    """Trains one run in a program of its own."""
    run, training = held.run, held.run.config.training
    shown = [ProgressTracker()] if progress and is_first() else []
    try:
        result = fit(
            held.model,
            run.problem.sample,
            training,
            key=held.key,
            folder=run.checkpoints,
            resume=True,
            trackers=[*held.trackers, *shown],
            validate=run.problem.validate(training.batch_size, training.curriculum.longest),
            mesh=mesh,
        )
    except NonFiniteLossError as error:
        result = FitResult("diverged", held.status.step, {}, error=error)
    except CorruptCheckpointError as error:
        failure = RunError(f"{error}: {error.remedy}")
        failure.__cause__ = error
        result = FitResult("failed", 0, {}, error=failure)
    except (RunError, OSError, ValueError) as error:
        result = FitResult("failed", 0, {}, error=error)
    except Exception as error:
        held.fail(error)
        raise
    finally:
        run.problem.release()
    try:
        held.end(result)
    except (RunError, OSError) as error:
        return FitResult("failed", result.step, {}, error=error)
    return result


def write_cost(run: Run, result: FitResult) -> None:
    """Writes `cost.json`: the costs of the model, and the speed and memory of its training."""
    from experiments.costs import costs_of

    speeds = [
        record["tokens_per_second"] for record in run.metrics if "tokens_per_second" in record
    ]
    cost = {
        **costs_of(run.config)._asdict(),
        "tokens_per_second": median(speeds) if speeds else None,
        "members_in_program": result.members,
        "peak_memory_bytes": result.memory_bytes,
    }
    write_whole(run.cost_path, json.dumps(cost, indent=2) + "\n")


def _one_line(error: Exception | None) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def check_trackers(names: Sequence[str]) -> None:
    """Refuses names of trackers that `make_trackers` does not know or that are not installed.

    Raises:
        ConfigError: there is no such tracker, or its package is missing.
    """
    for name in names:
        if name != "wandb":
            raise ConfigError(f"--tracker {name!r}: wandb is the one to choose")
        require_wandb()


def make_trackers(names: Sequence[str], run: Run, group: str | None = None) -> list[Tracker]:
    """Makes the trackers that a user names, in addition to those that every run has.

    Args:
        names: the names of the trackers.
        run: the run that is tracked.
        group: the name under which a tracker shows this run with others, such as its sweep's.

    Raises:
        ValueError: the package of a tracker is not installed.
    """
    if not names or not is_first():
        return []
    return [WandbTracker(run.folder, group=group, config=to_document(run.config))]


def _created(config: ExperimentConfig | None, folder: str | Path | None) -> Run:
    if config is None:
        raise RunError("a new run needs a config: default_config(task), or resume=True")
    return new_run(config, folder)


def _resumed(config: ExperimentConfig | None, folder: str | Path | None) -> Run:
    if folder is None:
        raise RunError("to resume a run, name it")
    run = load_run(folder)
    if config is not None and config != run.config:
        raise RunError(
            f"run {run.folder} has another config than the one given: resume it as it is, or "
            "train under a new name"
        )
    return run
