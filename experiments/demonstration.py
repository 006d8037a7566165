"""The command `quickstart`, which trains three small models and measures them on long sequences."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from experiments.config import ExperimentConfig, default_config
from experiments.console import plain_table
from experiments.evaluating import evaluate
from experiments.files import free_folder
from experiments.overrides import override
from experiments.plotting import plot
from experiments.run import ROOT, Run
from experiments.running import train
from plstm_seq.evaluation import LengthGeneralization
from plstm_seq.evaluation.length import Metric

# The columns of the table: heading, metric and length.
_COLUMNS: tuple[tuple[str, Metric, int], ...] = (
    ("token", "token", 256),
    ("seq.", "sequence", 256),
    ("seq.", "sequence", 4096),
)

LENGTHS = (16, 40, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class Variant:
    """One of the compared runs: a task, and how its config differs from the default.

    The fields in `SHARED`, which all variants have, are not repeated.
    """

    name: str
    title: str
    task: str
    assignments: tuple[str, ...]

    def config(self, seed: int) -> ExperimentConfig:
        """Returns the config of this variant's run."""
        config = override(default_config(self.task), [*SHARED, *self.assignments])
        return dataclasses.replace(config, seed=seed)


# Most of the time is compiling here, as lengths go up to 40 and states have a few dozen numbers.
# A scan compiles in half the time of chunks. One of the three models never learns, and should not
# take long.
SHARED = (
    "implementation=recurrent",
    "stages=[[4, 200], [8, 100], [16, 100], [40, 200]]",
    "training.steps=600",
    "checkpoint_every=1000",
)

VARIANTS = (
    Variant(
        "parity_positive",
        "parity, JT=1 in [0, 1]",
        "parity",
        ("transition=diagonal", "transition.dim=1", "transition.entries=positive"),
    ),
    Variant(
        "parity_signed",
        "parity, JT=1, -1 or 1",
        "parity",
        ("transition=orthogonal", "transition.dim=1", "transition.determinant=straight_through"),
    ),
    Variant("s3", "S3, JT=3", "s3_word_problem", ("transition.dim=3",)),
)


@dataclass(frozen=True)
class Result:
    """A variant's run and its accuracy against length."""

    variant: Variant
    run: Run
    evaluation: LengthGeneralization

    def beyond(self, length: int) -> float:
        """Returns the token accuracy at positions `length + 1` to the longest evaluated length."""
        return self.evaluation.token_accuracy(length, LENGTHS[-1]).value


def quickstart(
    folder: str | Path | None = None,
    *,
    seeds: Sequence[int] = (0,),
    progress: bool = True,
    announce: Callable[[str], None] = lambda _: None,
) -> tuple[list[Result], list[Path]]:
    """Trains three small models on lengths up to 40, and measures them on lengths up to 4096.

    Args:
        folder: the folder of the runs and the figure; None: `runs/quickstart-<n>` with the first n
            that is free.
        seeds: each of the three models is trained once with every seed.
        progress: whether progress is written to standard error.
        announce: called with the name of each training when it begins.

    Returns:
        A result for each model and seed, and the files of the figure, which shows the first seed.

    Raises:
        RunError: the folder holds runs already.

    Example:
        >>> from experiments import quickstart
        >>> results, figures = quickstart("runs/first")  # doctest: +SKIP
        >>> [figure.name for figure in figures]  # doctest: +SKIP
        ['accuracy_against_length.png', 'accuracy_against_length.svg']
    """
    folder = free_folder(ROOT, "quickstart") if folder is None else Path(folder)
    results = []
    for seed in seeds:
        for variant in VARIANTS:
            announce(f"{variant.title}, seed {seed}")
            run = train(variant.config(seed), folder / f"{variant.name}-{seed}", progress=progress)
            results.append(Result(variant, run, evaluate(run, LENGTHS)))
    first = results[: len(VARIANTS)]
    titles = [result.variant.title for result in first]
    runs = [result.run for result in first]
    return results, plot(runs, folder / "accuracy_against_length", labels=titles)


def result_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Returns what quickstart measured, with one row per run."""
    rows = []
    for result in results:
        accuracy = {
            f"{name} {length}": result.evaluation.row(metric, length).value
            for name, metric, length in _COLUMNS
        }
        rows.append(
            {
                "trained to 40": result.variant.title,
                "seed": result.run.config.seed,
                **accuracy,
                ">256": result.beyond(256),
                "horizon": str(result.evaluation.horizon("sequence", 0.9)),
                "run": str(result.run.folder),
            }
        )
    return rows


def result_table(rows: Sequence[dict[str, Any]]) -> Group:
    """Returns the rows of `result_rows` as a table, with an explanation below."""
    several = len({row["seed"] for row in rows}) > 1
    names = [name for name in rows[0] if name != "run" and (several or name != "seed")]
    table = plain_table(*names)
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        cells = (row[name] for name in names)
        table.add_row(*(f"{x:.3f}" if isinstance(x, float) else str(x) for x in cells))
    explanation = (
        "Accuracy of the tokens of 256 symbols, of whole sequences of 256 and 4096, and of the "
        "tokens beyond position 256, up to 4096; horizon: the largest length at which 0.9 of the "
        "sequences are right."
    )
    return Group(table, Text(f"\n{explanation}"))
