"""Figures that compare the settings of one or more sweeps, where these differ."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars
from matplotlib.figure import Figure

from experiments.plotting import save
from experiments.results import figures
from experiments.results.export import summarize_costs
from experiments.results.figures import training_curves
from experiments.results.summary import default_length, grouping
from experiments.sweeps.folder import find_sweep
from experiments.sweeps.matching import TOLERANCE
from experiments.sweeps.rows import gather, measured_with, training_records

TASK = "task.name"


class Drawing(NamedTuple):
    """A figure to draw.

    Attributes:
        name: the last part of its file's name.
        caption: what the figure shows.
        draw: the function that draws the figure.
    """

    name: str
    caption: str
    draw: Callable[[], Figure]


class Comparison(NamedTuple):
    """The result of `compare`.

    Attributes:
        figures: the files, two for each figure.
        costs: the result of `summarize_costs`.
        measured: the number of sequences and the seed with which accuracies were measured.
    """

    figures: list[Path]
    costs: polars.DataFrame
    measured: str


def compare(
    sweeps: Sequence[str | Path],
    output: str | Path = "compare",
    *,
    by: Sequence[str] | None = None,
    length: int | None = None,
    num_sequences: int | None = None,
) -> Comparison:
    """Draws figures that compare the settings of one or more sweeps, as PNG and SVG.

    They show accuracy against length; horizon against JT and solve rate against the learning rate,
    if these vary; accuracy against parameters, state, operations and throughput, if these differ;
    and training against steps and time. Each task has its own figures.

    Args:
        sweeps: the folders of the sweeps, or their names in `sweeps/`.
        output: the beginning of the files' names: `output_accuracy.png`, ...
        by: the columns whose values make a setting, or ends of their names. None: all columns that
            vary, except for the seed.
        length: the length of figures that show one accuracy; None: the first evaluated length that
            is at least the longest one in training.
        num_sequences: use what was measured with that many sequences per length; see `gather`.

    Returns:
        The figures' files, and what the settings cost.

    Raises:
        RunError: a sweep is missing, or no member has been evaluated.
        ConfigError: the column or the length does not exist.
    """
    frame, records = gather_all(sweeps, num_sequences=num_sequences)
    output = Path(output)
    files = [
        file
        for drawing in drawings(frame, records, by, length)
        for file in save(drawing.draw(), output.with_name(f"{output.name}_{drawing.name}"))
    ]
    return Comparison(files, summarize_costs(frame, by), measured_with(frame))


def gather_all(
    sweeps: Sequence[str | Path], *, num_sequences: int | None = None
) -> tuple[polars.DataFrame, polars.DataFrame]:
    """Joins the rows and the training records of sweeps; several sweeps get a column `sweep`."""
    if len(sweeps) == 1:
        return gather(sweeps[0], num_sequences=num_sequences), training_records(sweeps[0])
    frames, records = [], []
    for sweep in sweeps:
        name = find_sweep(sweep).resolve().name
        within = polars.concat_str(polars.lit(f"{name}/"), polars.col("member")).alias("member")
        own = gather(sweep, num_sequences=num_sequences)
        frames.append(own.with_columns(within, polars.lit(name).alias("sweep")))
        records.append(training_records(sweep).with_columns(within))
    return polars.concat(frames, how="diagonal_relaxed"), polars.concat(records)


def drawings(
    frame: polars.DataFrame,
    records: polars.DataFrame,
    by: Sequence[str] | None = None,
    length: int | None = None,
) -> Iterator[Drawing]:
    """Yields the figures that apply, for each task; the arguments and errors are `compare`'s."""
    tasks = frame[TASK].unique(maintain_order=True).to_list()
    if len(tasks) == 1:
        yield from _of_one_task(frame, records, by, length)
        return
    for task in tasks:
        own = frame.filter(polars.col(TASK) == task)
        if own["metric"].is_null().all():
            continue
        chosen = None if by is None else [name for name in grouping(frame, by) if name != TASK]
        for drawing in _of_one_task(own, records, chosen, length):
            caption = f"{task.replace('_', ' ')}: {drawing.caption}"
            yield Drawing(f"{task}_{drawing.name}", caption, drawing.draw)


def _of_one_task(
    frame: polars.DataFrame,
    records: polars.DataFrame,
    by: Sequence[str] | None,
    length: int | None,
) -> Iterator[Drawing]:
    length = default_length(frame) if length is None else length
    bands = "Lines are medians over seeds, bands lie between their quartiles."
    for name, metric in (("accuracy", "sequence"), ("token_accuracy", "token")):
        yield Drawing(
            name,
            f"{figures.METRIC_TITLES[metric].capitalize()} against length "
            f"({measured_with(frame)}). {bands} Dotted: the "
            "longest length in training" + ("; dashed: chance." if metric == "token" else "."),
            partial(figures.accuracy, frame, by, metric),
        )
    if _several(frame, figures.JT):
        yield Drawing(
            "horizon",
            "Horizon against JT: the largest length such that it and all shorter ones have 0.9 of "
            "sequences right. Lines are medians over seeds, dots are seeds; open triangles passed "
            "the longest evaluated length.",
            partial(figures.horizon, frame, by),
        )
    if _several(frame, figures.LEARNING_RATE):
        yield Drawing(
            "solve_rate",
            f"Share of members with 0.9 of sequences right at length {length:,}, with Wilson's 95% "
            "intervals.",
            partial(figures.solve_rate, frame, by, length=length),
        )
    for cost, title in figures.COSTS.items():
        if _differs(frame.drop_nulls("metric"), f"cost.{cost}"):
            yield Drawing(
                f"cost_{cost}",
                f"Sequence accuracy at length {length:,} against {title}. Medians over seeds, bars "
                "between their quartiles.",
                partial(figures.against_cost, frame, by, cost=cost, length=length),
            )
    own = records.filter(polars.col("member").is_in(frame["member"].unique().to_list()))
    if not own.is_empty():
        yield Drawing(
            "steps",
            f"Sequence accuracy in training against steps; lengths grow on the way. {bands}",
            partial(training_curves, frame, own, by, against="step"),
        )
        yield Drawing(
            "time",
            "The same against time: what training took, compiling apart, a group's time shared "
            "equally between its members.",
            partial(training_curves, frame, own, by, against="seconds"),
        )


def _several(frame: polars.DataFrame, column: str) -> bool:
    return column in frame.columns and frame[column].drop_nulls().n_unique() > 1


def _differs(frame: polars.DataFrame, column: str) -> bool:
    """Whether a cost differs by more than `matched` allows."""
    known = frame[column].drop_nulls().to_list() if column in frame.columns else []
    return bool(known) and max(known) > (1 + TOLERANCE) * min(known)
