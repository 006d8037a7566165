"""The gates of a model over images or grids, drawn over what it reads."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.plotting import styled
from experiments.probing.carrying import declining
from experiments.run import Run
from plstm_seq.probing import GridLayerRecord, GridRecording, record_grid

_EXAMPLES = 8
_CELL_AXES = 5
"""The axes of a gate before its own: batch, heads, orientations and the two of the grid."""


def record_run(run: Run) -> GridRecording:
    """Record the gates of a run's model over some examples, of the largest size in training.

    Args:
        run: of a `VisionModel`.

    Raises:
        RunError: the model has no pLSTM layer.
    """
    size = run.config.training.curriculum.longest
    key = jax.random.key(run.config.evaluation.seed + 2)
    inputs = run.problem.draw(key, _EXAMPLES, size).inputs
    with declining():
        return record_grid(run.model, inputs)


def by_cell(layer: GridLayerRecord) -> dict[str, np.ndarray]:
    """Return a number a cell for every gate.

    A gate that is one number is that number. Of a larger one it is the Frobenius norm, and of a
    transition the mean of its eigenvalues, trace / JT.

    Args:
        layer: of `record_grid`.

    Returns:
        [B, H, O, X, Y] of every gate; O is 1 for the direct one.
    """
    found = {}
    for name, gate in layer.gates.items():
        whole = gate[:, :, None] if name == "direct" else gate
        axes = tuple(range(_CELL_AXES, whole.ndim))
        if all(whole.shape[axis] == 1 for axis in axes):
            found[name] = whole.reshape(whole.shape[:_CELL_AXES])
        elif name.startswith("transition"):
            found[name] = np.trace(whole, axis1=-2, axis2=-1) / whole.shape[-1]
        else:
            found[name] = np.sqrt(np.square(whole).sum(axes))
    return found


def summary_of(layer: GridLayerRecord) -> dict[str, Any]:
    """Return the mean of every gate, and how far it spreads over the cells.

    The spread is the standard deviation over examples and cells, its mean over heads and
    orientations.

    Args:
        layer: of `record_grid`.
    """
    found = by_cell(layer)
    return {
        "block": layer.block,
        "mode": layer.mode,
        "mean": {name: float(gate.mean()) for name, gate in found.items()},
        "spread_over_cells": {
            name: float(gate.std(axis=(0, 3, 4)).mean()) for name, gate in found.items()
        },
    }


def gates_over_grid(layer: GridLayerRecord, inputs: np.ndarray, example: int = 0) -> Figure:
    """Draw the gates of a layer over one image or grid: a row a gate, a column a head.

    The input is at the upper left. A panel shows all of it once for every orientation, in two rows;
    with all four in order, each stands at the corner from which it reads. The direct gate has none.
    Gates that are arrays are drawn as the numbers of `by_cell`.

    Args:
        layer: of `record_grid`.
        inputs: of the same recording.
        example: which of them.
    """
    found = {name: gate[example] for name, gate in by_cell(layer).items()}
    picture, heads = inputs[example], len(next(iter(found.values())))
    with styled():
        size = (2.2 + 1.6 * heads, 0.7 + 1.4 * len(found))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(found), heads + 1, squeeze=False)
        for axis in axes.ravel():
            axis.grid(visible=False)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for row, (name, gate) in zip(axes, found.items(), strict=True):
            row[0].set_axis_off()
            row[1].set_ylabel(name.replace("_", "\n"))
            _row(figure, list(row[1:]), gate, picture)
        axes[0, 0].set_title("input")
        axes[0, 0].imshow(picture, cmap="GnBu")
        if len(layer.orientations) > 1:
            text = "a panel has\na part for each\norientation"
            axes[1, 0].text(0.5, 0.9, text, ha="center", va="top", fontsize="small")
        for head, axis in enumerate(axes[0, 1:]):
            axis.set_title(f"head {head}")
        figure.suptitle(f"block {layer.block}, mode {layer.mode}")
        return figure


def _row(figure: Figure, axes: list[Axes], gate: np.ndarray, picture: np.ndarray) -> None:
    """Draw one gate, [H, O, X, Y], in colours that all heads share."""
    low, high = float(gate.min()), float(gate.max())
    look: dict[str, Any] = {"cmap": "viridis", "vmin": low, "vmax": max(high, low + 1e-6)}
    if low < 0 < high:
        limit = max(-low, high)
        look = {"cmap": "RdBu", "vmin": -limit, "vmax": limit}
    for axis, parts in zip(axes, gate, strict=True):
        tiled = _tile(list(parts))
        extent = (0, tiled.shape[1], tiled.shape[0], 0)
        axis.imshow(tiled, extent=extent, **look)
        if len(parts) > 1:
            axis.axhline(extent[2] / 2, color="white", linewidth=1.5)
        if len(parts) > 2:
            axis.axvline(extent[1] / 2, color="white", linewidth=1.5)
        if picture.ndim == 3:
            grey = _tile([picture.mean(-1)] * len(parts))
            axis.imshow(grey, cmap="gray", extent=extent, alpha=0.3)
    figure.colorbar(axes[0].images[0], ax=axes)


def _tile(parts: list[np.ndarray]) -> np.ndarray:
    """Parts of equal shape in two rows, the first column first; one part alone."""
    if len(parts) == 1:
        return parts[0]
    empty = np.full(parts[0].shape, np.nan)
    padded = [*parts, *[empty] * (len(parts) % 2)]
    return np.block([padded[0::2], padded[1::2]])
