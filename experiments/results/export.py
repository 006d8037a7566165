"""Summaries and costs of settings for people: as text, CSV, LaTeX and Markdown."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars

from experiments.results.summary import grouping, settings, text, titles
from experiments.tables import Table, check_format, to_latex, to_markdown, to_text

Cell = Callable[[Mapping[str, Any]], str]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _spread(value: float | None, spread: float | None) -> str:
    return _number(value) if spread is None else f"{_number(value)} ± {spread:.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None else f"{low:.2f}-{high:.2f}"


def _success(row: Mapping[str, Any]) -> str:
    if not row["trials"]:
        return ""
    interval = _interval(row["success_low"], row["success_high"])
    return f"{row['successes']}/{row['trials']} ({interval})"


def _horizon(row: Mapping[str, Any]) -> str:
    return "" if row["horizon"] is None else f"{'≥' * row['horizon_open']}{row['horizon']:,}"


_CELLS: Mapping[str, Cell] = {
    "metric": lambda row: row["metric"],
    "length": lambda row: f"{row['length']:,}",
    "n": lambda row: (
        str(row["n"]) if row["n"] == row["members"] else f"{row['n']}/{row['members']}"
    ),
    "best": lambda row: _number(row["best"]),
    "median ± MAD": lambda row: _spread(row["median"], row["mad"]),
    "mean ± std": lambda row: _spread(row["mean"], row["std"]),
    "95% of mean": lambda row: _interval(row["mean_low"], row["mean_high"]),
    "success (95%)": _success,
    "horizon": _horizon,
}


def readable(summary: polars.DataFrame) -> Table:
    """Formats a summary (`summarize`) for people; a metric that all rows share is left out.

    Example:
        >>> import polars
        >>> from experiments.results import readable, summarize
        >>> about = {"member": ["seed=0", "seed=1"], "status": "finished"}
        >>> measured = {"metric": "sequence", "length": 40, "value": [1.0, 0.5]}
        >>> reached = {"horizon_90": [40, 0], "horizon_90_open": [True, False]}
        >>> frame = polars.DataFrame({**about, **measured, **reached})  # a part of `gather`'s
        >>> table = readable(summarize(frame, by=[]))
        >>> dict(zip(table.headers, table.rows[0], strict=True))["median ± MAD"]
        '0.750 ± 0.250'
    """
    by = summary.columns[: summary.columns.index("metric")]
    names = titles(by)
    cells = {names[name]: _value(name) for name in by}
    cells |= {name: cell for name, cell in _CELLS.items() if name != "metric" or _several(summary)}
    rows = tuple(
        tuple(cell(row) for cell in cells.values()) for row in summary.iter_rows(named=True)
    )
    return Table(tuple(cells), rows, len(by))


def _several(summary: polars.DataFrame) -> bool:
    return summary["metric"].n_unique() > 1


def _value(name: str) -> Cell:
    return lambda row: text(row[name])


def to_csv(summary: polars.DataFrame) -> str:
    """Returns all columns of a summary as CSV, with all digits.

    Example:
        >>> import polars
        >>> from experiments.results import to_csv
        >>> print(to_csv(polars.DataFrame({"length": [40, 80], "best": [1.0, 0.5]})), end="")
        length,best
        40,1.0
        80,0.5
    """
    return summary.write_csv()


def export(summary: polars.DataFrame, form: str) -> str:
    """Returns a summary as text.

    Args:
        summary: a table from `summarize`.
        form: `table` (plain text), `csv`, `latex` or `markdown`.

    Raises:
        ConfigError: `form` is none of these.

    Example:
        >>> import polars
        >>> from experiments.results import export, summarize
        >>> about = {"member": ["seed=0", "seed=1"], "status": "finished"}
        >>> measured = {"metric": "sequence", "length": 40, "value": [1.0, 0.5]}
        >>> reached = {"horizon_90": [40, 0], "horizon_90_open": [True, False]}
        >>> frame = polars.DataFrame({**about, **measured, **reached})  # a part of `gather`'s
        >>> print(export(summarize(frame, by=[]), "table"), end="")
        length  n   best   median ± MAD     mean ± std  95% of mean    success (95%)  horizon
            40  2  1.000  0.750 ± 0.250  0.750 ± 0.354    0.50-1.00  1/2 (0.09-0.91)        0
    """
    check_format(form)
    if form == "csv":
        return to_csv(summary)
    to = {"table": to_text, "latex": to_latex, "markdown": to_markdown}[form]
    return to(readable(summary))


# The names in cost.json, and the names that people read.
COSTS = {
    "parameters": "parameters",
    "state_size": "state",
    "flops_per_token": "FLOPs a token",
    "tokens_per_second": "tokens/s",
    "members_in_program": "members a program",
    "peak_memory_bytes": "memory of the program",
}
# These depend on the whole program and not on a setting alone: comparing them says little.
_OF_PROGRAMS = ("members_in_program", "peak_memory_bytes")


def summarize_costs(frame: polars.DataFrame, by: Sequence[str] | None = None) -> polars.DataFrame:
    """Computes the median of each cost over the members of a setting.

    Args:
        frame: the table that `gather` returns.
        by: the columns whose values make a setting; None: all that vary, except for the seed.

    Returns:
        One row per setting with the columns `by`, then those of `COSTS`; null if no member has the
        cost.

    Raises:
        ConfigError: a column is not in the table.
    """
    columns = grouping(frame, by)
    members = frame.unique(subset=["member"], maintain_order=True)
    rows = [
        {**setting.values, **{name: _median(setting.rows, f"cost.{name}") for name in COSTS}}
        for setting in settings(members, columns)
    ]
    return polars.DataFrame(rows, infer_schema_length=None)


def readable_costs(costs: polars.DataFrame) -> Table:
    """Formats costs for people, with the difference from those of the first setting.

    Args:
        costs: the table that `summarize_costs` returns.
    """
    by = [name for name in costs.columns if name not in COSTS]
    names = titles(by)
    known = [name for name in COSTS if not costs[name].is_null().all()]
    rows = tuple(
        (
            *(text(row[name]) for name in by),
            *(_cell(name, row[name], costs[name][0]) for name in known),
        )
        for row in costs.iter_rows(named=True)
    )
    headers = (*names.values(), *(COSTS[name] for name in known))
    return Table(headers, rows, len(by))


def _median(rows: polars.DataFrame, column: str) -> float | None:
    values = rows[column].drop_nulls().to_list() if column in rows.columns else []
    return statistics.median(values) if values else None


def _cell(name: str, value: float | None, first: float | None) -> str:
    if value is None:
        return ""
    shown = f"{value / 2**20:,.1f} MiB" if name.endswith("bytes") else f"{value:,.0f}"
    if name in _OF_PROGRAMS or not first or value == first:
        return shown
    return f"{shown} ({value / first - 1:+.0%})"
