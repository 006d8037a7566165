"""All that a sweep has measured, as one table."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars

from experiments.results.columns import flatten
from experiments.run import Run, RunError
from experiments.suggestions import nearest
from plstm_seq.evaluation import METRICS, SNAPPED, horizon

if TYPE_CHECKING:
    from experiments.sweeps.plan import MemberPlan

ROOT = Path("sweeps")
UNFINISHED = "unfinished"
# Horizons at 0.9 and 0.99, as they are called in the table.
HORIZONS: Mapping[str, float] = {"horizon_90": 0.9, "horizon_99": 0.99}

_MEASURED: Mapping[str, Any] = {
    "metric": polars.String,
    "length": polars.Int64,
    "start": polars.Int64,
    "value": polars.Float64,
    "low": polars.Float64,
    "high": polars.Float64,
    "scaled": polars.Float64,
    "num_sequences": polars.Int64,
    "chance": polars.Float64,
    "confidence": polars.Float64,
}
_REACHED: Mapping[str, Any] = {
    column: kind
    for name in HORIZONS
    for column, kind in ((name, polars.Int64), (f"{name}_open", polars.Boolean))
}
_SCHEMA = {"member": polars.String, **_MEASURED, **_REACHED}


def find_sweep(path: str | Path) -> Path:
    """The folder of a sweep.

    Args:
        path: its folder, or its name in `sweeps/`.

    Raises:
        RunError: there is no such sweep; the nearest names are given.
    """
    for folder in (Path(path), ROOT / path):
        if (folder / "sweep.yaml").is_file():
            return folder
    known = [file.parent.name for file in ROOT.glob("*/sweep.yaml")]
    raise RunError(f"no sweep at {str(path)!r}, nor in {ROOT}/; {nearest(Path(path).name, known)}")


def gather(sweep_folder: str | Path) -> polars.DataFrame:
    """Everything a sweep has measured; written to `results.parquet` in its folder, too.

    One row per member, length and metric (`segment` rows have their start). A member that has not
    been evaluated, or not even begun, has one row without metric, so that it is seen and counted.
    Of a sweep whose members' folders are elsewhere (results that were copied), the table that is
    there is read.

    Columns: `member`, `group`, `status` (`unfinished` if its training has not ended), `step`,
    `error`, `seconds` (of training: in a group, of the program that trained the group),
    `trained_length`; what was measured (`metric`, `length`, `start`, `value`, `low`, `high`,
    `scaled`, `num_sequences`, `chance`, `confidence`); `horizon_90` and `horizon_99`, each with
    `_open` where the last evaluated length passed as well; then every field of the config by its
    dotted path, `environment.*` and `cost.*`.

    Args:
        sweep_folder: the folder of a sweep, or its name in `sweeps/`.

    Raises:
        RunError: there is no such sweep, or a file of a member is damaged.
        ConfigError: its sweep.yaml is not valid.
    """
    folder = find_sweep(sweep_folder)
    table = folder / "results.parquet"
    if table.is_file() and not (folder / "members").exists():
        return polars.read_parquet(table)
    plans = planned(folder)
    runs = [_run(folder, plan) for plan in plans]
    about = _table([_about(plan, run) for plan, run in zip(plans, runs, strict=True)])
    frames = [_measured(run) for run in runs]
    nothing = polars.DataFrame(schema=_SCHEMA)
    measured = polars.concat([nothing, *frames], how="diagonal_relaxed")
    frame = about.join(measured, on="member", how="left", maintain_order="left_right")
    first = about.columns[: about.columns.index("task.name")]
    rest = [name for name in about.columns if name not in first]
    frame = frame.select(*first, *_MEASURED, *_REACHED, *rest)
    _write(frame, table)
    return frame


def planned(folder: Path) -> Sequence["MemberPlan"]:
    """The members that a sweep should have, in its order."""
    # Planning a sweep solves widths with this package, so the import waits.
    from experiments.sweeps.plan import plan
    from experiments.sweeps.sweep import read_sweep

    return plan(read_sweep(folder / "sweep.yaml")).members


def members(folder: Path) -> list[Run]:
    """The runs of a sweep, in its order; the folders of some may not be there yet."""
    return [_run(folder, plan) for plan in planned(folder)]


def _run(folder: Path, plan: "MemberPlan") -> Run:
    return Run(folder / "members" / plan.name, plan.config)


def _about(plan: "MemberPlan", run: Run) -> dict[str, Any]:
    """What is the same in all rows of a member."""
    status, records = run.status, run.metrics
    return {
        "member": plan.name,
        "group": plan.group,
        "status": UNFINISHED if status is None else status.status,
        "step": status.step if status else records[-1]["step"] if records else 0,
        "error": None if status is None else status.error,
        "seconds": float(sum(record["seconds"] for record in records)),
        "trained_length": run.config.training.curriculum.longest,
        **flatten(run.config),
        **_prefixed("environment", _environment(run)),
        **_prefixed("cost", run.cost or {}),
    }


def _environment(run: Run) -> dict[str, Any]:
    path = run.folder / "environment.json"
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise RunError(f"{path} is damaged: delete it, and resume the sweep") from None


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in values.items()}


def _measured(run: Run) -> polars.DataFrame:
    """The rows of a member's evaluation, with the horizons of each metric."""
    if not run.evaluation_path.exists():
        return polars.DataFrame(schema={"member": polars.String})
    try:
        frame = run.evaluation.select(polars.lit(run.name).alias("member"), *_MEASURED)
    except (polars.exceptions.PolarsError, OSError) as error:
        raise RunError(
            f"{run.evaluation_path} is damaged ({error}): plstm-seq evaluate {run.folder}"
        ) from None
    snapped = [SNAPPED + metric for metric in METRICS if SNAPPED + metric in frame["metric"]]
    horizons = polars.DataFrame([_horizons(frame, metric) for metric in (*METRICS, *snapped)])
    return frame.join(horizons, on="metric", how="left", maintain_order="left")


def _horizons(frame: polars.DataFrame, metric: str) -> dict[str, Any]:
    rows = frame.filter(polars.col("metric") == metric).sort("length")
    found: dict[str, Any] = {"metric": metric}
    for name, threshold in HORIZONS.items():
        reached = horizon(rows["length"].to_list(), rows["value"].to_list(), threshold)
        found |= {name: reached.length, f"{name}_open": reached.open_ended}
    return found


def _table(rows: Sequence[Mapping[str, Any]]) -> polars.DataFrame:
    """Rows as a table; fields that a row lacks are null, those of several types become text."""
    names = dict.fromkeys(name for row in rows for name in row)
    return polars.DataFrame({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: Sequence[Any]) -> polars.Series:
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return polars.Series(values=values, dtype=polars.String)
    if kinds == {int, float}:
        return polars.Series(values=[None if v is None else float(v) for v in values])
    if len(kinds) == 1 and kinds <= {bool, int, float, str}:
        return polars.Series(values=values)
    texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return polars.Series(values=texts)


def _write(frame: polars.DataFrame, path: Path) -> None:
    """Atomically: a reader sees the old table or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        frame.write_parquet(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
