"""Names the fields of a config by dotted paths, to change them (`a.b.c=value`) and in tables.

A field may be named by any end of its path that no other field has: `transition.dim` stands for
`model.mixer.transition.dim`. If a field can hold things of several kinds, a kind can be assigned to
it: `transition=orthogonal`. Values that were changed in the old kind are kept in the new one if it
has the same field.
"""

import copy
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiments.config import (
    ExperimentConfig,
    TaskConfig,
    check_config,
    default_config,
    filled,
    make_problem,
    read_task,
    task_document,
    to_document,
)
from experiments.reading import (
    LONGEST_MESSAGE,
    ConfigError,
    Path,
    dataclasses_of,
    hints,
    kinds_of,
    read,
    told,
)
from experiments.scalars import parse_assignment
from tasks.options import alike, nearest, shown

Scalar = str | int | float | bool


def override(config: ExperimentConfig, assignments: Iterable[str]) -> ExperimentConfig:
    """Changes fields of a config by their names.

    Assignments of a kind, such as `transition=orthogonal`, come first, whatever the order.

    Args:
        config: the config; it is not changed itself.
        assignments: texts of the form `path=value`. A path may be shortened to an end that no other
            field has. Values are YAML (`3e-3`, `true`, `null`, `[64, 256]`).

    Returns:
        A new config.

    Raises:
        ConfigError: a path is unknown or names several fields, or a value is wrong.

    Example:
        >>> from experiments import default_config, override
        >>> words = ["transition=diagonal", "transition.dim=1", "training.steps=500"]
        >>> config = override(default_config("parity"), words)
        >>> config.model.mixer.transition.kind, config.training.steps
        ('diagonal', 500)
    """
    return assign(config, [parse_assignment(assignment) for assignment in assignments])


def assign(config: ExperimentConfig, pairs: Sequence[tuple[Path, Any]]) -> ExperimentConfig:
    """Changes fields of a config as `override` does, from paths and values.

    Args:
        config: the config; it is not changed itself.
        pairs: for each field, its path or an end of its path, and the new value.

    Raises:
        ConfigError: a path is unknown or names several fields, or a value is wrong.
    """
    kinds = [pair for pair in pairs if sets_kind(config, pair)]
    values = [pair for pair in pairs if pair not in kinds]
    changed = config
    misfits: dict[Path, tuple[Any, ConfigError]] = {}
    for path, kind in kinds:
        changed = _with_kind(changed, resolve(changed, path), kind, misfits)
    known = None
    # The task comes first, because the defaults of other parts follow from it.
    for path, value in sorted(values, key=lambda pair: pair[0][0] != "task"):
        known = _known(changed) if known is None else known
        whole = _resolved(changed, path, known)
        changed = _with_value(changed, whole, value)
        if whole[0] == "task" or not isinstance(value, Scalar | list):
            known = None  # there may be other fields now
    for path, (value, error) in misfits.items():
        if value_at(changed, path) is value:
            raise error
    changed = _checked(changed)
    check_config(changed)
    return changed


def _with_kind(
    config: ExperimentConfig, path: Path, kind: Any, misfits: dict[Path, tuple[Any, ConfigError]]
) -> ExperimentConfig:
    """The config with another kind of thing at a path, and what of the old one was changed.

    Values of the old one that the new kind refuses are added to `misfits`, with the error: another
    assignment may replace them.
    """
    path = path[:-1] if path[-1] == "kind" else path
    classes = kinds_of(_form(config, path))
    if str(kind) not in classes:
        close = nearest(str(kind), classes)
        raise ConfigError(f"{'.'.join(path)}: unknown kind {shown(kind)}; {close}")
    old, new = value_at(config, path), classes[str(kind)]()
    before = type(old)()
    for field in dataclasses.fields(new):
        name, value = field.name, getattr(old, field.name, None)
        if name == "kind" or not hasattr(old, name) or value == getattr(before, name):
            continue
        form = hints(type(new))[name]
        if not dataclasses.is_dataclass(value):
            try:
                value = read(form, value, (*path, name))
            except ConfigError as error:
                misfits[(*path, name)] = (value, error)
        elif type(value) not in dataclasses_of(form):
            continue
        new = _put(new, (name,), value)
    return _put(config, path, new)


def _with_value(config: ExperimentConfig, path: Path, value: Any) -> ExperimentConfig:
    """Returns the config with a value at a path; the value is given as YAML holds it."""
    if path[0] == "task":
        document = {"task": task_document(config.task)}
        node: Any = document
        for name in path[:-1]:
            node = node[name]
        node[path[-1]] = value
        return _put(config, ("task",), read_task(document["task"]))
    if len(path) == 1:
        value = filled(
            path[0], value, lambda: default_config(config.task.name, **config.task.options)
        )
    return _put(config, path, read(_form(config, path), value, path))


def _form(config: ExperimentConfig, path: Path) -> Any:
    """Returns the type of the field at a path."""
    return hints(type(value_at(config, path[:-1])))[path[-1]]


def _put(node: Any, path: Sequence[str], value: Any) -> Any:
    """Copies a part of a config with another value at a path, without any checks.

    `_checked` checks the whole config after all changes.
    """
    if not path:
        return value
    changed = copy.copy(node)
    inside = _put(getattr(node, path[0]), path[1:], value)
    object.__setattr__(changed, path[0], inside)
    return changed


def _checked(config: ExperimentConfig) -> ExperimentConfig:
    """Makes the same config anew, so that every part checks its fields.

    Raises:
        ConfigError: a part refuses its fields.
    """
    mistakes: dict[str, str] = {}

    def made(node: Any, path: Path) -> Any:
        if not dataclasses.is_dataclass(node) or isinstance(node, type):
            return node
        before = len(mistakes)
        fields = {
            field.name: made(getattr(node, field.name), (*path, field.name))
            for field in dataclasses.fields(node)
        }
        if len(mistakes) == before:
            try:
                return type(node)(**fields)
            except ValueError as error:
                mistakes[".".join(path)] = str(error)[:LONGEST_MESSAGE]
        return node

    whole = made(config, ())
    if mistakes:
        raise ConfigError(told(mistakes))
    return whole


def _parts(node: Any) -> Mapping[str, Any]:
    """Returns the fields of a part of a config or document, as a document holds them."""
    if isinstance(node, TaskConfig):
        return {"name": node.name, **node.options}
    if dataclasses.is_dataclass(node):
        return {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    return node if isinstance(node, Mapping) else {}


def _fields(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yields every path of a config or document, and its value."""
    for name, value in _parts(node).items():
        yield (*path, name), value
        if not isinstance(value, Scalar | tuple | list | None):
            yield from _fields(value, (*path, name))


def resolve(config: ExperimentConfig, path: Path) -> Path:
    """Returns the whole path of a field that is named by an end of its path.

    Args:
        config: the config that has the field.
        path: the path, or an end of it.

    Raises:
        ConfigError: there is no such field, or more than one.
    """
    return _resolved(config, path, _known(config))


def _known(config: ExperimentConfig) -> list[Path]:
    return [path for path, _ in _fields(config)]


def _resolved(config: ExperimentConfig, path: Path, known: Sequence[Path]) -> Path:
    """As `resolve`, for a config whose paths are known."""
    if path in known or path[:-1] == ("task",):
        return path
    matches = _ending_in(path, known)
    name = ".".join(path)
    if not matches:
        _refuse_in_null(config, path)
        raise ConfigError(f"unknown field {shown(name)}; {_nearest_field(config, path, known)}")
    if len(matches) > 1:
        options = ", ".join(".".join(match) for match in matches)
        raise ConfigError(f"field {name!r} is ambiguous: it may be {options}")
    return matches[0]


def _nearest_field(config: ExperimentConfig, path: Path, known: Iterable[Path]) -> str:
    """Names the fields with the most similar names, for a message.

    Options of the task that are not set yet are shown with their whole path.
    """
    task = make_problem(config.task).task
    options = [("task", field.name) for field in dataclasses.fields(task) if field.init]
    names = {".".join(option[-len(path) :]): ".".join(option) for option in options}
    names |= {tail: tail for tail in _tails(path, known)}
    name = ".".join(path)
    close = [name] if name in names else alike(name, sorted(names))
    return f"nearest: {', '.join(names[one] for one in close)}"


def _tails(path: Path, known: Iterable[Path]) -> set[str]:
    """Returns the ends of the known paths that have as many parts as `path`."""
    return {".".join(candidate[-len(path) :]) for candidate in known}


def _ending_in(path: Path, known: Iterable[Path]) -> list[Path]:
    """Returns the shortest of the known paths that end in `path`.

    Short paths win because a name should stand for a field of the named part itself, and not for
    one of a part deeper inside.
    """
    matches = [candidate for candidate in known if candidate[-len(path) :] == path]
    shortest = min(map(len, matches), default=0)
    return [match for match in matches if len(match) == shortest]


def _refuse_in_null(config: ExperimentConfig, path: Path) -> None:
    """Refuses a path that leads into a field whose value is None."""
    for end in range(len(path) - 1, 0, -1):
        parent = path[:end]
        if any(value is None for known, value in _fields(config) if known[-end:] == parent):
            name = ".".join(parent)
            raise ConfigError(
                f"{'.'.join(path)!r}: {name} is null and has no fields; "
                f"{name}={{FIELD: VALUE}} sets one"
            )


def value_at(part: Any, path: Sequence[str]) -> Any:
    """Returns the value at a path of a config, a part of one or a document, or None if none."""
    for name in path:
        part = _parts(part).get(name)
    return part


def sets_kind(config: ExperimentConfig, pair: tuple[Path, Any]) -> bool:
    """Returns whether an assignment sets the kind of a field of a config."""
    path, value = pair
    if path[0] == "task":  # a task may have an option that is called `kind`
        return False
    if path[-1] == "kind":
        return True
    return isinstance(value, str) and any(
        known[-len(path) :] == path and "kind" in _parts(node) for known, node in _fields(config)
    )


# Names of fields in tables and figures. Other fields are named by an end of their path.
TITLES: Mapping[str, str] = {
    "task.name": "task",
    "model.mixer.transition.kind": "transition",
    "model.mixer.transition.dim": "JT",
    "model.num_blocks": "blocks",
    "model.mixer.num_heads": "heads",
}


def flatten(config: ExperimentConfig) -> dict[str, Scalar | None]:
    """Returns every field of a config by its dotted path, with lists as JSON."""
    return {
        ".".join(path): value if value is None or isinstance(value, Scalar) else json.dumps(value)
        for path, value in _fields(to_document(config))
        if not isinstance(value, Mapping)
    }


def varied_fields(
    configs: Sequence[ExperimentConfig], within: tuple[str, ...] = ()
) -> dict[str, list[Scalar | None]]:
    """Returns the fields that are not the same in all configs, each with a value per config.

    Args:
        configs: the configs.
        within: parts of a config, such as `model`; only their fields are taken. Empty: all parts.
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
    """Returns a short name for each field: its title, or the shortest end that is its own."""
    fields = list(fields)
    return {field: TITLES.get(field) or _tail(field, fields) for field in fields}


def _tail(field: str, fields: Sequence[str]) -> str:
    parts = field.split(".")
    for length in range(1, len(parts)):
        tail = ".".join(parts[-length:])
        if not any(other != field and f".{other}".endswith(f".{tail}") for other in fields):
            return tail
    return field


def resolve_column(name: str, columns: Sequence[str]) -> str:
    """Returns the column that a name stands for: its path, its title, or an end of its path.

    Raises:
        ConfigError: there is no such column, or several.
    """
    if name in columns:
        return name
    path, known = tuple(name.split(".")), [tuple(column.split(".")) for column in columns]
    titled = [column for column in columns if TITLES.get(column) == name]
    matches = titled or [".".join(match) for match in _ending_in(path, known)]
    if not matches:
        raise ConfigError(f"no column {name!r}; {nearest(name, sorted(_tails(path, known)))}")
    if len(matches) > 1:
        raise ConfigError(f"column {name!r} is ambiguous: it may be {', '.join(matches)}")
    return matches[0]
