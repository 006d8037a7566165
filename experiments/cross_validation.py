"""Cross validation on a data set of graphs: a training for each fold, and their mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from rich.console import Group
from rich.text import Text

from experiments.config import ConfigError, ExperimentConfig
from experiments.console import plain_table
from experiments.files import write_json
from experiments.run import Run, RunError
from experiments.sweeps import Sweep, SweepFolder, create_sweep, run_sweep, vary
from plstm_seq.training.config import VALIDATION


class FoldResult(NamedTuple):
    """The result of training on one fold.

    Attributes:
        fold: the number of the fold.
        step: the first training step with the best validation accuracy, or with the smallest mean
            absolute error where attributes are predicted.
        validation: the numbers measured at that step on the validation part: `accuracy`, or `mae`
            and `rmse`.
        test: the same numbers on the test part.
    """

    fold: int
    step: int
    validation: Mapping[str, float]
    test: Mapping[str, float]


@dataclass(frozen=True)
class CrossValidation:
    """The result of a cross validation.

    Attributes:
        folder: the folder of the sweep over the folds. Its file `cross_validation.json` holds the
            same numbers.
        folds: the result of each fold, in order.

    Example:
        >>> from experiments import CrossValidation
        >>> folds = tuple(
        ...     FoldResult(fold, step=90, validation={"accuracy": 0.5}, test={"accuracy": accuracy})
        ...     for fold, accuracy in enumerate((0.25, 0.75))
        ... )
        >>> CrossValidation(Path("sweeps/proteins"), folds).mean
        {'accuracy': 0.5}
    """

    folder: Path
    folds: tuple[FoldResult, ...]

    @property
    def mean(self) -> dict[str, float]:
        """The mean over folds of each number that the tests measured, by its name."""
        return {name: mean(values) for name, values in self._tested.items()}

    @property
    def std(self) -> dict[str, float]:
        """The standard deviation over folds of each number that the tests measured."""
        return {
            name: stdev(values) if len(values) > 1 else 0.0 for name, values in self._tested.items()
        }

    @property
    def _tested(self) -> dict[str, list[float]]:
        return {name: [fold.test[name] for fold in self.folds] for name in self.folds[0].test}

    def document(self) -> dict[str, object]:
        """Returns the result as a dictionary that JSON can hold."""
        return {
            "mean": self.mean,
            "std": self.std,
            "folds": [fold._asdict() for fold in self.folds],
        }


def create_folds(config: ExperimentConfig, folder: str | Path | None = None) -> SweepFolder:
    """Makes the folder of a sweep over the folds, or opens it if it is there already.

    Raises:
        ConfigError: the task has no folds.
        RunError: the folder holds another sweep.
    """
    return create_sweep(folds(config), folder)


def folds(config: ExperimentConfig) -> Sweep:
    """Returns the sweep over the folds of a data set.

    Raises:
        ConfigError: the task has no folds.
    """
    if config.task.name != "tu":
        raise ConfigError(f"cross-validate: {config.task.name!r} has no folds; the task tu has")
    return Sweep(config, tuple(vary("task.fold", range(config.task.make().num_folds))))


def cross_validate(
    config: ExperimentConfig,
    folder: str | Path | None = None,
    *,
    executor: str = "local",
    max_parallel: int | None = None,
    progress: bool = True,
) -> CrossValidation:
    """Trains a model on every fold of a data set; called again, it goes on where it was stopped.

    The protocol is that of arXiv 2506.11997, table 3. Each fold gives the test accuracy at the
    epoch with the best validation accuracy; the result is the mean and standard deviation over the
    folds. Where attributes are predicted, errors take the place of accuracies, and each fold's
    epoch is the one with the smallest mean absolute error in validation.

    Args:
        config: a config of the task `tu`.
        folder: the folder of the sweep over the folds; None: a new one in `sweeps/`.
        executor: see `run_sweep`.
        max_parallel: see `run_sweep`.
        progress: whether progress is written to standard error.

    Returns:
        The result of each fold, which is also written to `cross_validation.json` in the folder.

    Raises:
        ConfigError: the task has no folds.
        RunError: the folder holds another sweep, or a fold was not trained.

    Example:
        >>> from experiments import cross_validate, default_config
        >>> config = default_config("tu", data="data/PROTEINS")  # doctest: +SKIP
        >>> cross_validate(config, "sweeps/proteins").mean  # doctest: +SKIP
        {'accuracy': 0.75}
    """
    sweep = create_folds(config, folder)
    run_sweep(sweep.path, executor=executor, max_parallel=max_parallel, progress=progress)
    results = [_best(sweep.run(member)) for member in sweep.plan.members]
    result = CrossValidation(sweep.path, tuple(sorted(results, key=lambda fold: fold.fold)))
    write_json(sweep.path / "cross_validation.json", result.document())
    return result


def _best(run: Run) -> FoldResult:
    task = run.config.task.make()
    names, chooses = task.metrics, VALIDATION + task.metrics[0]
    records = [record for record in run.metrics if chooses in record]
    if not records and run.status is not None and run.status.status == "diverged":
        raise RunError(f"{run.folder} diverged before it was validated: {run.status.error}")
    if not records or run.status is None or not run.status.ended:
        raise RunError(f"{run.folder} was not trained to its end: give the command again")
    # If several records are equally good, `max` and `min` take the first.
    best_of = max if task.target == "class" else min
    best = best_of(records, key=lambda record: record[chooses])
    validation, test = (
        {name: best[VALIDATION + part + name] for name in names} for part in ("", "test_")
    )
    return FoldResult(task.fold, int(best["step"]), validation, test)


def folds_table(result: CrossValidation) -> Group:
    """Returns a table of the folds of a cross validation, with their mean below."""
    names = list(result.mean)
    heads = [f"{part} {name}" for part in ("validation", "test") for name in names]
    table = plain_table("fold", "step", *heads)
    for fold in result.folds:
        numbers = [part[name] for part in (fold.validation, fold.test) for name in names]
        table.add_row(str(fold.fold), str(fold.step), *(f"{x:#.3g}" for x in numbers))
    means = (f"test {name} {result.mean[name]:#.3g} +- {result.std[name]:.2g}" for name in names)
    text = f"{', '.join(means)} over folds"
    return Group(table, Text(f"\n{text}; each at its best step in validation; {result.folder}"))
