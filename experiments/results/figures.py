"""Figures of a sweep: one panel each, so that they can stand side by side.

Lines and points are medians over the members of a setting; bands and bars reach from the lower to
the upper quartile (linear between members), except where they are said to be something else.
"""

import statistics
from collections.abc import Sequence
from typing import Any

import polars
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from experiments.plotting import TITLES, plain_numbers, scale_lengths, styled
from experiments.results.panels import (
    draw_band,
    finish,
    levels,
    looks,
    panel,
    quartiles,
    ticks_at,
)
from experiments.results.settings import grouping, settings, titles
from experiments.results.summary import THRESHOLD, at, summarize
from experiments.run import RunError

JT = "model.mixer.transition.dim"
LEARNING_RATE = "training.optimizer.learning_rate"
COSTS = {
    "parameters": "parameters",
    "state_size": "numbers of state",
    "flops_per_token": "FLOPs a token",
    "tokens_per_second": "tokens a second, in training",
}
METRIC_TITLES = {**TITLES, "last": "accuracy at the last position"}


def accuracy(
    frame: polars.DataFrame, by: Sequence[str] | None = None, metric: str = "sequence"
) -> Figure:
    """Accuracy against length, a line a setting, with bands between its quartiles.

    Dotted: the longest length in training; dashed: the chance of a token.

    Args:
        frame: of `gather`.
        by: what makes a setting; None: all that varies but the seed.
        metric: `token`, `sequence` or `last`.

    Raises:
        ConfigError: a column or the metric is not in the table.
        RunError: no member has been evaluated.
    """
    rows = at(frame, metric)
    columns = grouping(frame, by)
    chosen = list(settings(rows, columns))
    with styled():
        figure, axis = panel()
        for setting, look in zip(chosen, looks(chosen), strict=True):
            draw_band(axis, levels(setting.rows, "length", "value"), setting.label, look)
        for trained in rows["trained_length"].unique():
            axis.axvline(trained, color="0.5", linestyle=":", linewidth=1)
        if metric != "sequence":
            for chance in rows["chance"].unique():
                axis.axhline(chance, color="0.5", linestyle="--", linewidth=0.8)
        axis.set(xlabel=_sizes(rows), ylabel=METRIC_TITLES[metric], ylim=(-0.03, 1.03))
        scale_lengths(axis)
        return finish(figure, axis)


def horizon(frame: polars.DataFrame, by: Sequence[str] | None = None, x: str = JT) -> Figure:
    """Horizon (0.9, whole sequences) against JT: medians, every seed as a dot.

    Open triangles: the longest evaluated length passed, the true horizon may lie beyond.

    Args:
        frame: of `gather`.
        by: what makes a line, `x` apart; None: all that varies but the seed.
        x: the column on the axis.

    Raises:
        ConfigError: a column is not in the table.
        RunError: no member has been evaluated, or `x` does not vary.
    """
    rows = at(frame, "sequence").unique(subset=["member"], maintain_order=True)
    columns = _lines(frame, by, x)
    chosen = list(settings(rows, columns))
    with styled():
        figure, axis = panel()
        for index, look in enumerate(looks(chosen)):
            setting, shift = chosen[index], 1.06 ** (index - (len(chosen) - 1) / 2)
            places = sorted(setting.rows[x].unique())
            groups = [setting.rows.filter(polars.col(x) == place) for place in places]
            at_x = [place * shift for place in places]
            middle = [statistics.median_low(group["horizon_90"]) for group in groups]
            larger: dict[str, Any] = {**look, "markersize": 6}
            axis.plot(at_x, middle, label=setting.label, **larger)
            for place, group in zip(at_x, groups, strict=True):
                _seeds(axis, place, group, look["color"])
        axis.set(xlabel=titles([x])[x], ylabel="horizon (0.9 of sequences right)")
        axis.set_xscale("log", base=2)
        ticks_at(axis, sorted(rows[x].unique()))
        axis.set_yscale("symlog", base=2, linthresh=4, linscale=0.5)
        highest = rows["horizon_90"].max()
        axis.set_ylim(-1, 2 * max(4, highest if isinstance(highest, int) else 4))
        powers = [2**n for n in range(2, 24) if 2**n <= axis.get_ylim()[1]]
        axis.set_yticks([0, *powers[:: 1 + len(powers) // 9]])
        plain_numbers(axis.yaxis)
        return finish(figure, axis)


def _seeds(axis: Axes, place: float, group: polars.DataFrame, colour: str) -> None:
    """Every member as a small dot, or an open triangle where the horizon may lie beyond."""
    for reached, is_open in group.select("horizon_90", "horizon_90_open").iter_rows():
        axis.plot(
            [place],
            [reached],
            marker="^" if is_open else ".",
            markersize=9 if is_open else 5,
            markerfacecolor="none",
            color=colour,
            alpha=0.6,
            linestyle="none",
        )


def solve_rate(
    frame: polars.DataFrame,
    by: Sequence[str] | None = None,
    *,
    x: str = LEARNING_RATE,
    length: int,
    threshold: float = THRESHOLD,
) -> Figure:
    """Share of members whose sequence accuracy at a length reaches a threshold, with Wilson's bars.

    Args:
        frame: of `gather`.
        by: what makes a line, `x` apart; None: all that varies but the seed.
        x: the column on the axis.
        length: an evaluated length.
        threshold: smallest accuracy that counts as solved.

    Raises:
        ConfigError: a column or the length is not in the table.
        RunError: no member has been evaluated, or `x` does not vary.
    """
    columns = _lines(frame, by, x)
    summary = summarize(frame, [*columns, x], length=length, threshold=threshold)
    summary = summary.filter(polars.col("trials") > 0)
    chosen = list(settings(summary, columns))
    with styled():
        figure, axis = panel()
        for index, look in enumerate(looks(chosen)):
            rows, shift = chosen[index].rows.sort(x), 1.03 ** (index - (len(chosen) - 1) / 2)
            rate = rows["success_rate"]
            bars = [rate - rows["success_low"], rows["success_high"] - rate]
            _bars(axis, rows[x] * shift, rate, bars, chosen[index].label, look)
        axis.set(xlabel=titles([x])[x], ylim=(-0.03, 1.03))
        axis.set_ylabel(
            f"members with {threshold:g} of sequences\nright at {_size(frame)} {length:,}"
        )
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        axis.set_xscale("log")
        ticks_at(axis, sorted(summary[x].unique()))
        return finish(figure, axis)


def against_cost(
    frame: polars.DataFrame,
    by: Sequence[str] | None = None,
    *,
    cost: str = "parameters",
    metric: str = "sequence",
    length: int,
) -> Figure:
    """Accuracy at a length against what a setting costs: medians, bars between quartiles.

    Args:
        frame: of `gather`.
        by: what makes a setting; None: all that varies but the seed.
        cost: one of `COSTS`.
        metric: `token`, `sequence` or `last`.
        length: an evaluated length.

    Raises:
        ConfigError: a column, the metric or the length is not in the table.
        RunError: no member has been evaluated, or none knows its cost.
    """
    column = f"cost.{cost}"
    if column not in frame.columns:
        raise RunError(f"no member has a cost.json with {cost}: plstm-seq resume SWEEP")
    rows = at(frame, metric, length).drop_nulls(column)
    columns = grouping(frame, by)
    chosen = list(settings(rows, columns))
    with styled():
        figure, axis = panel()
        for index, look in enumerate(looks(chosen)):
            # Settings of one cost stand side by side.
            setting, shift = chosen[index], 1.015 ** (index - (len(chosen) - 1) / 2)
            place = statistics.median(setting.rows[column]) * shift
            low, middle, high = quartiles(setting.rows["value"].to_list())
            bars = [[middle - low], [high - middle]]
            _bars(axis, [place], [middle], bars, setting.label, look | {"linestyle": "none"})
        axis.set(xlabel=COSTS[cost], ylim=(-0.03, 1.03))
        axis.set_ylabel(f"{METRIC_TITLES[metric]} at {_size(frame)} {length:,}")
        axis.set_xscale("log")
        costs = sorted(rows[column].unique())
        axis.set_xlim(costs[0] / 1.25, costs[-1] * 1.25)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        plain_numbers(axis.xaxis)
        return finish(figure, axis)


def _bars(axis: Axes, x: Any, y: Any, bars: Any, label: str, look: dict[str, Any]) -> None:
    axis.errorbar(x, y, yerr=bars, capsize=2, label=label, **look)


def _lines(frame: polars.DataFrame, by: Sequence[str] | None, x: str) -> list[str]:
    """What makes a line where `x` is on the axis."""
    if frame[x].drop_nulls().n_unique() < 2:
        raise RunError(f"{titles([x])[x]} does not vary in this sweep")
    return [name for name in grouping(frame, by) if name != x]


def _sizes(rows: polars.DataFrame) -> str:
    """`length (512 sequences each)`: what lengths are, and how many were measured at each."""
    counts = " or ".join(map(str, rows["num_sequences"].drop_nulls().unique().sort()))
    size = _size(rows)
    return f"{size} ({counts} {'sequences' if size == 'length' else 'examples'} each)"


def _size(frame: polars.DataFrame) -> str:
    """What the lengths of a table are."""
    kinds = frame["model.kind"].unique().to_list() if "model.kind" in frame.columns else []
    if set(kinds) <= {"sequence", None}:
        return "length"
    return "depth or size" if set(kinds) == {"graph"} else "size"
