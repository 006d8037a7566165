"""The probes: each takes a run, and returns a result, a summary of it and a figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from experiments.console import plain, plain_table
from experiments.probing import figures
from experiments.probing.carrying import (
    SNAP_EVERY,
    Carried,
    carry,
    carry_snapped,
    declining,
    exact_horizons,
)
from experiments.probing.grids import gates_over_grid, record_run, summary_of
from experiments.probing.subject import Subject, layer_of
from experiments.run import Run
from plstm_seq import probing
from plstm_seq.models import VisionModel


@dataclass(frozen=True)
class Probed:
    """The outcome of a probe.

    Attributes:
        name: the name of the probe.
        result: a dataclass of `plstm_seq.probing`, or a list with one for each layer.
        summary: the most important numbers of the result, as JSON holds them.
        figure: a plot of the result.

    Example:
        >>> from experiments.probing import Probed, probe
        >>> found = probe("parity-1", only=["group"])  # a run, see `experiments.train`
        >>> outcome: Probed = found["group"]
        >>> outcome.name, outcome.summary["abelian"]
        ('group', True)
    """

    name: str
    result: Any
    summary: dict[str, Any]
    figure: Figure


def _gates(subject: Subject) -> Probed:
    spread = [
        {name: float(np.nanmax(values)) for name, values in gates.spread.items()}
        for gates in subject.gates
    ]
    summary = {"largest_spread_over_contexts": spread}
    symbols = [subject.task.vocabulary[token] for token in subject.recording.tokens[0]]
    figure = figures.gates(layer_of(subject.recording.layers, subject.block), symbols)
    return Probed("gates", subject.recording, summary, figure)


def _gates_over_grid(run: Run, block: int) -> Probed:
    recording = record_run(run)
    layer = layer_of(recording.layers, block)
    figure = gates_over_grid(layer, recording.inputs)
    return Probed("gates", recording, summary_of(layer), figure)


def _contexts(subject: Subject) -> Probed:
    summary = {
        "relative_spread": [
            {name: float(np.nanmean(_relative(gates, name))) for name in gates.mean}
            for gates in subject.gates
        ]
    }
    figure = figures.contexts(subject.gates, subject.task.vocabulary)
    return Probed("contexts", subject.gates, summary, figure)


def _relative(gates: probing.TokenGates, name: str) -> np.ndarray:
    size = figures.norms(gates.mean[name])
    # A gate that is zero, such as a missing source, has a spread of zero: divide that by 1.
    return gates.spread[name] / np.where(size > 0, size, 1)


def _spectrum(subject: Subject) -> Probed:
    found = [probing.spectrum(gates.transitions) for gates in subject.gates]
    summary = {
        "distance_from_orthogonal": [float(np.nanmax(layer.distance)) for layer in found],
        "smallest_singular_value": [float(np.nanmin(layer.singular_values)) for layer in found],
    }
    figure = figures.spectrum(found, subject.task.vocabulary)
    return Probed("spectrum", found, summary, figure)


def _group(subject: Subject) -> Probed:
    of = subject.group
    found = probing.analyse(of.table, of.symbols, of.images)
    summary: dict[str, Any] = {
        "group": of.name,
        "order": found.order,
        "abelian": found.abelian,
        "solvable": found.solvable,
        "complexity": found.complexity,
        "classes": len(found.classes),
        "symbol_ranks": list(found.generator_ranks),
    }
    with declining():
        characters = probing.character_table(of.table)
    real = probing.real_irreducibles(of.table, characters)
    for name, rotations in (("smallest_dim", False), ("smallest_dim_of_rotations", True)):
        chosen = probing.smallest_faithful(real, rotations=rotations)
        summary[name] = int(real.dims[list(chosen)].sum())
    return Probed("group", found, summary, figures.group(characters, of.elements, summary))


def _homomorphism(subject: Subject) -> Probed:
    of = subject.group
    words = probing.relators(of.table, of.symbols, of.composition)[:2000]
    matrices = [[action.action[list(of.symbols)] for action in layer] for layer in subject.actions]
    relators = [[probing.relator_defects(head, words) for head in layer] for layer in matrices]
    summary = {
        "dims": [[action.action.shape[-1] for action in layer] for layer in subject.actions],
        "mean_defect": [[action.mean for action in layer] for layer in subject.actions],
        "worst_defect": [[action.worst for action in layer] for layer in subject.actions],
        "worst_relator": [[defects.worst for defects in layer] for layer in relators],
    }
    figure = figures.homomorphism(subject.actions[0], relators[0])
    return Probed("homomorphism", (subject.actions, relators), summary, figure)


def _representations(subject: Subject) -> Probed:
    of = subject.group
    with declining():
        characters = probing.character_table(of.table)
    real = probing.real_irreducibles(of.table, characters)
    found = [
        probing.match_representations([head.action for head in layer], characters, real)
        for layer in subject.actions
    ]
    summary = {
        "nearest": [[layer.label(h) for h in range(len(layer.distance))] for layer in found],
        "distance": [layer.distance.tolist() for layer in found],
        "faithful_together": [layer.together for layer in found],
    }
    return Probed("representations", found, summary, figures.representations(found))


def _linear(subject: Subject) -> Probed:
    found = probing.linear_probe(
        subject.sample, num_labels=len(subject.task.labels), fit_until=subject.longest
    )
    summary = {
        "lengths": list(found.lengths),
        "accuracy": found.accuracy.tolist(),
        "model_accuracy": found.model_accuracy.tolist(),
    }
    return Probed("linear", found, summary, figures.linear(found))


def _separability(subject: Subject) -> Probed:
    with declining():
        found = probing.separability(subject.sample, reference=subject.longest)
    summary = {
        "lengths": list(found.lengths),
        "ratio": found.ratio.tolist(),
        "reach": found.reach.tolist(),
        "predicted_failure": _finite(found.predicted),
        "failure": _finite(found.failed),
    }
    return Probed("separability", found, summary, figures.separability(found))


def _sensitivity(subject: Subject) -> Probed:
    length = min(subject.longest, 64)
    tokens = subject.task.sample(subject.key, 16, length).inputs
    found = probing.sensitivity(subject.model, tokens, key=subject.key)
    share = found.changed.mean(0)
    summary = {"changed_by_first": float(share[0]), "changed_by_last": float(share[-1])}
    return Probed("sensitivity", found, summary, figures.sensitivity(found))


def _drift(subject: Subject) -> Probed:
    """Measures the run as it is, and with two corrections against drift."""
    model, measured = subject.model, (subject.task, subject.lengths)
    with declining():
        projected = probing.with_orthogonal_transitions(model)
    short = min(subject.longest, SNAP_EVERY)
    found = {
        "as trained": carry(model, *measured, seed=subject.seed),
        "orthogonal transitions": carry(projected, *measured, seed=subject.seed),
        f"snapped every {SNAP_EVERY}": carry_snapped(
            model, *measured, learned_at=short, seed=subject.seed
        ),
    }
    return _carried("drift", found)


def _exact(subject: Subject) -> Probed:
    """Measures the exact construction for the run's task, in two types and with noise."""
    found = exact_horizons(subject.task, subject.lengths, seed=subject.seed)
    return _carried("exact", found)


def _carried(name: str, found: dict[str, Carried]) -> Probed:
    summary = {
        model: {"horizon": carried.horizon, "last_accuracy": list(carried.accuracy)}
        for model, carried in found.items()
    }
    return Probed(name, found, summary, figures.carried(found))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


PROBES: dict[str, Callable[[Subject], Probed]] = {
    "gates": _gates,
    "contexts": _contexts,
    "spectrum": _spectrum,
    "group": _group,
    "homomorphism": _homomorphism,
    "representations": _representations,
    "linear": _linear,
    "separability": _separability,
    "sensitivity": _sensitivity,
    "drift": _drift,
    "exact": _exact,
}


def probes_of(run: Run, block: int) -> dict[str, Callable[[], Probed]]:
    """Returns the probes, by name, for the kind of model that a run has.

    A probe may still turn out not to suit the run when it is called.

    Args:
        run: a trained run.
        block: the number of the block whose gates are drawn.

    Raises:
        RunError: the run has no checkpoint, or a model without probes.
    """
    if isinstance(run.model, VisionModel):
        return {"gates": partial(_gates_over_grid, run, block)}
    subject = Subject(run, block)
    return {name: partial(make, subject) for name, make in PROBES.items()}


_MOST = 12


def table(found: Mapping[str, Probed]) -> Table:
    """Returns a table, to be printed by rich, with a row for each entry of the probes' summaries.

    Example:
        >>> from experiments.probing import probe, table
        >>> found = probe("parity-1", only=["group"])  # a run, see `experiments.train`
        >>> rows = table(found)
        >>> rows.row_count == len(found["group"].summary)
        True
    """
    shown = plain_table("probe", "", "")
    shown.columns[1].justify = shown.columns[2].justify = "left"
    for name, outcome in found.items():
        for index, (key, value) in enumerate(outcome.summary.items()):
            first = name if index == 0 else ""
            shown.add_row(first, plain(key.replace("_", " ")), plain(_text(value)))
    return shown


def _text(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}"
        case dict():
            return ", ".join(
                f"{key.replace('_', ' ')} {_text(part)}" for key, part in value.items()
            )
        case list() if len(value) == 1:
            return _text(value[0])
        case list():
            texts = [_text(part) for part in value[:_MOST]]
            return " ".join(texts) + (" ..." if len(value) > _MOST else "")
        case None:
            return "none"
    return str(value)
