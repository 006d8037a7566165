"""What `protocol` prints, and how its arguments are read."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from experiments.config import ConfigError
from experiments.console import plain_table
from experiments.protocols.protocol import Protocol
from experiments.sweeps.values import parse_values


def row(protocol: Protocol) -> dict[str, Any]:
    """A protocol in one row."""
    return {
        "name": protocol.name,
        "tasks": len(protocol.tasks),
        "seeds": len(protocol.seeds),
        "rates": len(protocol.rates),
        "title": protocol.title,
        "paper": protocol.source.paper,
    }


def list_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The protocols as a table."""
    table = plain_table("protocol", "tasks", "seeds", "rates", "what")
    table.columns[-1].justify = "left"
    for one in rows:
        numbers = (str(one[name]) for name in ("tasks", "seeds", "rates"))
        table.add_row(one["name"], *numbers, Text(one["title"]))
    return table


def describe(protocol: Protocol) -> dict[str, Any]:
    """All about a protocol but the published numbers."""
    measure = protocol.measure
    return {
        **row(protocol),
        "section": protocol.source.section,
        "repository": protocol.source.repository,
        "tasks": {name: {"name": t.name, **t.options} for name, t in protocol.tasks.items()},
        "config": dict(protocol.config),
        "model": dict(protocol.model),
        "models": {name: dict(fields) for name, fields in protocol.models.items()},
        "vary": dict(protocol.vary),
        "seeds": list(protocol.seeds),
        "rates": list(protocol.rates),
        "measure": {
            "kind": measure.kind,
            "metric": measure.metric,
            "statistics": list(protocol.statistics),
            "scaled": measure.scaled,
        },
        "published_models": list(dict.fromkeys(one.model for one in protocol.published)),
        "findings": list(protocol.findings),
        "differences": list(protocol.differences),
    }


def description(about: dict[str, Any]) -> Group:
    """A protocol for people."""
    lines = [Text(about["title"]), Text(f"{about['paper']}; {about['section']}")]
    if about["repository"]:
        lines.append(Text(about["repository"]))
    table = plain_table("field", "value")
    table.columns[-1].justify = "left"
    for name in ("tasks", "config", "model", "models", "vary", "measure"):
        for field, value in about[name].items():
            table.add_row(f"{name}.{field}", Text(str(value)))
    for name in ("seeds", "rates"):
        table.add_row(name, Text(", ".join(map(str, about[name]))))
    notes = [
        Text(line)
        for title, name in (("Found without a number", "findings"), ("Here", "differences"))
        if about[name]
        for line in (f"{title}:", *(f"- {line}" for line in about[name]))
    ]
    return Group(*lines, Text(""), table, Text(""), *notes)


def plan_table(rows: Sequence[dict[str, Any]]) -> Table:
    """What cells would be, as a table."""
    table = plain_table("model", "task", "members", "programs", "steps", "batch", "folder")
    for column in (table.columns[1], table.columns[-1]):
        column.justify = "left"
    for column in table.columns:
        column.overflow = "fold"
    for one in rows:
        names = ("model", "task", "members", "programs", "steps", "batch", "folder")
        table.add_row(*(Text(str(one[name])) for name in names))
    return table


def rates(option: str, text: str | None) -> list[float] | None:
    """`1e-3,3e-3` as numbers.

    Raises:
        ConfigError: something else.
    """
    values = None if text is None else parse_values(option, text)
    if values is None:
        return None
    if not all(isinstance(v, int | float) and v > 0 for v in values):
        raise ConfigError(f"{option} {text}: learning rates such as 1e-3,3e-3 are expected")
    return [float(value) for value in values]
