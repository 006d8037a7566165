"""A run is a folder: its config, environment, metrics, checkpoints and evaluation."""

import json
import platform
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import polars
from flax import nnx

import tasks
from experiments.config import ExperimentConfig, read_config, write_config
from experiments.suggestions import nearest
from plstm_seq.evaluation import read_parquet
from plstm_seq.models import SequenceModel
from plstm_seq.training import load_model, read_jsonl

ROOT = Path("runs")
_PACKAGES = ("plstm-seq", "jax", "jaxlib", "flax", "optax", "numpy")


class RunError(Exception):
    """A run is missing, is there already, or lacks what was asked of it; the message says what."""


@dataclass(frozen=True)
class Run:
    """A trained (or interrupted) run; files are read when they are asked for.

    Attributes:
        folder: where it is.
        config: what it was made of.
    """

    folder: Path
    config: ExperimentConfig

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def metrics_path(self) -> Path:
        """One record a dispatch, as JSON lines."""
        return self.folder / "metrics.jsonl"

    @property
    def evaluation_path(self) -> Path:
        """One row a length and metric."""
        return self.folder / "evaluation.parquet"

    @cached_property
    def task(self) -> tasks.Task:
        """The task."""
        return self.config.task.make()

    @cached_property
    def model(self) -> SequenceModel:
        """The model with the parameters of the last whole checkpoint.

        Raises:
            RunError: there is no checkpoint yet.
        """
        model = new_model(self.config)
        try:
            load_model(model, self.checkpoints)
        except FileNotFoundError:
            raise RunError(f"run {self.folder} has no checkpoint yet: train it first") from None
        return model

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The records of training."""
        return read_jsonl(self.metrics_path) if self.metrics_path.exists() else []

    @property
    def evaluation(self) -> polars.DataFrame:
        """The last evaluation.

        Raises:
            RunError: there is none yet.
        """
        if not self.evaluation_path.exists():
            raise RunError(
                f"run {self.folder} has not been evaluated: plstm-seq evaluate {self.folder}"
            )
        return read_parquet(self.evaluation_path)


def new_model(config: ExperimentConfig) -> SequenceModel:
    """The untrained model of a config: a function of the config alone, its seed included."""
    task = config.task.make()
    return SequenceModel(
        len(task.vocabulary),
        config.model,
        output_size=len(task.labels),
        rngs=nnx.Rngs(config.seed),
    )


def load_run(path: str | Path) -> Run:
    """Opens a run.

    Args:
        path: its folder, or its name in `runs/`.

    Raises:
        RunError: there is no such run; the nearest names are given.
        ConfigError: its config.yaml is not valid.
    """
    for folder in (Path(path), ROOT / path):
        if (folder / "config.yaml").is_file():
            return Run(folder, read_config(folder / "config.yaml"))
    known = [config.parent.name for config in ROOT.glob("*/config.yaml")]
    raise RunError(f"no run at {str(path)!r}, nor in {ROOT}/; {nearest(Path(path).name, known)}")


def create_run(config: ExperimentConfig, folder: str | Path | None) -> Run:
    """Makes the folder of a new run, with its config and environment.

    Args:
        config: of the run.
        folder: where; None: `runs/<task>-<n>` with the first n that is free.

    Raises:
        RunError: there is something at that place.
    """
    if folder is None:
        number = 1
        while True:
            folder = ROOT / f"{config.task.name}-{number}"
            try:
                folder.mkdir(parents=True)
                break
            except FileExistsError:
                number += 1
    else:
        folder = Path(folder)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise RunError(
                f"{folder} exists already: take another name, or continue it with --resume"
            ) from None
    write_config(config, folder / "config.yaml")
    environment = json.dumps(read_environment(), indent=2) + "\n"
    (folder / "environment.json").write_text(environment, encoding="utf-8")
    return Run(folder, config)


def read_environment() -> dict[str, Any]:
    """Device and versions that numbers were made with."""
    devices = jax.devices()
    return {
        "device": devices[0].device_kind,
        "platform": devices[0].platform,
        "device_count": len(devices),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }
