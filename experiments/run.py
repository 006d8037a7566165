"""A run is a folder: its config, environment, metrics, checkpoints and evaluation."""

import platform
import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import polars
from flax import nnx

from experiments.config import ExperimentConfig, TaskConfig
from experiments.config_files import COMPLETE, READABLE, has_config, stored_config
from experiments.files import DamagedError, RunError, holder, locked, read_json
from experiments.problems import Problem, problem_of
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
    """A run that was trained or begun. Its files are read when they are needed.

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
        """The file with the records of training, one line of JSON per record."""
        return self.folder / "metrics.jsonl"

    @property
    def evaluation_path(self) -> Path:
        """The file with a row for each length and metric that was measured."""
        return self.folder / "evaluation.parquet"

    @property
    def status_path(self) -> Path:
        """The file that says how training ended; absent while it runs, or if it was killed."""
        return self.folder / "status.json"

    @property
    def cost_path(self) -> Path:
        """The file that says what the model takes in memory, operations and time."""
        return self.folder / "cost.json"

    @property
    def status(self) -> RunStatus | None:
        """How the last training ended or stopped; None: it runs, was killed or never began."""
        return read_status(self.status_path)

    @property
    def is_trained(self) -> bool:
        """Whether training has ended, and the files that are written at its end exist."""
        return self.status is not None and self.status.ended and self.cost is not None

    @property
    def cost(self) -> dict[str, Any] | None:
        """What the model takes in parameters, state, operations, time and memory; None: unknown."""
        remedy = "delete it, and resume: it is measured anew"
        return read_json(self.cost_path, _NUMBERS, remedy)

    @property
    def environment(self) -> dict[str, Any]:
        """The device and the versions that the run was begun with; empty if they are unknown."""
        path = self.folder / "environment.json"
        remedy = "delete it, and resume where the run was made: it is written anew"
        return read_json(path, _NAMES, remedy) or {}

    @cached_property
    def task(self) -> Any:
        """The task. All runs on a task share one object, and with it compiled programs."""
        return _task(self.config.task)

    @property
    def problem(self) -> Problem:
        """The task with everything that its kind needs for training, see `experiments.problems`."""
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
        """The checkpoint that `model` was read from; `passed_over` says if later ones are damaged.

        Raises:
            RunError: see `model`.
        """
        return self._loaded[1]

    @cached_property
    def averaged_model(self) -> Any:
        """The model with the averaged parameters of the last whole checkpoint.

        Raises:
            RunError: training kept no average (`training.average`); or see `model`.
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
        """Returns a checkpoint that was read, with a note if the one of the last step is missing.

        Raises:
            RunError: the checkpoint is of step 0, and the run was trained beyond that.
        """
        try:
            ending = self.status
        except DamagedError:
            ending = None  # a damaged status is no reason to refuse the checkpoint
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
        """The training step that an evaluation should measure; None: it is unknown."""
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
        """Locks the run while a block trains it; yields whether this process got the lock."""
        return locked(self._lock_path)

    @property
    def holder(self) -> str | None:
        """The process that trains the run; None: there is none."""
        return holder(self._lock_path)

    @property
    def _lock_path(self) -> Path:
        return self.folder / "train.lock"

    def check_goes_on(self) -> None:
        """Refuses to train if that would replace the records of an earlier training.

        Raises:
            RunError: there are records, but no checkpoint.
        """
        trained = self.metrics_path.exists() and self.metrics_path.stat().st_size
        if trained and not any(self.checkpoints.glob("[0-9]*")):
            raise RunError(
                f"{self.checkpoints} has no checkpoint left of what {self.metrics_path.name} "
                "records: restore it, or train under a new name"
            )

    @property
    def has_accuracy(self) -> bool:
        """Whether the model predicts labels; for numbers, training measures errors instead."""
        return self.problem.losses == OF_LABELS

    def check_has_accuracy(self) -> None:
        """Refuses a run that predicts numbers.

        Raises:
            RunError: the run predicts numbers.
        """
        if not self.has_accuracy:
            raise RunError(
                f"{self.name} predicts numbers, which have no accuracy: their errors are in "
                f"{self.metrics_path} ({VALIDATION}...)"
            )

    @property
    def asked(self) -> Asked:
        """What the config asks an evaluation to measure."""
        settings = self.config.evaluation
        return Asked(
            lengths=settings.lengths,
            # The number of examples in a data set is fixed, so any number will do.
            num_sequences=1 if self.problem.examples is not None else settings.num_sequences,
            evaluation_seed=settings.seed,
            snap_every=settings.snap_every,
            mixture=settings.mixture is not None,
            averaged=self.config.training.average is not None,
        )

    @property
    def is_evaluated(self) -> bool:
        """Whether everything that the config asks for was measured at the last step."""
        if not self.has_accuracy:
            return True
        if not self.evaluation_path.exists():
            return False
        return self.asked.is_met(self.evaluations, self.last_step)

    @property
    def evaluations(self) -> polars.DataFrame:
        """All rows that were ever measured, of every step, number of sequences and seed.

        Raises:
            RunError: there are none yet, or see `check_has_accuracy`.
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
        # Rows of older versions lack these: only ended runs were evaluated, with the config's seed.
        try:
            step = self.last_step
        except DamagedError:
            step = None
        return filled(frame, {"step": step, "evaluation_seed": self.config.evaluation.seed})

    @property
    def evaluation(self) -> polars.DataFrame:
        """The rows that were measured together: of one step, number of sequences and seed.

        The step is the last that was evaluated. If there are several sets of rows at that step, the
        set with the most lengths of the config is chosen, then the one with the most sequences; see
        `choose_rows`.

        Raises:
            RunError, DamagedError: see `evaluations`.
        """
        return self.chosen_evaluation()

    def chosen_evaluation(self, num_sequences: int | None = None) -> polars.DataFrame:
        """Chooses rows as `evaluation` does, but with the given number of sequences, if any.

        Raises:
            RunError: no row was measured with that many sequences; or see `evaluations`.
        """
        try:
            return choose_rows(self.evaluations, self.asked, num_sequences=num_sequences)
        except ValueError as error:
            raise RunError(f"{self.evaluation_path}: {error}") from None


_NUMBERS = dict[str, int | float | None]
_NAMES = dict[str, str | int | float | bool | None]


def new_model(config: ExperimentConfig) -> Any:
    """Makes the untrained model of a config; the same config and seed give the same parameters.

    Raises:
        ValueError: the model does not read the task's inputs, or its sizes do not fit each other.
    """
    dtype = None if config.dtype == "float32" else config.dtype
    problem = problem_of(config.task.make())
    return problem.make_model(config.model, nnx.Rngs(config.seed), dtype)


def read_environment() -> dict[str, Any]:
    """Returns the device, and the versions of Python and of the packages that decide numbers."""
    devices = jax.devices()
    return {
        "device": devices[0].device_kind,
        "platform": devices[0].platform,
        "device_count": len(devices),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "plstm-seq": __version__,  # not from metadata, as a checkout need not be installed
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
    """Returns a run as it is, or opens the run of a folder or name; see `load_run`."""
    return load_run(run) if isinstance(run, str | Path) else run


@lru_cache
def _task(config: TaskConfig) -> Any:
    return config.make()
