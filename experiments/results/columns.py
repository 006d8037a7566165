"""Config fields as columns: `model.mixer.transition.dim`, and their short names."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.config import ConfigError, ExperimentConfig, to_document
from tasks.base import nearest

Scalar = str | int | float | bool | None

# What a field is called where people read it; others go by the tail of their path.
TITLES: Mapping[str, str] = {
    "task.name": "task",
    "model.mixer.transition.kind": "transition",
    "model.mixer.transition.dim": "JT",
    "model.num_blocks": "blocks",
    "model.mixer.num_heads": "heads",
}


def flatten(config: ExperimentConfig) -> dict[str, Scalar]:
    """Every field of a config by its dotted path; lists as JSON."""
    return dict(_leaves(to_document(config), ()))


def _leaves(node: Any, path: tuple[str, ...]) -> Iterable[tuple[str, Scalar]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _leaves(value, (*path, str(name)))
    elif node is None or isinstance(node, str | int | float | bool):
        yield ".".join(path), node
    else:
        yield ".".join(path), json.dumps(node)


def varied_fields(
    configs: Sequence[ExperimentConfig], within: tuple[str, ...] = ()
) -> dict[str, list[Scalar]]:
    """The fields that are not the same in all configs, and their values.

    Args:
        configs: any.
        within: only fields that start with one of these; empty: all.
    """
    flat = [flatten(config) for config in configs]
    fields = dict.fromkeys(name for one in flat for name in one)
    values = {name: [one.get(name) for one in flat] for name in fields}
    return {
        name: column
        for name, column in values.items()
        if len(set(column)) > 1 and (not within or name.split(".")[0] in within)
    }


def short_names(fields: Iterable[str]) -> dict[str, str]:
    """The shortest tails that tell fields apart, or their titles."""
    fields = list(fields)
    return {field: TITLES.get(field) or _tail(field, fields) for field in fields}


def _tail(field: str, fields: Sequence[str]) -> str:
    parts = field.split(".")
    for length in range(1, len(parts)):
        tail = ".".join(parts[-length:])
        if not any(other != field and f".{other}".endswith(f".{tail}") for other in fields):
            return tail
    return field


def resolve(name: str, columns: Sequence[str]) -> str:
    """The column that a name stands for: its path, title, or a tail of its path.

    As with the fields of a config, the shortest path with that tail wins if it is alone.

    Raises:
        ConfigError: there is none, or several.
    """
    if name in columns:
        return name
    titled = [column for column in columns if TITLES.get(column) == name]
    matches = titled or [column for column in columns if column.endswith(f".{name}")]
    shortest = min((match.count(".") for match in matches), default=0)
    matches = [match for match in matches if match.count(".") == shortest]
    if not matches:
        tails = {".".join(column.split(".")[-(name.count(".") + 1) :]) for column in columns}
        raise ConfigError(f"no column {name!r}; {nearest(name, sorted(tails))}")
    if len(matches) > 1:
        raise ConfigError(f"column {name!r} is ambiguous: it may be {', '.join(matches)}")
    return matches[0]
