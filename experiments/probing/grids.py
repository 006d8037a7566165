"""Figures of the gates of a model over images or grids, drawn over its input."""

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
"""The number of leading axes of a gate: batch, heads, orientations and the two of the grid."""


def record_run(run: Run) -> GridRecording:
    """Record the gates of a run's model over some examples of the largest size in training.

    Args:
        run: a run whose model is a `VisionModel`.

    Raises:
        RunError: the model has no pLSTM layer.
    """
    size = run.config.training.curriculum.longest
    key = jax.random.key(run.config.evaluation.seed + 2)
    inputs = run.problem.draw(key, _EXAMPLES, size).inputs
    with declining():
        return record_grid(run.model, inputs)


def by_cell(layer: GridLayerRecord) -> dict[str, np.ndarray]:
    """Return one number per cell for every gate.

    For a gate that is one number it is that number. For a larger gate it is the Frobenius norm, and
    for a transition the mean of its eigenvalues, trace / JT.

    Args:
        layer: a layer of the recording that `record_grid` returns.

    Returns:
        An array [B, H, O, X, Y] for every gate; O is 1 for the direct one.
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

    The spread is the standard deviation over examples and cells, averaged over heads and
    orientations.

    Args:
        layer: a layer of the recording that `record_grid` returns.
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
    """Draw the gates of a layer over one image or grid: a row per gate, a column per head.

    The input is at the upper left. Each panel shows the whole grid once for every orientation, in
    two rows; with all four orientations in order, each is at the corner from which it reads. The
    direct gate has no orientation. Gates that are arrays are drawn as the numbers of `by_cell`.

    Args:
        layer: a layer of the recording that `record_grid` returns.
        inputs: the inputs of the same recording.
        example: the number of the example to draw.
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
    """Join parts of equal shape in two rows, column by column; a single part stays alone."""
    if len(parts) == 1:
        return parts[0]
    empty = np.full(parts[0].shape, np.nan)
    padded = [*parts, *[empty] * (len(parts) % 2)]
    return np.block([padded[0::2], padded[1::2]])
