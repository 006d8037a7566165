"""A figure for every probe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.plotting import COLOURS, LINES, MARKERS, scale_lengths, styled
from experiments.probing.carrying import Carried
from plstm_seq import probing

_MOST_STEPS = 32
_MOST_NAMES = 24


def norms(gates: np.ndarray) -> np.ndarray:
    """Returns the Frobenius norms [V, H] of gates [V, H, ...]."""
    return np.sqrt(np.square(gates).reshape(*gates.shape[:2], -1).sum(-1))


def gates(layer: probing.LayerRecord, symbols: Sequence[str]) -> Figure:
    """Draws the gates and states of a layer along the first sequence: a column per head.

    Args:
        layer: a layer of the recording that `record` returns.
        symbols: the symbols of that sequence.
    """
    steps = min(_MOST_STEPS, len(symbols))
    names = [name for name in (*probing.GATES, "states") if getattr(layer, name) is not None]
    heads = layer.transition.shape[2]
    with styled():
        size = (1.2 + 2.2 * heads, 0.8 + 1.2 * len(names))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(names), heads, squeeze=False, sharex=True)
        for row, name in zip(axes, names, strict=True):
            values = getattr(layer, name)[0, :steps]
            values = np.moveaxis(values, 1, 0).reshape(heads, steps, -1)
            limit = max(float(np.abs(values).max()), 1e-6)
            for head, axis in enumerate(row):
                axis.imshow(values[head].T, aspect="auto", cmap="RdBu", vmin=-limit, vmax=limit)
                axis.grid(visible=False)
                axis.set_yticks([])
            row[0].set_ylabel(name)
            figure.colorbar(row[0].images[0], ax=row)
        for head, axis in enumerate(axes[0]):
            axis.set_title(f"head {head}")
        for axis in axes[-1]:
            _name(axis, symbols[:steps])
        return figure


def contexts(layers: Sequence[probing.TokenGates], symbols: Sequence[str]) -> Figure:
    """Draws how much each gate of a token depends on its context: a panel per layer.

    Args:
        layers: the result of `by_token` for each layer.
        symbols: the vocabulary.
    """
    with styled():
        figure, axes = _panels(len(layers))
        for number, (axis, found) in enumerate(zip(axes, layers, strict=True)):
            shares = {
                name: (found.spread[name] / np.maximum(norms(mean), 1e-12)).mean(1)
                for name, mean in found.mean.items()
            }
            _bars(axis, shares)
            axis.set(title=f"layer {number}", xlabel="token")
            axis.set_ylabel("spread over contexts / norm of the mean")
            axis.set_ylim(0, max(axis.get_ylim()[1], 1e-3))
            _name(axis, symbols)
            axis.legend(fontsize="small")
        return figure


def spectrum(layers: Sequence[probing.Spectrum], symbols: Sequence[str]) -> Figure:
    """Draws eigenvalues on the complex plane, and singular values by token: a row per layer.

    Args:
        layers: the result of `spectrum` for each layer, with leading axes [V, H].
        symbols: the vocabulary.
    """
    with styled():
        figure = Figure(figsize=(8.4, 3.9 * len(layers)), layout="constrained")
        axes = figure.subplots(len(layers), 2, squeeze=False)
        for number, ((plane, sizes), found) in enumerate(zip(axes, layers, strict=True)):
            turn = np.linspace(0, 2 * np.pi, 200)
            plane.plot(np.cos(turn), np.sin(turn), color="0.6", linewidth=0.8)
            tokens, heads, _ = found.eigenvalues.shape
            for token in range(tokens):
                for head in range(heads):
                    values = found.eigenvalues[token, head]
                    plane.plot(
                        values.real,
                        values.imag,
                        linestyle="none",
                        color=COLOURS[token % len(COLOURS)],
                        marker=MARKERS[head % len(MARKERS)],
                        markersize=4,
                        alpha=0.7,
                        label=symbols[token] if head == 0 and tokens <= _MOST_NAMES else None,
                    )
            plane.set(xlabel="real part", ylabel="imaginary part", aspect="equal")
            plane.set_title(f"layer {number}: eigenvalues (a marker a head)")
            if tokens <= _MOST_NAMES:
                plane.legend(fontsize="x-small", ncols=1 + tokens // 9, loc="center")
            for head in range(heads):
                values = found.singular_values[:, head]
                places = np.repeat(np.arange(tokens), values.shape[-1]) + 0.08 * head
                sizes.plot(
                    places,
                    values.ravel(),
                    linestyle="none",
                    marker=MARKERS[head % len(MARKERS)],
                    markersize=4,
                    color=COLOURS[head % len(COLOURS)],
                    label=f"head {head}",
                )
            sizes.axhline(1, color="0.6", linewidth=0.8)
            sizes.set(xlabel="token", title="singular values")
            _name(sizes, symbols)
            sizes.legend(fontsize="small")
        return figure


def group(
    characters: probing.CharacterTable, elements: Sequence[str], properties: Mapping[str, Any]
) -> Figure:
    """Draws the character table, with properties of the group as its title.

    Args:
        characters: the character table of the group.
        elements: the names of the group's elements.
        properties: the properties for the title.
    """
    count = len(characters.values)
    with styled():
        side = min(9.0, 2.6 + 0.45 * count)
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        axis = figure.subplots()
        drawn = axis.imshow(np.real(characters.values), cmap="RdBu", vmin=-3, vmax=3)
        axis.grid(visible=False)
        figure.colorbar(drawn, ax=axis, label="character (real part)")
        _name(axis, [f"{len(c)} x {elements[c[0]]}" for c in characters.classes])
        axis.set_yticks(range(count), [str(degree) for degree in characters.degrees])
        axis.set(xlabel="conjugacy class: size and an element", ylabel="degree")
        kind = "abelian" if properties["abelian"] else "not abelian"
        solvable = "solvable" if properties["solvable"] else "not solvable"
        axis.set_title(
            f"{properties['group']}: order {properties['order']}, {kind}, {solvable}: "
            f"{properties['complexity']}\nsmallest faithful real dimension "
            f"{properties['smallest_dim']}, of rotations {properties['smallest_dim_of_rotations']}",
            fontsize="small",
        )
        return figure


def homomorphism(
    actions: Sequence[probing.Homomorphism], relators: Sequence[probing.RelatorDefects]
) -> Figure:
    """Draws the defect of every element and symbol, and that of relators against their length.

    Args:
        actions: the actions of the heads of a layer.
        relators: the defects of relators for the same heads.
    """
    with styled():
        figure = Figure(figsize=(1.2 + 2.4 * len(actions), 5.6), layout="constrained")
        axes = figure.subplots(2, len(actions), squeeze=False, sharey="row")
        limit = max(*(action.worst for action in actions), 1e-9)
        for head, (action, found) in enumerate(zip(actions, relators, strict=True)):
            axes[0, head].imshow(action.defects, aspect="auto", cmap="viridis", vmin=0, vmax=limit)
            axes[0, head].grid(visible=False)
            axes[0, head].set(xlabel="symbol", title=f"head {head}, m = {action.action.shape[-1]}")
            lengths = [len(word) for word in found.words]
            floor = np.maximum(found.defects, 1e-9)
            look: dict[str, Any] = {"linestyle": "none", "marker": ".", "color": COLOURS[0]}
            axes[1, head].semilogy(lengths, floor, **look)
            axes[1, head].set(xlabel="length of the relator w")
        axes[0, 0].set_ylabel("element")
        axes[1, 0].set_ylabel("|T(w) - I|")
        figure.colorbar(axes[0, 0].images[0], ax=axes[0], label="homomorphism defect")
        return figure


def representations(layers: Sequence[probing.RepresentationMatch]) -> Figure:
    """Draws how often each irreducible representation is in each head: a panel per layer.

    Args:
        layers: the result of `match_representations` for each layer.
    """
    with styled():
        figure, axes = _panels(len(layers))
        for number, (axis, found) in enumerate(zip(axes, layers, strict=True)):
            texts = [
                f"head {head}: {found.label(head)} (distance {distance:.2g})"
                for head, distance in enumerate(found.distance)
            ]
            _bars(axis, dict(zip(texts, found.multiplicities, strict=True)))
            faithful = "faithful" if found.together else "not faithful"
            axis.set(title=f"layer {number}: together {faithful}", ylabel="multiplicity")
            axis.set_xlabel("irreducible real representation, by its dimension")
            axis.set_xticks(range(len(found.names)), found.names)
            axis.legend(fontsize="x-small")
        return figure


def linear(found: probing.LinearProbe) -> Figure:
    """Draws the accuracy of the linear probe and of the model against length.

    Args:
        found: the result of `linear_probe`.
    """
    with styled():
        figure, (axis,) = _panels(1)
        curves = {
            "linear probe": found.accuracy,
            "model": found.model_accuracy,
            "most frequent label": found.most_frequent,
        }
        _curves(axis, found.lengths, curves)
        axis.axvline(max(found.fitted), color="0.5", linestyle=":", linewidth=1)
        axis.set(ylabel="accuracy at the last position", ylim=(-0.03, 1.03))
        return figure


def separability(found: probing.Separability) -> Figure:
    """Draws spread against distance, by length, and the predicted and the actual failure.

    Args:
        found: the result of `separability`.
    """
    with styled():
        figure, (axis,) = _panels(1)
        curves = {"spread / distance": found.ratio, "way to another class": found.reach}
        _curves(axis, found.lengths, curves)
        axis.set_yscale("log")
        axis.axhline(probing.TOO_CLOSE, color="0.5", linestyle="--", linewidth=0.8)
        axis.axvline(found.reference, color="0.5", linestyle=":", linewidth=1)
        for place, text, colour in (
            (found.predicted, "failure predicted", COLOURS[1]),
            (found.failed, "model fails", COLOURS[3]),
        ):
            if math.isfinite(place) and place <= 64 * found.lengths[-1]:
                axis.axvline(place, color=colour, label=f"{text}: {place:,.0f}")
        other = axis.twinx()
        other.plot(
            found.lengths, found.accuracy, color=COLOURS[2], linestyle=":", label="model's accuracy"
        )
        other.set(ylim=(-0.03, 1.03), ylabel="accuracy")
        _common_legend(axis, other)
        axis.set_ylabel("as a share of the distance between classes")
        return figure


def sensitivity(found: probing.Sensitivity) -> Figure:
    """Draws what the last output depends on, by position: means over sequences.

    Args:
        found: the result of `sensitivity`.
    """
    with styled():
        figure, (axis,) = _panels(1)
        places = np.arange(1, found.changed.shape[1] + 1)
        axis.plot(places, found.changed.mean(0), color=COLOURS[0], label="prediction changes")
        axis.set(xlabel="position", ylim=(-0.03, 1.03))
        axis.set_ylabel("share of replaced symbols\nthat change the last prediction")
        other = axis.twinx()
        mean = found.gradient.mean(0)
        other.plot(places, mean, color=COLOURS[1], linestyle=LINES[1], label="gradient")
        other.set_ylabel("norm of the last logits' gradient")
        other.set_ylim(0, 1.1 * max(float(mean.max()), 1e-12))
        _common_legend(axis, other)
        return figure


def carried(found: Mapping[str, Carried]) -> Figure:
    """Draws the accuracy at the last position against length, with horizons of whole sequences.

    Args:
        found: the measurements, by the name of the model.
    """
    with styled():
        figure, (axis,) = _panels(1)
        for index, (name, curve) in enumerate(found.items()):
            _curves(axis, curve.lengths, {f"{name} ({curve.horizon})": curve.accuracy}, index)
        axis.set(ylabel="accuracy at the last position", ylim=(-0.03, 1.03))
        return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(5.4 * count, 3.6), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _curves(axis: Axes, lengths: Sequence[int], curves: Mapping[str, Any], first: int = 0) -> None:
    for index, (name, values) in enumerate(curves.items(), first):
        look: dict[str, Any] = {
            "color": COLOURS[index % len(COLOURS)],
            "marker": MARKERS[index % len(MARKERS)],
            "linestyle": LINES[index % len(LINES)],
        }
        axis.plot(lengths, values, markersize=4, label=name, **look)
    scale_lengths(axis)
    axis.set_xlabel("length")
    axis.legend(fontsize="small")


def _bars(axis: Axes, rows: Mapping[str, np.ndarray]) -> None:
    """Draws a group of bars at each place, with one bar for each row."""
    width = 0.8 / len(rows)
    for index, (name, values) in enumerate(rows.items()):
        places = np.arange(len(values)) + (index - (len(rows) - 1) / 2) * width
        axis.bar(places, values, width, color=COLOURS[index % len(COLOURS)], label=name)


def _common_legend(axis: Axes, other: Axes) -> None:
    """Draws one legend for two axes that share a panel; the other axis has no grid."""
    other.grid(visible=False)
    handles, labels = axis.get_legend_handles_labels()
    more, texts = other.get_legend_handles_labels()
    axis.legend(handles + more, labels + texts, fontsize="small")


def _name(axis: Axes, names: Sequence[str]) -> None:
    """Writes names below an axis while there is room; a text may contain signs of mathematics."""
    if len(names) <= _MOST_STEPS:
        texts = [name.replace("$", r"\$") for name in names]
        turned = 90 if max(map(len, texts), default=0) > 2 else 0
        axis.set_xticks(range(len(names)), texts, rotation=turned, fontsize="x-small")
