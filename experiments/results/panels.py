"""What the figures of a sweep share: a panel, how settings look, ticks and the legend."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.plotting import COLOURS, LINES, MARKERS
from experiments.results.settings import Setting, text

_WIDTH, _HEIGHT, _LEGEND_ROW = 4.6, 3.4, 0.18
# Entries up to this many letters stand in two columns.
_SHORT = 30


def panel() -> tuple[Figure, Axes]:
    """A figure with one panel."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    return figure, figure.subplots()


def looks(chosen: Sequence[Setting]) -> list[dict[str, Any]]:
    """How each setting is drawn: its first field makes colour and marker, the others the line."""
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
    """Of y at each x: `low` (the lower quartile), `middle` (the median) and `high`."""
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
    """Lower quartile, median and upper quartile, linear between values."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


def draw_band(axis: Axes, rows: polars.DataFrame, label: str, look: dict[str, Any]) -> None:
    """A line through the medians of `levels`, and a band between the quartiles."""
    axis.plot(rows["x"], rows["middle"], label=label, **look)
    axis.fill_between(rows["x"], rows["low"], rows["high"], color=look["color"], alpha=0.15, lw=0)


def ticks_at(axis: Axes, values: Sequence[float]) -> None:
    """A tick at each value of x and nowhere else."""
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
