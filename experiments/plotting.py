"""The style of all figures, figures of accuracy against length, and pictures of examples."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np
import polars
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from experiments.problems import problem_of
from experiments.run import Run, RunError, as_run

# Okabe and Ito's colours, which colour-blind readers can tell apart, and markers that can be told
# apart in a black print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "plstm-seq",
}
LINES = ("-", "--", "-.", ":")
TITLES = {"token": "token accuracy", "sequence": "sequence accuracy"}


def styled() -> AbstractContextManager[None]:
    """Applies the style of all figures in a block, which is needed to draw and to save them."""
    return matplotlib.rc_context(STYLE)


def label(run: Run) -> str:
    """Returns the name of a run in a legend: its task, transition and JT, or its task and mixer."""
    task, mixer = run.config.task.name.replace("_", " "), run.config.model.mixer
    transition = getattr(mixer, "transition", None)
    if transition is None:
        return f"{task}: {mixer.kind.replace('_', ' ')}"
    kind = transition.kind.replace("_", " ")
    entries = getattr(transition, "entries", None)
    detail = f"{kind} ({entries})" if entries else kind
    return f"{task}: {detail}, JT = {transition.dim}"


def plot(
    runs: Run | str | Path | Sequence[Run | str | Path],
    path: str | Path,
    *,
    labels: Sequence[str] | None = None,
    num_sequences: int | None = None,
) -> list[Path]:
    """Draws token and sequence accuracy against length, with intervals, as PNG and SVG.

    A dotted line shows the longest training length of each run, a dashed line the accuracy of
    guessing.

    Args:
        runs: one or more evaluated runs, or their folders or names.
        path: the figure's file, with or without an ending.
        labels: the legend entry of each run; None: its task and transition.
        num_sequences: draw the rows that were measured with this many sequences at each length;
            None: the rows of `Run.evaluation`.

    Returns:
        The two files.

    Raises:
        RunError: there are no runs, one has not been evaluated, or some have lengths and others
            sizes.
        ValueError: there are not as many labels as runs.

    Example:
        >>> from experiments import evaluate, plot
        >>> _ = evaluate("parity-1", [8, 64], num_sequences=32)  # a run, see `experiments.train`
        >>> [file.name for file in plot("parity-1", "figures/parity")]
        ['parity.png', 'parity.svg']
    """
    runs = [as_run(run) for run in ([runs] if isinstance(runs, Run | str | Path) else runs)]
    if not runs:
        raise RunError("no runs to plot")
    if len({run.problem.axis for run in runs}) > 1:
        raise RunError("runs on sequences, grids and graphs do not go into one figure")
    frames = [run.chosen_evaluation(num_sequences) for run in runs]
    with styled():
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        axes = figure.subplots(1, 2, sharex=True, sharey=True)
        names = [label(run) for run in runs] if labels is None else labels
        for index, (run, frame, name) in enumerate(zip(runs, frames, names, strict=True)):
            colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            for axis, metric in zip(axes, TITLES, strict=True):
                _curve(axis, frame, metric, colour, marker, name)
            longest = run.config.training.curriculum.longest
            for axis in axes:
                axis.axvline(longest, color="0.5", linestyle=":", linewidth=1)
            axes[0].axhline(run.task.chance, color=colour, linestyle="--", linewidth=0.8, alpha=0.5)
        counts = (n for frame in frames for n in frame.filter(metric="sequence")["num_sequences"])
        sizes = size_label(runs[0].problem.axis, counts)
        for axis, title in zip(axes, TITLES.values(), strict=True):
            axis.set(xlabel=sizes, title=title)
            axis.set_ylim(-0.03, 1.03)
            scale_lengths(axis)
        axes[0].set_ylabel("accuracy")
        figure.legend(
            *axes[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=1 + (len(runs) > 3),
        )
        return save(figure, path)


def scale_lengths(axis: Axes) -> None:
    """Gives the x axis a scale of lengths, with as many powers of 2 as there is room for."""
    axis.set_xscale("log", base=2)
    digits = len(f"{axis.get_xlim()[1]:.0f}")
    if digits > 5:
        axis.xaxis.set_major_locator(LogLocator(base=2, numticks=5 if digits < 7 else 4))
    plain_numbers(axis.xaxis)


def plain_numbers(axis: Any) -> None:
    """Labels the ticks of an `axis.xaxis` or `axis.yaxis` with whole numbers, without powers."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_locator(NullLocator())


def size_label(axis: str, counts: Iterable[int]) -> str:
    """Returns the label of an axis, such as `length (512 sequences each)`."""
    each = " or ".join(map(str, sorted(set(counts))))
    return f"{axis} ({each} {'sequences' if axis == 'length' else 'examples'} each)"


def _curve(axis, frame: polars.DataFrame, metric: str, colour: str, marker: str, name: str) -> None:
    rows = frame.filter(polars.col("metric") == metric).sort("length")
    axis.plot(rows["length"], rows["value"], color=colour, marker=marker, markersize=4, label=name)
    axis.fill_between(rows["length"], rows["low"], rows["high"], color=colour, alpha=0.2, lw=0)


def save(figure: Figure, path: str | Path) -> list[Path]:
    """Writes a figure as PNG and SVG; the same figure gives the same bytes every time.

    Args:
        figure: the figure.
        path: the figure's file, with or without an ending; its folder is made if needed.

    Returns:
        The two files.
    """
    path = Path(path)
    if path.suffix in (".png", ".svg"):
        path = path.with_suffix("")
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_name(f"{path.name}.{ending}") for ending in ("png", "svg")]
    with styled():
        figure.savefig(files[0], dpi=200)
        figure.savefig(files[1], metadata={"Date": None})
    return files


_COLUMNS = 4


def draw_examples(
    task: Any, path: str | Path, *, size: int | None = None, count: int = 8, seed: int = 0
) -> list[Path]:
    """Draws examples of a task over images or grids with their labels, as PNG and SVG.

    The symbols of a grid are shown as colours, and the label of every scored cell is written into
    the cell.

    Args:
        task: a task over images or grids.
        path: the figure's file, with or without an ending.
        size: number of rows and of columns; None: the smallest size that is evaluated.
        count: number of examples.
        seed: seed of the examples.

    Returns:
        The two files.

    Raises:
        ValueError: the task is over sequences or graphs, or `size` is too small for it.

    Example:
        >>> import tasks
        >>> from experiments import draw_examples
        >>> files = draw_examples(tasks.get_grid("grid_parity"), "figures/parity", size=4, count=2)
        >>> [file.name for file in files]
        ['parity.png', 'parity.svg']
    """
    problem = problem_of(task)
    if problem.axis != "size" or not hasattr(task, "sample"):
        raise ValueError(f"{task.name} has no pictures: images and grids have")
    size = problem.recommended_sizes()[0] if size is None else size
    batch = problem.draw(jax.random.key(seed), count, size)
    rows = -(-count // _COLUMNS)
    with styled():
        figure = Figure(figsize=(7.2, 2.0 * rows), layout="constrained")
        axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        arrays = map(np.asarray, (batch.inputs, batch.targets, batch.mask))
        for axis, *example in zip(axes, *arrays, strict=False):
            _draw(axis, task, *example)
        return save(figure, Path(path))


def _draw(axis: Any, task: Any, inputs: Any, targets: Any, mask: Any) -> None:
    if targets.ndim == 0:
        axis.imshow(inputs)
        axis.set_title(task.labels[int(targets)])
        return
    axis.imshow(inputs, cmap="GnBu", vmin=0, vmax=1.5 * max(len(task.vocabulary) - 1, 1))
    for (row, column), target in np.ndenumerate(targets):
        if mask[row, column]:
            text = task.labels[int(target)]
            axis.text(column, row, text, ha="center", va="center", fontsize=7)
