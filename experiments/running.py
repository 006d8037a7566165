"""Training a run."""

from collections.abc import Sequence
from pathlib import Path

import jax

from experiments.config import ExperimentConfig, to_document
from experiments.run import Run, RunError, create_run, load_run, new_model
from plstm_seq.training import (
    FitResult,
    JsonlTracker,
    ProgressTracker,
    TensorBoardTracker,
    Tracker,
    fit,
)


def train(
    config: ExperimentConfig | None = None,
    folder: str | Path | None = None,
    *,
    resume: bool = False,
    progress: bool = True,
    trackers: Sequence[Tracker] = (),
) -> Run:
    """Trains a model on a task, in a folder that holds everything about the run.

    Killed at any moment, a run loses at most the steps since its last checkpoint.

    Args:
        config: what to train; None with `resume`: what the folder says.
        folder: of the run; None: `runs/<task>-<n>`, the first n that is free.
        resume: continue the run in `folder` from its last checkpoint.
        progress: whether progress is written to standard error.
        trackers: take the records beside `metrics.jsonl` and the TensorBoard events.

    Returns:
        The run; `run.model` is trained.

    Raises:
        RunError: the folder is there already, or what to resume is not, or differs from `config`.
        NonFiniteLossError: training diverged; the last good checkpoint is kept.
        KeyboardInterrupt: Ctrl-C; the run can be resumed.
    """
    run = _resumed(config, folder) if resume else _created(config, folder)
    fit_run(run, progress=progress, trackers=trackers)
    return run


def fit_run(run: Run, *, progress: bool, trackers: Sequence[Tracker] = ()) -> FitResult:
    """Trains a run from its last checkpoint, or from the start if it has none."""
    own: list[Tracker] = [JsonlTracker(run.metrics_path), TensorBoardTracker(run.folder)]
    if progress:
        own.append(ProgressTracker())
    return fit(
        new_model(run.config),
        run.task.sample,
        run.config.training,
        key=jax.random.key(run.config.seed),
        folder=run.checkpoints,
        resume=True,
        trackers=[*own, *trackers],
    )


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
