"""Training: one run, or the runs of a group in one program."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import jax
from jax.sharding import Mesh

from experiments.config import ExperimentConfig, to_document
from experiments.distributed import is_first
from experiments.files import write_whole
from experiments.run import Run, RunError, RunStatus, create_run, load_run, starting_model
from experiments.status import StatusTracker, write_status
from plstm_seq.training import (
    CompositeTracker,
    FitResult,
    HostSample,
    JsonlTracker,
    Member,
    NonFiniteLossError,
    ProgressTracker,
    TensorBoardTracker,
    Tracker,
    fit,
    fit_members,
)


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

    Killed at any moment, a run loses at most the steps since its last checkpoint.

    Args:
        config: what to train; None with `resume`: what the folder says.
        folder: of the run; None: `runs/<task>-<n>`, the first n that is free.
        resume: continue the run in `folder` from its last checkpoint.
        progress: whether progress is written to standard error.
        trackers: take the records beside `metrics.jsonl` and the TensorBoard events.
        mesh: devices that every batch is split over, see `fit`; None: one device.

    Returns:
        The run; `run.model` is trained.

    Raises:
        RunError: the folder is there already, or what to resume is not, or differs from `config`.
        NonFiniteLossError: training diverged; the last good checkpoint is kept.
        KeyboardInterrupt: Ctrl-C; the run can be resumed.
    """
    run = _resumed(config, folder) if resume else _created(config, folder)
    fit_run(run, progress=progress, trackers=trackers, mesh=mesh)
    return run


def fit_run(
    run: Run, *, progress: bool, trackers: Sequence[Tracker] = (), mesh: Mesh | None = None
) -> FitResult:
    """Trains a run from its last checkpoint, or from the start if it has none.

    Of several processes that share a mesh, the first writes into the run's folder; checkpoints are
    everybody's.

    Raises:
        NonFiniteLossError: training diverged; the run's status says so, too.
        KeyboardInterrupt: Ctrl-C; a checkpoint was saved.
    """
    if not is_first():
        return _fit(run, (), mesh)
    status = StatusTracker(run)
    shown = [ProgressTracker()] if progress else []
    try:
        result = _fit(run, [*_own_trackers(run, status), *shown, *trackers], mesh)
    except NonFiniteLossError as error:
        write_status(run, RunStatus("diverged", status.step, str(error)))
        _write_cost(run, FitResult("diverged", error.step, {}, error=error))
        raise
    except Exception as error:
        write_status(run, RunStatus("failed", status.step, _one_line(error)))
        raise
    _write_outcome(run, result, status)
    return result


def _fit(run: Run, trackers: Sequence[Tracker], mesh: Mesh | None) -> FitResult:
    training = run.config.training
    try:
        return fit(
            starting_model(run.config),
            run.problem.sample,
            training,
            key=jax.random.key(run.config.seed),
            folder=run.checkpoints,
            resume=True,
            trackers=trackers,
            validate=run.problem.validate(training.batch_size, training.curriculum.longest),
            mesh=mesh,
        )
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
    sample = runs[0].problem.sample
    if isinstance(sample, HostSample):
        return [_fit_alone(run, progress=progress, trackers=trackers(run)) for run in runs]
    statuses = [StatusTracker(run) for run in runs]
    members = [
        Member(
            starting_model(run.config),
            run.config.training,
            jax.random.key(run.config.seed),
            run.checkpoints,
            [*_own_trackers(run, status), *trackers(run)],
        )
        for run, status in zip(runs, statuses, strict=True)
    ]
    shown: list[Tracker] = [ProgressTracker(f"{len(runs)} members")] if progress else []
    if events is not None:
        shown.append(TensorBoardTracker(events))
    try:
        return fit_members(
            members,
            sample,
            progress=CompositeTracker(shown),
            ended=lambda index, result: _write_outcome(runs[index], result, statuses[index]),
        )
    except Exception as error:
        for run, status in zip(runs, statuses, strict=True):
            if run.status is None or not run.status.ended:
                write_status(run, RunStatus("failed", status.step, _one_line(error)))
        raise


def _fit_alone(run: Run, *, progress: bool, trackers: Sequence[Tracker]) -> FitResult:
    """Trains one of several runs; that it diverges does not stop the others."""
    try:
        return fit_run(run, progress=progress, trackers=trackers)
    except NonFiniteLossError as error:
        return FitResult("diverged", error.step, {}, error=error)


def _own_trackers(run: Run, status: StatusTracker) -> list[Tracker]:
    return [JsonlTracker(run.metrics_path), TensorBoardTracker(run.folder), status]


def _write_outcome(run: Run, result: FitResult, tracker: StatusTracker) -> None:
    """Writes what training came to, and what it took; the latter stays if nothing was trained."""
    error = None if result.error is None else str(result.error)
    write_status(run, RunStatus(result.status, result.step, error))
    if tracker.records or run.cost is None:
        _write_cost(run, result)


def _write_cost(run: Run, result: FitResult) -> None:
    from experiments.results.costs import costs_of

    speeds = [record["tokens_per_second"] for record in run.metrics]
    cost = {
        **costs_of(run.config)._asdict(),
        "tokens_per_second": median(speeds) if speeds else None,
        "members_in_program": result.members,
        "peak_memory_bytes": result.memory_bytes,
    }
    write_whole(run.cost_path, json.dumps(cost, indent=2) + "\n")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _created(config: ExperimentConfig | None, folder: str | Path | None) -> Run:
    if config is None:
        raise RunError("a new run needs a config: default_config(task), or resume=True")
    return create_run(config, folder)


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
