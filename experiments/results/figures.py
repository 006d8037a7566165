"""Figures of a sweep: each has one panel, so that several can stand side by side.

Lines and points are medians over the members of a setting. Bands and bars go from the lower to the
upper quartile (linear between members), unless a figure says otherwise.
"""

import statistics
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from experiments.files import RunError
from experiments.plotting import (
    COLOURS,
    LINES,
    MARKERS,
    TITLES,
    plain_numbers,
    scale_lengths,
    size_label,
    styled,
)
from experiments.results.summary import (
    THRESHOLD,
    Setting,
    at,
    grouping,
    settings,
    summarize,
    text,
    titles,
)

_WIDTH, _HEIGHT, _LEGEND_ROW = 4.6, 3.4, 0.18
# Legend entries up to this many letters stand in two columns.
_SHORT = 30


def panel() -> tuple[Figure, Axes]:
    """Makes a figure with one panel."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    return figure, figure.subplots()


def looks(chosen: Sequence[Setting]) -> list[dict[str, Any]]:
    """Chooses how to draw settings: the first field sets colour and marker, the others the line."""
    pairs = [(next(iter(v), None), v[1:]) for v in (tuple(s.values.values()) for s in chosen)]
    first = list(dict.fromkeys(value for value, _ in pairs))
    rest = list(dict.fromkeys(values for _, values in pairs))
    return [
        _look(first.index(value), rest.index(values) + first.index(value) // len(COLOURS))
        for value, values in pairs
    ]


def _look(colour: int, line: int) -> dict[str, Any]:
    shade = COLOURS[colour % len(COLOURS)]
    return {
        "color": shade,
        "marker": MARKERS[colour % len(MARKERS)],
        "linestyle": LINES[line % len(LINES)],
        "markerfacecolor": "white" if line % 2 else shade,
        "markersize": 4,
    }


def levels(rows: polars.DataFrame, x: str, y: str) -> polars.DataFrame:
    """Computes the quartiles of y at each x as columns `low`, `middle` (the median) and `high`."""
    value = polars.col(y)
    return (
        rows.group_by(polars.col(x).alias("x"))
        .agg(
            low=value.quantile(0.25, "linear"),
            middle=value.median(),
            high=value.quantile(0.75, "linear"),
        )
        .sort("x")
    )


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Computes lower quartile, median and upper quartile, linear between values."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


def draw_band(axis: Axes, rows: polars.DataFrame, label: str, look: dict[str, Any]) -> None:
    """Draws a line through the medians of `levels`, and a band between the quartiles."""
    axis.plot(rows["x"], rows["middle"], label=label, **look)
    axis.fill_between(rows["x"], rows["low"], rows["high"], color=look["color"], alpha=0.15, lw=0)


def ticks_at(axis: Axes, values: Sequence[float]) -> None:
    """Sets a tick at each value of x and nowhere else."""
    axis.set_xticks(values, [text(value) for value in values])
    axis.xaxis.set_minor_locator(NullLocator())


def finish(figure: Figure, axis: Axes) -> Figure:
    """Puts the legend below the panel, which keeps its size."""
    handles, labels = axis.get_legend_handles_labels()
    if len(labels) < 2:
        return figure
    columns = 2 if max(map(len, labels)) <= _SHORT else 1
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        fontsize="small",
        handlelength=3,
    )
    figure.set_size_inches(_WIDTH, _HEIGHT + _LEGEND_ROW * -(-len(labels) // columns))
    return figure


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
    """Draws accuracy against length: a line per setting, with bands between the quartiles.

    The dotted line is the longest length in training, the dashed line the chance of a token.

    Args:
        frame: the table that `gather` returns.
        by: the columns whose values make a setting; None: all that vary, except for the seed.
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
        axis.set(
            xlabel=size_label(_size(rows), rows["num_sequences"].drop_nulls()),
            ylabel=METRIC_TITLES[metric],
            ylim=(-0.03, 1.03),
        )
        scale_lengths(axis)
        return finish(figure, axis)


def horizon(frame: polars.DataFrame, by: Sequence[str] | None = None, x: str = JT) -> Figure:
    """Draws the horizon (0.9, whole sequences) against JT: medians, and every seed as a dot.

    An open triangle has passed the longest evaluated length: its true horizon may lie beyond.

    Args:
        frame: the table that `gather` returns.
        by: the columns, other than `x`, whose values make a line; None: all that vary but the seed.
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
    """Draws every member as a small dot, or an open triangle if its horizon may lie beyond."""
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
    """Draws the share of members whose sequence accuracy reaches a threshold, with Wilson's bars.

    Args:
        frame: the table that `gather` returns.
        by: the columns, other than `x`, whose values make a line; None: all that vary but the seed.
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
    """Draws accuracy at a length against a cost of settings: medians, bars between quartiles.

    Args:
        frame: the table that `gather` returns.
        by: the columns whose values make a setting; None: all that vary, except for the seed.
        cost: one of `COSTS`.
        metric: `token`, `sequence` or `last`.
        length: an evaluated length.

    Raises:
        ConfigError: a column, the metric or the length is not in the table.
        RunError: no member has been evaluated, or none has the cost.
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
            # Settings of the same cost stand side by side.
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
    """Returns the columns whose values make a line when `x` is on the axis."""
    if frame[x].drop_nulls().n_unique() < 2:
        raise RunError(f"{titles([x])[x]} does not vary in this sweep")
    return [name for name in grouping(frame, by) if name != x]


def _size(frame: polars.DataFrame) -> str:
    """Returns what the lengths of a table measure: length, size, or depth or size."""
    kinds = frame["model.kind"].unique().to_list() if "model.kind" in frame.columns else []
    if set(kinds) <= {"sequence", None}:
        return "length"
    return "depth or size" if set(kinds) == {"graph"} else "size"


Against = Literal["step", "seconds"]
_AXES: dict[Against, str] = {
    "step": "optimizer step",
    "seconds": "seconds of training (a member's share of its group's)",
}
# Members of a group have their own clock, so that their curves are drawn at common places.
_PLACES = 120


def training_curves(
    frame: polars.DataFrame,
    records: polars.DataFrame,
    by: Sequence[str] | None = None,
    *,
    against: Against = "step",
    metric: str = "sequence_accuracy",
) -> Figure:
    """Draws accuracy in training: a line per setting, with bands between the quartiles.

    Lengths grow along the curriculum, so a curve may fall when longer ones begin. A member that
    has ended keeps its last value.

    Args:
        frame: the table that `gather` returns.
        records: the table that `training_records` returns.
        by: the columns whose values make a setting; None: all that vary, except for the seed.
        against: `step` or `seconds`.
        metric: `sequence_accuracy`, `token_accuracy` or `loss`.

    Raises:
        ConfigError: a column is not in the table.
        RunError: there are no records.
    """
    if records.is_empty():
        raise RunError("no member has begun to train: plstm-seq resume SWEEP")
    about = frame.unique(subset=["member"], maintain_order=True)
    about = about.filter(polars.col("member").is_in(records["member"].unique().to_list()))
    chosen = list(settings(about, grouping(frame, by)))
    with styled():
        figure, axis = panel()
        for setting, look in zip(chosen, looks(chosen), strict=True):
            own = records.join(setting.rows.select("member"), on="member", maintain_order="left")
            rows = levels(at_common_places(own, against, metric), against, metric)
            every = 1 + len(rows) // 12
            draw_band(axis, rows, setting.label, look | {"markevery": every})
        axis.set(xlabel=_AXES[against], ylabel=f"{metric.replace('_', ' ')} in training")
        axis.set_xlim(left=0)
        if metric != "loss":
            axis.set_ylim(-0.03, 1.03)
        return finish(figure, axis)


def at_common_places(records: polars.DataFrame, against: Against, metric: str) -> polars.DataFrame:
    """Returns each member's last value up to common places: all steps, or evenly spaced times.

    Members have no value before their first record, and keep their last one.
    """
    places = records[against].unique().sort().to_numpy()
    if len(places) > _PLACES:
        places = np.linspace(places[0], places[-1], _PLACES).astype(places.dtype)
    parts = []
    for (member,), rows in records.group_by("member", maintain_order=True):
        rows = rows.sort(against)
        index = np.searchsorted(rows[against].to_numpy(), places, side="right") - 1
        known = index >= 0
        values = rows[metric].to_numpy()[index[known]]
        parts.append(polars.DataFrame({"member": member, against: places[known], metric: values}))
    return polars.concat(parts)
