"""Training: one run, or the runs of a group in one program."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median

import jax
from flax import nnx
from jax.sharding import Mesh

from experiments.config import ConfigError, ExperimentConfig, check_consistency, to_document
from experiments.distributed import agreed, is_first
from experiments.files import write_whole
from experiments.new_runs import create_run, starting_model
from experiments.problems import problem_of
from experiments.problems.base import shapes_of
from experiments.run import Run, RunError, RunStatus, load_run, new_model
from experiments.status import StatusTracker, write_status
from plstm_seq.training import (
    CompositeTracker,
    CorruptCheckpointError,
    FitResult,
    HostSample,
    JsonlTracker,
    Member,
    NonFiniteLossError,
    ProgressTracker,
    TensorBoardTracker,
    Tracker,
    WandbTracker,
    fit,
    fit_members,
)
from plstm_seq.training.interrupt import terminate_as_interrupt
from plstm_seq.training.trackers.wandb import require_wandb


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
        config: what to train; None with `resume`: the config in the folder.
        folder: the folder of the run; None: `runs/<task>-<n>`, the first n that is free.
        resume: continue the run in `folder` from its last checkpoint.
        progress: whether progress is written to standard error.
        trackers: further trackers of the records that go into `metrics.jsonl`.
        mesh: devices that every batch is split over, see `fit`; None: one device.

    Returns:
        The run; `run.model` is trained.

    Raises:
        RunError: the folder is not empty; or the run to resume is missing, has another config than
            `config`, or is being trained by another process.
        ConfigError, ValueError: the model cannot be made, or does not run here; nothing is left.
        NonFiniteLossError: training diverged; the last good checkpoint is kept.
        OSError: a file of the run could not be written, or was removed.
        KeyboardInterrupt: Ctrl-C, or the process was told to end; the run can be resumed.

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

    Of the processes that share a mesh, the first writes the run's files; all write checkpoints.

    Raises:
        NonFiniteLossError: training diverged; the run's status says so, too.
        KeyboardInterrupt: Ctrl-C; a checkpoint was saved.
    """
    with ExitStack() as stack:
        problem = None
        if is_first():
            try:
                _take_over(run, stack)
            except (RunError, OSError) as error:
                problem = error
        if not agreed(problem is None):
            raise problem or RunError(f"the first process could not begin with {run.folder}")
        stack.enter_context(terminate_as_interrupt())
        if not is_first():
            return _fit(run, (), mesh)
        result = _fit_held(run, progress=progress, trackers=trackers, mesh=mesh)
        _check_kept(run, result)
    return result


def _fit_held(
    run: Run, *, progress: bool, trackers: Sequence[Tracker], mesh: Mesh | None = None
) -> FitResult:
    """As `fit_run`, of a run that this process holds."""
    status = StatusTracker(run)
    shown = [ProgressTracker()] if progress else []
    try:
        result = _fit(run, [*_own_trackers(run, status), *shown, *trackers], mesh)
    except NonFiniteLossError as error:
        _write_outcome(run, FitResult("diverged", status.step, {}, error=error), status)
        raise
    except Exception as error:
        _write_failure(run, status, error)
        raise
    _write_outcome(run, result, status)
    return result


def new_run(config: ExperimentConfig, folder: str | Path | None) -> Run:
    """The folder of a new run, made once it is known that its model can be trained here.

    Raises:
        ConfigError, UnsupportedError: see `check_trains`.
        RunError: there is something at that place, or what training starts from cannot be read.
    """
    check_trains(config)
    if config.initial_run is not None:
        starting_model(config)
    return create_run(config, folder)


def check_trackers(names: Sequence[str]) -> None:
    """Refuses names that `make_trackers` does not know, and what is not installed.

    Raises:
        ConfigError: there is no such tracker, or its package is missing.
    """
    for name in names:
        if name != "wandb":
            raise ConfigError(f"--tracker {name!r}: wandb is the one to choose")
        require_wandb()


def make_trackers(names: Sequence[str], run: Run, group: str | None = None) -> list[Tracker]:
    """The trackers that a user names, beside those that every run has.

    Args:
        names: of trackers.
        run: what is tracked.
        group: what shows it together with others: the name of its sweep.

    Raises:
        ValueError: what one needs is not installed.
    """
    if not names or not is_first():
        return []
    return [WandbTracker(run.folder, group=group, config=to_document(run.config))]


def check_trains(config: ExperimentConfig) -> None:
    """Refuses, before anything is written, a config whose model cannot be trained here.

    The model is made and applied to a batch, on shapes alone: nothing is computed.

    Raises:
        ConfigError: the sizes of the model do not fit each other, or its inputs, or it has no
            transitions by token for a consistency term.
        UnsupportedError: the implementation that it names does not run here.
    """
    check_consistency(config)
    problem = problem_of(config.task.make())
    try:
        model = nnx.eval_shape(lambda: new_model(config))
        batch = shapes_of(problem, *config.training.largest_batch)
        nnx.eval_shape(lambda model, inputs: model(inputs), model, batch.inputs)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model: {error}") from error
    finally:
        problem.release()


def _take_over(run: Run, stack: ExitStack) -> None:
    """Holds a run until the stack is left.

    Raises:
        RunError: another process trains it, or it lost the checkpoints of what it has recorded.
    """
    if not stack.enter_context(run.lock()):
        raise RunError(f"{run.folder}: {run.holder or 'another process'} trains it")
    run.check_goes_on()


def _check_kept(run: Run, result: FitResult) -> None:
    """Says success only of what is on disk.

    Raises:
        FileNotFoundError: something of the run was removed while it was trained.
    """
    needed = [run.metrics_path, run.checkpoints / str(result.step), run.status_path, run.cost_path]
    for path in needed:
        if not path.exists():
            raise FileNotFoundError(f"{path} was removed while the run was trained")


def _fit(run: Run, trackers: Sequence[Tracker], mesh: Mesh | None) -> FitResult:
    training = run.config.training
    try:
        return fit(
            _model_of(run),
            run.problem.sample,
            training,
            key=jax.random.key(run.config.seed),
            folder=run.checkpoints,
            resume=True,
            trackers=trackers,
            validate=run.problem.validate(training.batch_size, training.curriculum.longest),
            mesh=mesh,
        )
    except CorruptCheckpointError as error:
        raise RunError(f"{error}: {error.remedy}") from error
    finally:
        run.problem.release()


def train_members(
    runs: Sequence[Run],
    *,
    progress: bool,
    events: str | Path | None = None,
    trackers: Callable[[Run], Sequence[Tracker]] = lambda _: (),
) -> list[FitResult]:
    """Trains runs of one group in one program, each from its last checkpoint.

    Where batches are made on the host, each has a program's runs to itself, one after another.

    Args:
        runs: their configs have the same `group_key`.
        progress: whether progress is written to standard error.
        events: folder for TensorBoard events of the group, the means of its members; None: none.
        trackers: those of a run beside `metrics.jsonl` and its TensorBoard events.

    Returns:
        How each ended; one that diverged does not stop the others.

    Raises:
        ValueError: the runs cannot share a program.
        KeyboardInterrupt: Ctrl-C; every run was saved first.
    """
    if not runs:
        return []
    results: dict[int, FitResult] = {}
    models: dict[int, nnx.Module] = {}
    with ExitStack() as stack:
        stack.enter_context(terminate_as_interrupt())
        for index, run in enumerate(runs):
            try:
                _take_over(run, stack)
                models[index] = _model_of(run)
            except (RunError, OSError) as error:
                results[index] = FitResult("failed", 0, {}, error=error)
        trained = _train_free(
            [runs[index] for index in models],
            list(models.values()),
            progress=progress,
            events=events,
            trackers=trackers,
        )
    results |= dict(zip(models, trained, strict=True))
    return [results[index] for index in range(len(runs))]


def _train_free(
    runs: Sequence[Run],
    models: Sequence[nnx.Module],
    *,
    progress: bool,
    events: str | Path | None,
    trackers: Callable[[Run], Sequence[Tracker]],
) -> list[FitResult]:
    """As `train_members`, of runs that this process holds."""
    if not runs:
        return []
    sample = runs[0].problem.sample
    if isinstance(sample, HostSample):
        return [_fit_alone(run, progress=progress, trackers=trackers(run)) for run in runs]
    statuses = [StatusTracker(run) for run in runs]
    members = [
        Member(
            model,
            run.config.training,
            jax.random.key(run.config.seed),
            run.checkpoints,
            [*_own_trackers(run, status), *trackers(run)],
        )
        for run, model, status in zip(runs, models, statuses, strict=True)
    ]
    shown: list[Tracker] = [ProgressTracker(f"{len(runs)} members")] if progress else []
    if events is not None:
        shown.append(TensorBoardTracker(events))

    def ended(index: int, result: FitResult) -> None:
        run, status = runs[index], statuses[index]
        if result.status == "failed":
            _write_failure(run, status, result.error)
        else:
            _write_outcome(run, result, status)

    try:
        return fit_members(members, sample, progress=CompositeTracker(shown), ended=ended)
    except Exception as error:
        for run, status in zip(runs, statuses, strict=True):
            _write_failure(run, status, error)
        raise


def _fit_alone(run: Run, *, progress: bool, trackers: Sequence[Tracker]) -> FitResult:
    """Trains one of several runs; that it diverges or fails does not stop the others."""
    try:
        result = _fit_held(run, progress=progress, trackers=trackers)
        _check_kept(run, result)
        return result
    except NonFiniteLossError as error:
        return FitResult("diverged", error.step, {}, error=error)
    except (RunError, OSError, ValueError) as error:
        return FitResult("failed", 0, {}, error=error)


def _model_of(run: Run) -> nnx.Module:
    """The model that a run starts from; one that has checkpoints needs no other run any more."""
    resumed = any(run.checkpoints.glob("[0-9]*"))
    return new_model(run.config) if resumed else starting_model(run.config)


def _own_trackers(run: Run, status: StatusTracker) -> list[Tracker]:
    return [JsonlTracker(run.metrics_path), TensorBoardTracker(run.folder), status]


def _write_outcome(run: Run, result: FitResult, tracker: StatusTracker) -> None:
    """Writes what training came to, and what it took; the latter stays if nothing was trained."""
    error = None if result.error is None else str(result.error)
    tracker.ended = True
    write_status(run, RunStatus(result.status, result.step, error))
    if tracker.records or run.cost is None:
        write_cost(run, result)


def _write_failure(run: Run, tracker: StatusTracker, error: Exception | None) -> None:
    """Notes a failure where training had begun; what had ended before stays so."""
    if tracker.started and not tracker.ended:
        with suppress(OSError):  # the folder may be what failed
            write_status(run, RunStatus("failed", tracker.step, _one_line(error)))


def write_cost(run: Run, result: FitResult) -> None:
    """Writes `cost.json`: what the model takes, and what training it took."""
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


def _created(config: ExperimentConfig | None, folder: str | Path | None) -> Run:
    if config is None:
        raise RunError("a new run needs a config: default_config(task), or resume=True")
    return new_run(config, folder)


def _resumed(config: ExperimentConfig | None, folder: str | Path | None) -> Run:
    if folder is None:
        raise RunError("to resume a run, name it")
    run = load_run(folder)
    if config is not None and to_document(config) != to_document(run.config):
        raise RunError(
            f"run {run.folder} has another config than the one given: resume it as it is, or "
            "train under a new name"
        )
    return run
