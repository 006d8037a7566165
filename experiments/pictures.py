"""Pictures of what a task over images or grids draws."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.plotting import save, styled
from experiments.problems import problem_of

_COLUMNS = 4


def draw_examples(
    task: Any, path: str | Path, *, size: int | None = None, count: int = 8, seed: int = 0
) -> list[Path]:
    """Draws examples of a task with their labels, as PNG and SVG.

    Args:
        task: over images, or over grids: their symbols are shown by colour, and the label of every
            scored cell is written into it.
        path: of the figure, without its ending.
        size: rows and columns; None: the smallest size that is evaluated.
        count: how many examples.
        seed: of the examples.

    Returns:
        The two files.

    Raises:
        ValueError: the task has no pictures, or `size` is too small for it.
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
