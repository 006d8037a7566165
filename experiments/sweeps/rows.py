"""Gathers everything that a sweep has measured in one table."""

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars

from experiments.files import DamagedError, RunError, kept_where_writable
from experiments.overrides import flatten
from experiments.run import Run
from experiments.sweeps.folder import SweepFolder, find_sweep
from experiments.sweeps.plan import MemberPlan
from plstm_seq.evaluation import AVERAGED, METRICS, SNAPPED, choose_rows, complete_sets, horizon
from plstm_seq.evaluation.table import read_frame, write_frame

UNFINISHED, DAMAGED = "unfinished", "damaged"
# The columns of horizons in the table, with their thresholds.
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
    "evaluated_step": polars.Int64,
    "checkpoint": polars.String,
    "evaluation_seed": polars.Int64,
    "snap_every": polars.Int64,
    "passed_over": polars.String,
}
_REACHED: Mapping[str, Any] = {
    column: kind
    for name in HORIZONS
    for column, kind in ((name, polars.Int64), (f"{name}_open", polars.Boolean))
}
_SCHEMA = {"member": polars.String, **_MEASURED, **_REACHED}


def gather(sweep_folder: str | Path, *, num_sequences: int | None = None) -> polars.DataFrame:
    """Gathers everything a sweep has measured in one table, and writes it to `results.parquet`.

    There is one row per member, length and metric (`segment` rows have their start). A member that
    has not been evaluated, or not even begun, has one row without metric, so that it is counted.
    If the folder has a table but no members (results that were copied), the table is read. Nothing
    is written to a read-only folder.

    All rows are of one number of sequences, also if members were evaluated more than once: the
    number for which most members have all lengths of their config, or the largest of several such
    numbers. Members that were not measured with it count as not evaluated. The table on disk is not
    replaced if a member would lose its rows. `evaluation.parquet` in a member's folder keeps all.

    The columns are, in this order:

    - `member`, `group`, `status` (`unfinished` if its training has not ended, `damaged` if a file
      cannot be read), `step`, `error`, `seconds` (the time of training without compiling; in a
      group, the member's share of it) and `trained_length`;
    - what was measured: `metric`, `length`, `start`, `value`, `low`, `high`, `scaled`,
      `num_sequences`, `chance` and `confidence`;
    - on which model and sequences: `evaluated_step`, `checkpoint`, `evaluation_seed`, `snap_every`
      and `passed_over`;
    - `horizon_90` and `horizon_99`, each followed by a column `..._open`, which is true if the last
      evaluated length passed as well;
    - every field of the config by its dotted path, `environment.*` and `cost.*`.

    Args:
        sweep_folder: the folder of a sweep, or its name in `sweeps/`.
        num_sequences: take the rows that were measured with this many sequences at each length;
            None: choose the number as described above.

    Raises:
        RunError: there is no such sweep, or no member was measured with that many sequences.
        DamagedError: its sweep.yaml or, where there are no members, its results are damaged.
        ConfigError: its sweep.yaml is not valid.

    Example:
        >>> import tempfile
        >>> from experiments import default_config
        >>> from experiments.results import gather
        >>> from experiments.sweeps import create_sweep, sweep_of_words
        >>> sweep = sweep_of_words(default_config("parity"), ["seed=0..1"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = create_sweep(sweep, f"{folder}/seeds")
        ...     frame = gather(f"{folder}/seeds")
        >>> frame.select("member", "status", "seed").rows()
        [('seed=0', 'unfinished', 0), ('seed=1', 'unfinished', 1)]
    """
    folder = find_sweep(sweep_folder)
    table = folder / "results.parquet"
    if table.is_file() and not (folder / "members").exists():
        return _with_sequences(_read_table(table), num_sequences)
    opened = SweepFolder(folder)
    plans = opened.plan.members
    runs = [opened.run(plan) for plan in plans]
    found = [_Found.of(plan, run) for plan, run in zip(plans, runs, strict=True)]
    frames = _one_set(runs, [one.rows for one in found], num_sequences)
    about = _table([one.about for one in found])
    nothing = polars.DataFrame(schema=_SCHEMA)
    measured = polars.concat([nothing, *frames], how="diagonal_relaxed")
    frame = about.join(measured, on="member", how="left", maintain_order="left_right")
    first = about.columns[: about.columns.index("task.name")]
    rest = [name for name in about.columns if name not in first]
    frame = frame.select(*first, *_MEASURED, *_REACHED, *rest)
    if num_sequences is None:
        with kept_where_writable():
            _write_table(table, frame)
    return frame


class _Found(NamedTuple):
    """Everything about a member that can be read.

    Attributes:
        about: the columns that are the same in all of its rows.
        rows: every row that was measured, see `Run.evaluations`; None: there are none.
    """

    about: dict[str, Any]
    rows: polars.DataFrame | None

    @staticmethod
    def of(plan: MemberPlan, run: Run) -> "_Found":
        problems: list[str] = []

        def read(name: str, default: Any) -> Any:
            try:
                return getattr(run, name)
            except DamagedError as error:
                problems.append(str(error))
                return default

        status, records, cost = read("status", None), read("metrics", None), read("cost", None)
        environment = read("environment", {})
        evaluated = run.has_accuracy and run.evaluation_path.exists()
        rows = read("evaluations", None) if evaluated else None
        name = UNFINISHED if status is None else status.status
        error = None if status is None else status.error
        about = {
            "member": plan.name,
            "group": plan.group,
            "status": DAMAGED if problems else name,
            "step": status.step if status else records[-1]["step"] if records else 0,
            "error": "; ".join(problems) or error,
            "seconds": None
            if records is None
            else float(sum(record.get("seconds", 0.0) for record in records)),
            "trained_length": run.config.training.curriculum.longest,
            **flatten(run.config),
            **_prefixed("environment", environment),
            **_prefixed("cost", cost or {}),
        }
        return _Found(about, rows)


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in values.items()}


def _one_set(
    runs: Sequence[Run], frames: Sequence[polars.DataFrame | None], num_sequences: int | None
) -> list[polars.DataFrame]:
    """Returns each member's rows of one number of sequences, with the horizons of each metric."""
    known = [(run, frame) for run, frame in zip(runs, frames, strict=True) if frame is not None]
    if num_sequences is None:
        # Take the number for which most members have all lengths; of several, the largest.
        complete = Counter(n for run, rows in known for n in complete_sets(rows, run.asked))
        measured = Counter(n for _, rows in known for n in rows["num_sequences"].unique())
        num_sequences = max(complete or measured, key=lambda n: (complete[n], n), default=None)
    chosen = []
    for run, frame in known:
        try:
            rows = choose_rows(frame, run.asked, num_sequences=num_sequences)
        except ValueError:
            continue  # not measured with this number, so it counts as not evaluated
        chosen.append(_with_horizons(run, rows))
    if known and not chosen:
        raise RunError(f"no member was measured with {num_sequences} sequences a length")
    return chosen


def _with_horizons(run: Run, rows: polars.DataFrame) -> polars.DataFrame:
    frame = rows.rename({"step": "evaluated_step"})
    frame = frame.select(
        polars.lit(run.name).alias("member"),
        *(polars.col(name) for name in _MEASURED if name in frame.columns),
    )
    others = [prefix + metric for prefix in (AVERAGED, SNAPPED) for metric in METRICS]
    others = [metric for metric in others if metric in frame["metric"]]
    horizons = polars.DataFrame([_horizons(frame, metric) for metric in (*METRICS, *others)])
    return frame.join(horizons, on="metric", how="left", maintain_order="left")


def _read_table(path: Path) -> polars.DataFrame:
    """Reads a table that `gather` wrote; columns that an older version did not have are null."""
    remedy = "restore it from a copy"
    try:
        frame = read_frame(path)
    except (ValueError, OSError) as error:
        raise DamagedError(path, error, remedy) from None
    lacking = [
        name
        for name in ("member", "metric", "length", "value", "task.name", "seed")
        if name not in frame.columns
    ]
    if lacking:
        raise DamagedError(path, f"it has no column {', '.join(lacking)}", remedy)
    missing = {name: kind for name, kind in _MEASURED.items() if name not in frame.columns}
    return frame.with_columns(polars.lit(None, kind).alias(n) for n, kind in missing.items())


def _with_sequences(frame: polars.DataFrame, num_sequences: int | None) -> polars.DataFrame:
    """Returns the rows of a copied table, if they are of that many sequences per length.

    Raises:
        RunError: they are not; the table does not have the rows of other numbers.
    """
    plain = frame.filter(polars.col("metric").is_in(METRICS))
    if num_sequences is not None and num_sequences not in plain["num_sequences"].to_list():
        raise RunError(f"no member was measured with {num_sequences} sequences a length")
    return frame


def _write_table(table: Path, frame: polars.DataFrame) -> None:
    """Writes the table, unless it would lose the rows of members that cannot be read now."""
    measured = set(frame.drop_nulls("metric")["member"])
    try:
        before = _read_table(table) if table.exists() else frame
    except DamagedError:
        before = frame  # a damaged table can be made again
    if lost := sorted(set(before.drop_nulls("metric")["member"]) - measured):
        warnings.warn(
            f"{table} is not written anew: it has rows of {', '.join(lost[:3])}"
            f"{' and others' if len(lost) > 3 else ''}, which cannot be read now",
            RuntimeWarning,
            stacklevel=3,
        )
        return
    write_frame(table, frame)


def measured_with(frame: polars.DataFrame) -> str:
    """Says how the numbers of a table were measured, in a line for tables and figures.

    Args:
        frame: the table of `gather`, or the rows of a run.
    """
    plain = frame.filter(polars.col("metric").is_in(METRICS))
    parts = []
    for column, text in (
        ("num_sequences", "{} sequences a length"),
        ("evaluation_seed", "evaluation seed {}"),
    ):
        values = plain[column].drop_nulls().unique().sort().to_list() if column in plain else []
        if values:
            parts.append(text.format(" and ".join(map(str, values))))
    older = frame["passed_over"].drop_nulls() if "passed_over" in frame.columns else []
    if len(older):
        parts.append("some of an older checkpoint, since the last one is damaged")
    return ", ".join(parts)


def _horizons(frame: polars.DataFrame, metric: str) -> dict[str, Any]:
    rows = frame.filter(polars.col("metric") == metric).sort("length")
    found: dict[str, Any] = {"metric": metric}
    for name, threshold in HORIZONS.items():
        reached = horizon(rows["length"].to_list(), rows["value"].to_list(), threshold)
        found |= {name: reached.length, f"{name}_open": reached.open_ended}
    return found


def _table(rows: Sequence[Mapping[str, Any]]) -> polars.DataFrame:
    """Makes a table of rows; missing values are null, and columns of several types become text."""
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


def training_records(sweep_folder: str | Path) -> polars.DataFrame:
    """Reads the records of all members from their files `metrics.jsonl`.

    Args:
        sweep_folder: the folder of a sweep, or its name in `sweeps/`.

    Returns:
        A table with one row per member and record. Its columns are `member`, `step`, `seconds`
        (since training began, without compiling; in a group, the member's share of the time),
        `loss`, `token_accuracy` and `sequence_accuracy` (null if numbers are predicted).

    Raises:
        RunError: there is no such sweep.
        ConfigError: its sweep.yaml is not valid.
    """
    rows = []
    opened = SweepFolder(find_sweep(sweep_folder))
    for run in map(opened.run, opened.plan.members):
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
    """Reads the records of a member; returns none if the file is damaged (`gather` reports it)."""
    try:
        return run.metrics
    except DamagedError:
        return []
