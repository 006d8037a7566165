"""Cross validation on a data set of graphs: a training for each fold, and what they come to."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from experiments.config import ConfigError, ExperimentConfig
from experiments.files import write_whole
from experiments.run import Run, RunError
from experiments.sweeps import Sweep, SweepFolder, create_sweep, run_sweep, vary
from plstm_seq.training.config import VALIDATION

_ACCURACY, _TEST = VALIDATION + "accuracy", VALIDATION + "test_accuracy"


class FoldResult(NamedTuple):
    """What came of a fold.

    Attributes:
        fold: its number.
        step: of the record with the best validation accuracy, the first of them.
        validation_accuracy: there.
        test_accuracy: there.
    """

    fold: int
    step: int
    validation_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class CrossValidation:
    """The folds of one setting.

    Attributes:
        folder: of the sweep, in which `cross_validation.json` says the same.
        folds: in order.
    """

    folder: Path
    folds: tuple[FoldResult, ...]

    @property
    def mean(self) -> float:
        """Of the test accuracies."""
        return mean(fold.test_accuracy for fold in self.folds)

    @property
    def std(self) -> float:
        """Of the test accuracies, over folds."""
        values = [fold.test_accuracy for fold in self.folds]
        return stdev(values) if len(values) > 1 else 0.0

    def document(self) -> dict[str, object]:
        """As JSON holds it."""
        return {
            "mean": self.mean,
            "std": self.std,
            "folds": [fold._asdict() for fold in self.folds],
        }


def create_folds(config: ExperimentConfig, folder: str | Path | None = None) -> SweepFolder:
    """The folder of a sweep over the folds; what is there of it is kept.

    Raises:
        ConfigError: the task has no folds.
        RunError: the folder holds another sweep.
    """
    if config.task.name != "tu":
        raise ConfigError(f"cross-validate: {config.task.name!r} has no folds; the task tu has")
    num_folds = config.task.make().num_folds
    return create_sweep(Sweep(config, tuple(vary("task.fold", range(num_folds)))), folder)


def cross_validate(
    config: ExperimentConfig,
    folder: str | Path | None = None,
    *,
    executor: str = "local",
    max_parallel: int | None = None,
    progress: bool = True,
) -> CrossValidation:
    """Trains on every fold of a data set; goes on where it was stopped.

    Source: the protocol of arXiv 2506.11997, table 3: the test accuracy of the epoch with the best
    validation accuracy, mean and standard deviation over the folds.

    Args:
        config: of the task `tu`.
        folder: of the sweep over the folds; None: a new one in `sweeps/`.
        executor: see `run_sweep`.
        max_parallel: see `run_sweep`.
        progress: whether progress is written to standard error.

    Returns:
        The folds; `cross_validation.json` in the folder says the same.

    Raises:
        ConfigError: the task has no folds.
        RunError: the folder holds another sweep, or a fold was not trained.
    """
    sweep = create_folds(config, folder)
    run_sweep(sweep.path, executor=executor, max_parallel=max_parallel, progress=progress)
    results = [_best(sweep.run(member)) for member in sweep.plan.members]
    result = CrossValidation(sweep.path, tuple(sorted(results)))
    text = json.dumps(result.document(), indent=2) + "\n"
    write_whole(sweep.path / "cross_validation.json", text)
    return result


def _best(run: Run) -> FoldResult:
    records = [record for record in run.metrics if _ACCURACY in record]
    if not records and run.status is not None and run.status.status == "diverged":
        raise RunError(f"{run.folder} diverged before it was validated: {run.status.error}")
    if not records or run.status is None or not run.status.ended:
        raise RunError(f"{run.folder} was not trained to its end: give the command again")
    # Of records that are equally good, `max` takes the first.
    best = max(records, key=lambda record: record[_ACCURACY])
    fold = run.config.task.make().fold
    return FoldResult(fold, int(best["step"]), best[_ACCURACY], best[_TEST])
