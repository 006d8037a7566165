"""Tables that show published numbers next to ours."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars

from experiments.config import ConfigError
from experiments.files import RunError
from experiments.protocols.protocol import SPREADS, Protocol
from experiments.protocols.values import About, begun, check_scale, numbers
from experiments.sweeps.rows import gather
from experiments.tables import Table, check_format, to_latex, to_markdown, to_text

PAPER, HERE = "paper", "here"
_SCHEMA = {
    "model": polars.String,
    "origin": polars.String,
    "read": polars.String,
    "source": polars.String,
    "scale": polars.Float64,
    "task": polars.String,
    "length": polars.Int64,
    "statistic": polars.String,
    "value": polars.Float64,
    "spread": polars.Float64,
    "learning_rate": polars.Float64,
    "n": polars.Int64,
    "members": polars.Int64,
    "device": polars.String,
    "jax": polars.String,
    "date": polars.String,
}
_NAMES = {"median": "median ± MAD", "mean": "mean ± std", "depth": "fewest blocks"}
_READ = {"table": "paper", "figure": "paper, off a figure", "memory": "paper, from memory"}

Row = dict[str, Any]


class Comparison(NamedTuple):
    """The table of a protocol: the published numbers and ours.

    Attributes:
        protocol: the protocol.
        frame: a row for each number. Every row has the columns `model`, `origin` (`paper` or
            `here`), `task`, `length`, `statistic`, `value` and `spread`. Published numbers have
            `read`, how they were read, and `source`, if it is not that of the protocol. Ours have
            `scale`, the `learning_rate` that was chosen, the number of members (`members`) and of
            evaluated members (`n`), `device`, `jax` and `date`.

    Example:
        >>> from experiments.protocols import Comparison, compare, load
        >>> compared: Comparison = compare(load("chomsky_regular"))
        >>> compared.frame.select("model", "task", "statistic", "value").row(0)
        ('Transformer', 'parity', 'best', 0.022)
    """

    protocol: Protocol
    frame: polars.DataFrame


def compare(protocol: Protocol, *, scale: float | None = None) -> Comparison:
    """Gathers what was published and what has been measured here.

    Args:
        protocol: the protocol.
        scale: only runs of this scale; None: those of every scale.

    Raises:
        ConfigError: there can be no run of that scale.
        RuntimeWarning: a file of a cell is damaged; the cell is left out.

    Example:
        >>> from experiments.protocols import compare, load
        >>> frame = compare(load("chomsky_regular")).frame
        >>> frame.filter(model="mLSTM", task="parity")["value"].to_list()
        [0.087, 0.018]
    """
    if scale is not None:
        check_scale(scale)
    rows = [*_published(protocol), *_ours(protocol, scale)]
    return Comparison(protocol, polars.DataFrame(rows, schema=_SCHEMA))


def _published(protocol: Protocol) -> Iterator[Row]:
    for row in protocol.published:
        for column, given in row.values.items():
            task, _, length = column.partition("@")
            values = given if isinstance(given, dict) else {protocol.statistics[0]: given}
            for name in protocol.statistics:
                if name in values:
                    yield _row(
                        model=row.model,
                        origin=PAPER,
                        read=row.read,
                        source=row.source,
                        task=task,
                        length=int(length) if length else None,
                        statistic=name,
                        value=values[name],
                        spread=values.get(SPREADS.get(name, "")),
                    )


def _ours(protocol: Protocol, scale: float | None) -> Iterator[Row]:
    cells: dict[tuple[str, float, str], list[tuple[Path, About]]] = {}
    for folder, about in begun(protocol.name):
        if about.task in protocol.tasks and scale in (None, about.scale):
            key = (about.model, about.scale, about.task)
            cells.setdefault(key, []).append((folder, about))
    for (model, own_scale, task), folders in cells.items():
        frames = [frame for folder, _ in folders if (frame := _frame(folder)) is not None]
        if not frames:
            continue
        frame = polars.concat(frames, how="diagonal_relaxed")
        made = {
            "device": _only(frame, "environment.device"),
            "jax": _only(frame, "environment.jax"),
            "date": max(about.date for _, about in folders),
        }
        for number in numbers(protocol, task, frame):
            yield _row(
                model=model,
                origin=HERE,
                scale=own_scale,
                task=task,
                learning_rate=number.rate,
                **{name: value for name, value in number._asdict().items() if name != "rate"},
                **made,
            )


def _frame(folder: Path) -> polars.DataFrame | None:
    """Returns the rows of a sweep, its members named by their folders; None: it is unreadable."""
    within = polars.concat_str(polars.lit(f"{folder.name}/"), polars.col("member"))
    try:
        return gather(folder).with_columns(within.alias("member"))
    except (RunError, ConfigError) as error:
        warnings.warn(f"{error} (the cell is left out)", RuntimeWarning, stacklevel=2)
        return None


def _only(frame: polars.DataFrame, column: str) -> str | None:
    values = frame[column].drop_nulls().unique().sort().to_list() if column in frame else []
    return ", ".join(map(str, values)) or None


def _row(**values: Any) -> Row:
    return {**dict.fromkeys(_SCHEMA), **values}


def readable(comparison: Comparison) -> Table:
    """Formats the table for people: a row for each model, or each task and model if by length."""
    protocol, frame = comparison
    by_length = protocol.by_length
    columns = _columns(comparison)
    keys = ["model", "origin", "read", "source", "scale", *(["task"] if by_length else [])]
    own = "length" if by_length else "task"
    whole = protocol.measure.kind in ("horizon", "depth")
    rows = []
    ordered = frame.with_columns(polars.col("task").replace_strict(_order(protocol)).alias("at"))
    ordered = ordered.sort("at", maintain_order=True) if by_length else ordered
    for values in ordered.select(keys).unique(maintain_order=True).iter_rows(named=True):
        found = ordered.filter(*(polars.col(k).eq_missing(v) for k, v in values.items()))
        words = [values["task"]] if by_length else []
        words += [values["model"], _from(values)]
        missing = "not run" if values["origin"] == HERE else ""
        cells = [
            _cell(found.filter(polars.col(own) == c).to_dicts(), missing, whole) for c in columns
        ]
        rows.append((*words, *cells))
    headers = (*(["task"] if by_length else []), "model", "from", *map(str, columns))
    return Table(headers, tuple(rows), 2 + by_length)


def _order(protocol: Protocol) -> Mapping[str, int]:
    return {task: index for index, task in enumerate(protocol.tasks)}


def _columns(comparison: Comparison) -> list[Any]:
    protocol, frame = comparison
    if protocol.by_length:
        return frame["length"].drop_nulls().unique().sort().to_list()
    return list(protocol.tasks)


def _from(values: Mapping[str, Any]) -> str:
    if values["origin"] == PAPER:
        return _READ[values["read"]]
    return "here" if values["scale"] == 1 else f"here, scaled {values['scale']:g}"


def _cell(rows: Sequence[Row], missing: str, whole: bool) -> str:
    if not rows:
        return missing
    text = " / ".join(_number(row, whole) for row in rows)
    members, n = rows[0]["members"], rows[0]["n"]
    if members is None or n == members:
        return text
    return f"{text} ({n} of {members})" if n else f"0 of {members}"


def _number(row: Row, whole: bool) -> str:
    value, spread = row["value"], row["spread"]
    if value is None:
        return "none"
    text = f"{value:.0f}" if whole else f"{value:.3f}"
    return text if spread is None else f"{text} ± {spread:.3f}"


def notes(comparison: Comparison) -> list[str]:
    """Explains the numbers, where ours come from and what was not run, one line for each."""
    protocol, frame = comparison
    measure = protocol.measure
    shown = " / ".join(_NAMES.get(name, name) for name in protocol.statistics)
    kind = "accuracy, chance at 0" if measure.scaled else "accuracy"
    what = {
        "mixture": f"{measure.metric.replace('_', ' ')} {kind}, all test lengths together",
        "lengths": f"{measure.metric} {kind} at each length",
        "horizon": f"the longest length up to which {measure.metric} accuracy is "
        f"{measure.threshold:g} or more",
        "depth": f"of which a member has {measure.metric} accuracy {measure.threshold:g} or more",
    }[measure.kind]
    lines = [f"{protocol.source.paper}; {protocol.source.section}", f"{shown}: {what}"]
    for (source,), own in frame.drop_nulls("source").group_by("source", maintain_order=True):
        lines.append(f"{', '.join(own['model'].unique(maintain_order=True))}: {source}")
    ours = frame.filter(origin=HERE)
    for row in (
        ours.select("model", "scale", "device", "jax", "date")
        .unique(maintain_order=True)
        .iter_rows(named=True)
    ):
        own = ours.filter(*(polars.col(k).eq_missing(v) for k, v in row.items()))
        counts = own["n"].max(), own["members"].max()
        rates = own["learning_rate"].drop_nulls().unique().sort().to_list()
        chosen = ", ".join(f"{rate:g}" for rate in rates)
        scaled = "" if row["scale"] == 1 else f", steps and warm-up scaled {row['scale']:g}"
        lines.append(
            f"{row['model']}{scaled}: {counts[0]} of {counts[1]} members a number (published: "
            f"{_published_members(protocol)}), learning rate {chosen or '-'}; "
            f"{row['device'] or '-'}, jax {row['jax'] or '-'}, {row['date']}"
        )
    if missing := not_run(comparison):
        lines.append(f"not run: {', '.join(missing)}")
    return lines


def _published_members(protocol: Protocol) -> int:
    depths = 1
    if protocol.measure.kind == "depth":
        depths = len(protocol.vary["num_blocks"])
    return depths * len(protocol.seeds) * len(protocol.rates)


def not_run(comparison: Comparison) -> list[str]:
    """Returns the tasks on which no model has been run here."""
    ran = set(comparison.frame.filter(origin=HERE)["task"].to_list())
    return [task for task in comparison.protocol.tasks if task not in ran]


def export(comparison: Comparison, form: str) -> str:
    """Returns the table as text.

    Args:
        comparison: the result of `compare`.
        form: `table` (text), `csv` (a row for each number), `latex` or `markdown`.

    Raises:
        ConfigError: `form` is none of these.

    Example:
        >>> from experiments.protocols import compare, export, load
        >>> for line in export(compare(load("merrill_depth")), "table").splitlines()[:3]:
        ...     print(line)
        task   model  from                 20
        Z60    RNN    paper, off a figure   1
        Z60    IDS4   paper, off a figure   1
    """
    check_format(form)
    if form == "csv":
        return comparison.frame.write_csv()
    table, lines = readable(comparison), notes(comparison)
    if form == "latex":
        return to_latex(table) + "".join(f"% {line}\n" for line in lines)
    text = to_markdown(table) if form == "markdown" else to_text(table)
    between = "\n\n" if form == "markdown" else "\n"
    return f"{text}\n{between.join(lines)}\n"
