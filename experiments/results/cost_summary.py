"""What the settings of a sweep cost, beside each other."""

import statistics
from collections.abc import Sequence

import polars

from experiments.results.export import Table
from experiments.results.settings import grouping, settings, text, titles

# In cost.json, and what they are called where people read them.
COSTS = {
    "parameters": "parameters",
    "state_size": "state",
    "flops_per_token": "FLOPs a token",
    "tokens_per_second": "tokens/s",
    "members_in_program": "members a program",
    "peak_memory_bytes": "memory of the program",
}
# These belong to a program rather than to a setting: comparing them says little.
_OF_PROGRAMS = ("members_in_program", "peak_memory_bytes")


def summarize_costs(frame: polars.DataFrame, by: Sequence[str] | None = None) -> polars.DataFrame:
    """Medians of the costs of each setting over its members.

    Args:
        frame: of `gather`.
        by: what makes a setting; None: all that varies but the seed.

    Returns:
        One row per setting: the columns `by`, then those of `COSTS`; null where no member knows.

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
    """Costs as people read them, with how they differ from those of the first setting.

    Args:
        costs: of `summarize_costs`.
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
