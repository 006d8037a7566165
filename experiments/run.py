"""A run is a folder: its config, environment, metrics, checkpoints and evaluation."""

import json
import platform
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import polars
from flax import nnx

from experiments.config import (
    ConfigError,
    ExperimentConfig,
    read_config,
    to_document,
    write_config,
)
from experiments.files import write_whole
from experiments.problems import Problem, make_task, problem_of
from experiments.suggestions import nearest
from plstm_seq.evaluation import read_parquet
from plstm_seq.training import load_model, load_parameters, read_jsonl
from plstm_seq.training.config import VALIDATION
from plstm_seq.training.step import OF_LABELS

ROOT = Path("runs")
_PACKAGES = ("plstm-seq", "jax", "jaxlib", "flax", "optax", "numpy")


class RunError(Exception):
    """A run is missing, is there already, or lacks what was asked of it; the message says what."""


Ending = Literal["finished", "solved", "diverged", "interrupted", "failed"]
ENDED: tuple[Ending, ...] = ("finished", "solved", "diverged")


class RunStatus(NamedTuple):
    """How the last training of a run ended or stopped.

    Attributes:
        status: `finished`, `solved` and `diverged` are final; training goes on after the others.
        step: the steps taken until then.
        error: what went wrong, if something did.
    """

    status: Ending
    step: int
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        return self.status in ENDED


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

    @property
    def status_path(self) -> Path:
        """How training ended; absent while it runs, or if it was killed."""
        return self.folder / "status.json"

    @property
    def cost_path(self) -> Path:
        """What the model takes in memory, operations and time."""
        return self.folder / "cost.json"

    @property
    def status(self) -> RunStatus | None:
        """How the last training ended or stopped; None: it never came to an end."""
        document = _read_json(self.status_path)
        return None if document is None else RunStatus(**document)

    @property
    def is_trained(self) -> bool:
        """Whether training has ended, and all that is written at its end is there."""
        return self.status is not None and self.status.ended and self.cost is not None

    @property
    def cost(self) -> dict[str, Any] | None:
        """What the model takes: parameters, state, operations, time, memory; None: not measured."""
        return _read_json(self.cost_path)

    @cached_property
    def task(self) -> Any:
        """The task; one object for all runs on it, so that they share compiled programs."""
        return _task(self.config.task.name, json.dumps(self.config.task.options))

    @property
    def problem(self) -> Problem:
        """What goes with the task's kind."""
        return problem_of(self.task)

    @cached_property
    def model(self) -> Any:
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
    def has_accuracy(self) -> bool:
        """Whether the model predicts labels; of numbers, training measures the errors."""
        return self.problem.losses == OF_LABELS

    def check_has_accuracy(self) -> None:
        """Refuses a run that predicts numbers.

        Raises:
            RunError: it is one.
        """
        if not self.has_accuracy:
            raise RunError(
                f"{self.name} predicts numbers, which have no accuracy: their errors are in "
                f"{self.metrics_path} ({VALIDATION}...)"
            )

    @property
    def is_evaluated(self) -> bool:
        """Whether nothing is left to evaluate."""
        return self.evaluation_path.exists() or not self.has_accuracy

    @property
    def evaluation(self) -> polars.DataFrame:
        """The last evaluation.

        Raises:
            RunError: there is none yet, or as `check_has_accuracy`.
        """
        self.check_has_accuracy()
        if not self.evaluation_path.exists():
            raise RunError(
                f"run {self.folder} has not been evaluated: plstm-seq evaluate {self.folder}"
            )
        return read_parquet(self.evaluation_path)


def new_model(config: ExperimentConfig) -> Any:
    """The untrained model of a config: a function of the config alone, its seed included.

    Raises:
        ValueError: the model does not read the task's inputs, or its sizes do not fit each other.
    """
    dtype = None if config.dtype == "float32" else config.dtype
    problem = problem_of(config.task.make())
    return problem.make_model(config.model, nnx.Rngs(config.seed), dtype)


def starting_model(config: ExperimentConfig) -> Any:
    """The model that training starts from: as `new_model`, or with the parameters of another run.

    Raises:
        RunError: there is no such run, or it has no checkpoint or other parameters.
        ValueError: as `new_model`.
    """
    model = new_model(config)
    if config.initial_run is None:
        return model
    folder = Path(config.initial_run)
    try:
        load_parameters(model, Run(folder, config).checkpoints)
    except (FileNotFoundError, ValueError) as error:
        raise RunError(f"training cannot start from run {folder}: {error}") from None
    return model


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
    return complete_run(config, folder)


def complete_run(config: ExperimentConfig, folder: Path) -> Run:
    """The run of a folder; config and environment are written where they are missing.

    Raises:
        RunError: the folder holds another config.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    if not path.exists():
        write_config(config, path)
    else:
        try:
            same = to_document(read_config(path)) == to_document(config)
        except ConfigError as error:
            raise RunError(f"{error}; delete the folder {folder} to train it anew") from None
        if not same:
            raise RunError(f"{path} is not the config that belongs there: move {folder} away")
    if not (folder / "environment.json").exists():
        environment = json.dumps(read_environment(), indent=2) + "\n"
        write_whole(folder / "environment.json", environment)
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


@lru_cache
def _task(name: str, options: str) -> Any:
    return make_task(name, **json.loads(options))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
