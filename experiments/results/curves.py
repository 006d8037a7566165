"""Curves of training: accuracy against steps and against time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars
from matplotlib.figure import Figure

from experiments.files import DamagedError, RunError
from experiments.plotting import styled
from experiments.results.panels import draw_band, finish, levels, looks, panel
from experiments.results.rows import find_sweep, members
from experiments.results.settings import grouping, settings
from experiments.run import Run

Against = Literal["step", "seconds"]
_AXES: dict[Against, str] = {
    "step": "optimizer step",
    "seconds": "seconds of training (a member's share of its group's)",
}
# Members of a group have their own clock; their curves are read at common places.
_PLACES = 120


def training_records(sweep_folder: str | Path) -> polars.DataFrame:
    """The records of all members, `metrics.jsonl`.

    Args:
        sweep_folder: the folder of a sweep, or its name in `sweeps/`.

    Returns:
        One row per member and record: `member`, `step`, `seconds` (since training began,
        compiling apart; each member's share of its program's time), `loss`,
        `token_accuracy`, `sequence_accuracy` (null where numbers are predicted).

    Raises:
        RunError: there is no such sweep.
        ConfigError: its sweep.yaml is not valid.
    """
    rows = []
    for run in members(find_sweep(sweep_folder)):
        seconds = 0.0
        for record in _records(run):
            seconds += record.get("seconds", 0.0)
            names = ("step", "loss", "token_accuracy", "sequence_accuracy")
            values = {name: record.get(name) for name in names}
            rows.append({"member": run.name, **values, "seconds": seconds})
    schema = {"member": polars.String, "step": polars.Int64, "seconds": polars.Float64}
    measured = dict.fromkeys(("loss", "token_accuracy", "sequence_accuracy"), polars.Float64)
    return polars.DataFrame(rows, schema={**schema, **measured})


def _records(run: Run) -> list[dict[str, Any]]:
    """The records of a member; none of one whose file is damaged, which `gather` says."""
    try:
        return run.metrics
    except DamagedError:
        return []


def training_curves(
    frame: polars.DataFrame,
    records: polars.DataFrame,
    by: Sequence[str] | None = None,
    *,
    against: Against = "step",
    metric: str = "sequence_accuracy",
) -> Figure:
    """Accuracy in training against steps or time, a line a setting, with bands between quartiles.

    Lengths grow along the curriculum, so a curve may fall where longer ones begin. A member that
    has ended keeps its last value.

    Args:
        frame: of `gather`.
        records: of `training_records`.
        by: what makes a setting; None: all that varies but the seed.
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
    """Each member's last value at or before common places: all steps, or evenly spaced times.

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
