"""A run is a folder: its config, environment, metrics, checkpoints and evaluation."""

import json
import platform
import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import polars
import pydantic
from flax import nnx

from experiments.config import ExperimentConfig
from experiments.config_files import COMPLETE, READABLE, has_config, stored_config
from experiments.files import DamagedError, RunError, holder, locked, read_json
from experiments.problems import Problem, make_task, problem_of
from experiments.status import WHOLE, RunStatus, read_status
from plstm_seq import __version__
from plstm_seq.evaluation import Asked, choose_rows, filled, read_parquet
from plstm_seq.training import (
    Checkpoint,
    CorruptCheckpointError,
    DamagedRecordsError,
    load_model,
    read_jsonl,
)
from plstm_seq.training.config import VALIDATION
from plstm_seq.training.loss import OF_LABELS
from tasks.options import nearest

ROOT = Path("runs")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


@dataclass(frozen=True)
class Run:
    """A run that was trained or begun. Its files are read when they are asked for.

    Attributes:
        folder: the folder of the run.
        config: the config that it was made with.

    Example:
        >>> from experiments import Run, load_run
        >>> run: Run = load_run("parity-1")  # see `experiments.train`
        >>> run.is_trained, run.status.step, [record["step"] for record in run.metrics]
        (True, 200, [50, 100, 150, 200])
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
        """The file with a line of JSON for each piece of training."""
        return self.folder / "metrics.jsonl"

    @property
    def evaluation_path(self) -> Path:
        """The file with a row for each length and metric that was measured."""
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
        return read_status(self.status_path)

    @property
    def is_trained(self) -> bool:
        """Whether training has ended, and all that is written at its end is there."""
        return self.status is not None and self.status.ended and self.cost is not None

    @property
    def cost(self) -> dict[str, Any] | None:
        """What the model takes: parameters, state, operations, time, memory; None: not measured."""
        remedy = "delete it, and resume: it is measured anew"
        return read_json(self.cost_path, _NUMBERS, remedy)

    @property
    def environment(self) -> dict[str, Any]:
        """The device and the versions that the run was begun with; empty if they are not known."""
        path = self.folder / "environment.json"
        remedy = "delete it, and resume where the run was made: it is written anew"
        return read_json(path, _NAMES, remedy) or {}

    @cached_property
    def task(self) -> Any:
        """The task; one object for all runs on it, so that they share compiled programs."""
        return _task(self.config.task.name, json.dumps(self.config.task.options))

    @property
    def problem(self) -> Problem:
        """What the task needs to be learned: see `experiments.problems`."""
        return problem_of(self.task)

    @cached_property
    def model(self) -> Any:
        """The model with the parameters of the last whole checkpoint.

        Raises:
            RunError: there is no checkpoint yet, or only damaged ones.
        """
        return self._loaded[0]

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that `model` is from; `passed_over` says if later ones are damaged.

        Raises:
            RunError: as `model`.
        """
        return self._loaded[1]

    @cached_property
    def averaged_model(self) -> Any:
        """The model with the averaged parameters of the last whole checkpoint.

        Raises:
            RunError: training kept none (`training.average`); or as `model`.
        """
        if self.config.training.average is None:
            raise RunError(
                f"run {self.folder} has no averaged parameters: it was trained without "
                "training.average"
            )
        model, checkpoint = self._load(average=True)
        if checkpoint.identity != self.checkpoint.identity:
            raise RunError(f"run {self.folder} was trained on meanwhile: load it again")
        return model

    @cached_property
    def _loaded(self) -> tuple[Any, Checkpoint]:
        return self._load(average=False)

    def _load(self, *, average: bool) -> tuple[Any, Checkpoint]:
        model = new_model(self.config)
        try:
            found = load_model(model, self.checkpoints, average=average)
        except FileNotFoundError:
            raise RunError(f"run {self.folder} has no checkpoint yet: train it first") from None
        except CorruptCheckpointError as error:
            raise RunError(f"{error}: {error.remedy}") from None
        return model, self.checked(found)

    def checked(self, found: Checkpoint) -> Checkpoint:
        """A checkpoint that was read, which says if it is not that of the last step.

        Raises:
            RunError: it is of step 0, and the run was trained beyond that.
        """
        try:
            ending = self.status
        except DamagedError:
            ending = None  # what it says is not needed here
        if ending is None or ending.status not in WHOLE or found.step >= ending.step:
            return found
        lost = f"training ended at step {ending.step}, and its checkpoint is not there"
        if found.step == 0:
            raise RunError(f"{self.checkpoints}: {lost}; that of step 0 is not trained")
        if not found.passed_over:
            warnings.warn(f"{self.folder}: {lost}", RuntimeWarning, stacklevel=2)
        return found._replace(passed_over=found.passed_over or (lost,))

    @property
    def last_step(self) -> int | None:
        """The training step that an evaluation should be of; None: not known."""
        ending = self.status
        if ending is not None and ending.status in WHOLE:
            return ending.step
        steps = [int(path.name) for path in self.checkpoints.glob("[0-9]*") if path.name.isdigit()]
        return max(steps, default=None)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The records of training.

        Raises:
            DamagedError: a line of the file is damaged.
        """
        try:
            return read_jsonl(self.metrics_path)
        except FileNotFoundError:
            return []
        except (DamagedRecordsError, OSError) as error:
            raise DamagedError(
                self.metrics_path,
                str(error).removeprefix(f"{self.metrics_path}: "),
                "correct or delete that line; resuming a run that has not ended does so",
            ) from None

    def lock(self) -> Any:
        """Holds the run while a block trains it; yields whether this process got it."""
        return locked(self._lock_path)

    @property
    def holder(self) -> str | None:
        """The process that trains the run; None: there is none."""
        return holder(self._lock_path)

    @property
    def _lock_path(self) -> Path:
        return self.folder / "train.lock"

    def check_goes_on(self) -> None:
        """Refuses to train where that would replace what was measured.

        Raises:
            RunError: there are records and no checkpoint that they belong to.
        """
        trained = self.metrics_path.exists() and self.metrics_path.stat().st_size
        if trained and not any(self.checkpoints.glob("[0-9]*")):
            raise RunError(
                f"{self.checkpoints} has no checkpoint left of what {self.metrics_path.name} "
                "records: restore it, or train under a new name"
            )

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
    def asked(self) -> Asked:
        """What its config asks an evaluation to measure."""
        settings = self.config.evaluation
        return Asked(
            lengths=settings.lengths,
            # A data set has as many examples as it has.
            num_sequences=1 if self.problem.examples is not None else settings.num_sequences,
            evaluation_seed=settings.seed,
            snap_every=settings.snap_every,
            mixture=settings.mixture is not None,
            averaged=self.config.training.average is not None,
        )

    @property
    def is_evaluated(self) -> bool:
        """Whether nothing is left to evaluate: all that the config asks, at the last step."""
        if not self.has_accuracy:
            return True
        if not self.evaluation_path.exists():
            return False
        return self.asked.is_met(self.evaluations, self.last_step)

    @property
    def evaluations(self) -> polars.DataFrame:
        """All rows that were ever measured, of every step, number of sequences and seed.

        Raises:
            RunError: there are none yet, or as `check_has_accuracy`.
            DamagedError: the file is damaged.
        """
        self.check_has_accuracy()
        if not self.evaluation_path.exists():
            raise RunError(
                f"run {self.folder} has not been evaluated: plstm-seq evaluate {self.folder}"
            )
        try:
            frame = read_parquet(self.evaluation_path)
        except (ValueError, OSError) as error:
            raise DamagedError(
                self.evaluation_path, error, f"delete it, and plstm-seq evaluate {self.folder}"
            ) from None
        # Older versions evaluated what had ended, and with the seed of the config.
        try:
            step = self.last_step
        except DamagedError:
            step = None
        return filled(frame, {"step": step, "evaluation_seed": self.config.evaluation.seed})

    @property
    def evaluation(self) -> polars.DataFrame:
        """The rows that were measured together: of one step, number of sequences and seed.

        The step is the last that was evaluated. Of several sets at that step, the one with most of
        the config's lengths is chosen, and of those the one with most sequences; see `choose_rows`.

        Raises:
            RunError, DamagedError: as `evaluations`.
        """
        return self.chosen_evaluation()

    def chosen_evaluation(self, num_sequences: int | None = None) -> polars.DataFrame:
        """As `evaluation`, but the set of that many sequences, where a number is given.

        Raises:
            RunError: nothing was measured with that many; or as `evaluations`.
        """
        try:
            return choose_rows(self.evaluations, self.asked, num_sequences=num_sequences)
        except ValueError as error:
            raise RunError(f"{self.evaluation_path}: {error}") from None


_NUMBERS = pydantic.TypeAdapter(dict[str, int | float | None])
_NAMES = pydantic.TypeAdapter(dict[str, str | int | float | bool | None])


def new_model(config: ExperimentConfig) -> Any:
    """The untrained model of a config: a function of the config alone, its seed included.

    Raises:
        ValueError: the model does not read the task's inputs, or its sizes do not fit each other.
    """
    dtype = None if config.dtype == "float32" else config.dtype
    problem = problem_of(config.task.make())
    return problem.make_model(config.model, nnx.Rngs(config.seed), dtype)


def read_environment() -> dict[str, Any]:
    """Device and versions that numbers were made with."""
    devices = jax.devices()
    return {
        "device": devices[0].device_kind,
        "platform": devices[0].platform,
        "device_count": len(devices),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "plstm-seq": __version__,  # a checkout need not be installed
        **{package: version(package) for package in _PACKAGES},
    }


def load_run(path: str | Path) -> Run:
    """Opens a run.

    Args:
        path: its folder, or its name in `runs/`.

    Raises:
        RunError: there is no such run; the nearest names are given.
        DamagedError: its config is damaged.

    Example:
        >>> from experiments import load_run
        >>> run = load_run("parity-1")  # see `experiments.train`
        >>> logits = run.model(run.task.encode("0110")[None])
        >>> logits.argmax(-1).tolist()
        [[0, 1, 0, 0]]
    """
    for folder in (Path(path), ROOT / path):
        if has_config(folder):
            return Run(folder, stored_config(folder))
    known = sorted(
        {c.parent.name for c in ROOT.glob("*/config.*") if c.name in (COMPLETE, READABLE)}
    )
    raise RunError(f"no run at {str(path)!r}, nor in {ROOT}/; {nearest(Path(path).name, known)}")


def as_run(run: Run | str | Path) -> Run:
    """A run as it is, or the one that a folder or name leads to; see `load_run`."""
    return load_run(run) if isinstance(run, str | Path) else run


@lru_cache
def _task(name: str, options: str) -> Any:
    return make_task(name, **json.loads(options))
