"""The outcomes of probes as a table for people."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from experiments.console import plain, plain_table
from experiments.probing.probes import Probed

_MOST = 12


def table(found: Mapping[str, Probed]) -> Table:
    """A table with a row for each number, or list of numbers, that a probe found."""
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
