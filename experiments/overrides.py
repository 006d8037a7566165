"""The fields of a config by dotted names: changing them by `a.b.c=value`, and as columns of tables.

A field may be named by any tail of its path that only one field has: `transition.dim` stands for
`model.mixer.transition.dim`. Where a field is one of several kinds of thing, its kind can be
assigned to it: `transition=orthogonal`. What was changed in the old kind stays where the new one
has the field.
"""

import dataclasses
import json
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Any

import yaml
from pydantic_core import to_jsonable_python

from experiments import scalars
from experiments.config import ConfigError, ExperimentConfig, from_document, to_document
from tasks.options import nearest, shown

Path = tuple[str, ...]


def override(config: ExperimentConfig, assignments: Iterable[str]) -> ExperimentConfig:
    """Changes fields of a config by their names.

    Fields that say of which kind something is are changed first, whatever the order.

    Args:
        config: the config; it is not changed itself.
        assignments: each is `path=value`. A path may be shortened to its end as long as that names
            one field. Values are YAML (`3e-3`, `true`, `null`, `[64, 256]`).

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
    """Changes fields of a config; as `override`, from paths and values.

    Args:
        config: the config; it is not changed itself.
        pairs: the path of a field, or the end of it, and the new value.

    Raises:
        ConfigError: a path is unknown or names several fields, or a value is wrong.
    """
    document = to_document(config)
    kinds = [pair for pair in pairs if sets_kind(document, pair)]
    for path, value in kinds:
        _with_kind(document, resolve(document, path), value)
    for path, value in (pair for pair in pairs if pair not in kinds):
        _assign(document, resolve(document, path), value)
    return from_document(document)


def parse_assignment(assignment: str) -> tuple[Path, Any]:
    """A field's path and value from `path=value`.

    Raises:
        ConfigError: it is not of that form.
    """
    path, text = split_assignment(assignment)
    try:
        return path, parse_value(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{assignment!r}: {text!r} is not a YAML value: {error}") from None


def split_assignment(assignment: str) -> tuple[Path, str]:
    """A field's path and the text of its value.

    Raises:
        ConfigError: it is not of the form `path=value`.
    """
    path, equals, text = assignment.partition("=")
    if not equals or not all(path.strip().split(".")):
        raise ConfigError(f"{assignment!r}: expected field=value, such as training.steps=500")
    return tuple(path.strip().split(".")), text


def parse_value(text: str) -> Any:
    """A value written as YAML; `yaml.YAMLError` if it is none."""
    return scalars.load_value(text)


def _fields(document: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every path of the document and what is there."""
    for name, value in document.items():
        yield (*path, name), value
        if isinstance(value, Mapping):
            yield from _fields(value, (*path, name))


def resolve(document: Mapping[str, Any], path: Path) -> Path:
    """The whole path of the field that a tail of it names.

    Raises:
        ConfigError: there is no such field, or more than one.
    """
    known = [candidate for candidate, _ in _fields(document)]
    if path in known or path[:-1] == ("task",):
        return path
    matches = _ending_in(path, known)
    name = ".".join(path)
    if not matches:
        _refuse_in_null(document, path)
        raise ConfigError(f"unknown field {shown(name)}; {_nearest_tails(path, known)}")
    if len(matches) > 1:
        options = ", ".join(".".join(match) for match in matches)
        raise ConfigError(f"field {name!r} is ambiguous: it may be {options}")
    return matches[0]


def _ending_in(path: Path, known: Iterable[Path]) -> list[Path]:
    """The shortest of the known paths that end in a path.

    A field of a thing names the thing's own, not what lies deeper, so a short path wins.
    """
    matches = [candidate for candidate in known if candidate[-len(path) :] == path]
    shortest = min(map(len, matches), default=0)
    return [match for match in matches if len(match) == shortest]


def _nearest_tails(path: Path, known: Iterable[Path]) -> str:
    tails = {".".join(candidate[-len(path) :]) for candidate in known}
    return nearest(".".join(path), sorted(tails))


def _refuse_in_null(document: Mapping[str, Any], path: Path) -> None:
    """Says so where a field is asked for of something that is left out."""
    for end in range(len(path) - 1, 0, -1):
        parent = path[:end]
        if any(value is None for known, value in _fields(document) if known[-end:] == parent):
            name = ".".join(parent)
            raise ConfigError(
                f"{'.'.join(path)!r}: {name} is null and has no fields; "
                f"{name}={{FIELD: VALUE}} sets one"
            )


def value_at(document: Mapping[str, Any], path: Sequence[str]) -> Any:
    """What a document has at a path; None: nothing."""
    node: Any = document
    for name in path:
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def sets_kind(document: Mapping[str, Any], pair: tuple[Path, Any]) -> bool:
    """Whether an assignment puts another kind of thing at a path."""
    path, value = pair
    if not isinstance(value, str) or path[0] == "task":  # what a task calls so is an option of its
        return False
    if path[-1] == "kind":
        return True
    candidates = [
        p for p, node in _fields(document) if isinstance(node, Mapping) and "kind" in node
    ]
    return any(candidate[-len(path) :] == path for candidate in candidates)


def _with_kind(document: dict[str, Any], path: Path, kind: str) -> None:
    """Puts another kind of thing at a path, everything filled in."""
    path = path[:-1] if path[-1] == "kind" else path
    classes = kinds_at(path, document)
    if kind not in classes:
        raise ConfigError(f"{'.'.join(path)}: unknown kind {shown(kind)}; {nearest(kind, classes)}")
    old = value_at(document, path)
    before, after = (default_fields(classes[name]) for name in (old["kind"], kind))
    changed = {
        name: value
        for name, value in old.items()
        if name in after and name != "kind" and value != before.get(name)
    }
    kept = {name: value for name, value in changed.items() if fits(classes[kind], name, value)}
    _assign(document, path, {**after, **kept})


def _assign(document: dict[str, Any], path: Path, value: Any) -> None:
    node = document
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value


# Where nothing else is said of a model, it reads sequences.
_SEQUENCE: Mapping[str, Any] = {"model": {"kind": "sequence"}}


def kinds_at(path: tuple[str, ...], document: Mapping[str, Any] = _SEQUENCE) -> dict[str, type]:
    """The classes that the field at a path of `ExperimentConfig` may hold, by their `kind`.

    Args:
        path: of the field.
        document: a config's; of the things on the way to the field, their kinds count.
    """
    classes: list[type] = [ExperimentConfig]
    node: Any = document
    for name in path:
        kinds = _by_kind(classes)
        if isinstance(node, Mapping) and node.get("kind") in kinds:
            classes = [kinds[node["kind"]]]
        hints = [typing.get_type_hints(cls) for cls in classes]
        annotations = [hint[name] for hint in hints if name in hint]
        classes = [cls for annotation in annotations for cls in _dataclasses(annotation)]
        node = node.get(name) if isinstance(node, Mapping) else None
    return _by_kind(classes)


def fits(cls: type, name: str, value: Any) -> bool:
    """Whether a field of a class takes a document's value, as far as `kind` tells."""
    if not isinstance(value, Mapping) or "kind" not in value:
        return True
    return value["kind"] in _by_kind(_dataclasses(typing.get_type_hints(cls)[name]))


def _by_kind(classes: Iterable[type]) -> dict[str, type]:
    defaults = {cls: default_fields(cls) for cls in classes}
    return {fields["kind"]: cls for cls, fields in defaults.items() if "kind" in fields}


def default_fields(cls: type) -> dict[str, Any]:
    """The fields of a dataclass that have a default, as a document."""
    fields = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            fields[field.name] = to_jsonable_python(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            fields[field.name] = to_jsonable_python(field.default_factory())
    return fields


def _dataclasses(annotation: Any) -> Iterator[type]:
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        for member in typing.get_args(annotation):
            yield from _dataclasses(member)
    elif isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        yield annotation


Scalar = str | int | float | bool

# What a field is called where people read it; others go by the tail of their path.
TITLES: Mapping[str, str] = {
    "task.name": "task",
    "model.mixer.transition.kind": "transition",
    "model.mixer.transition.dim": "JT",
    "model.num_blocks": "blocks",
    "model.mixer.num_heads": "heads",
}


def flatten(config: ExperimentConfig) -> dict[str, Scalar | None]:
    """Every field of a config by its dotted path; lists as JSON."""
    return {
        ".".join(path): value if value is None or isinstance(value, Scalar) else json.dumps(value)
        for path, value in _fields(to_document(config))
        if not isinstance(value, Mapping)
    }


def varied_fields(
    configs: Sequence[ExperimentConfig], within: tuple[str, ...] = ()
) -> dict[str, list[Scalar | None]]:
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


def resolve_column(name: str, columns: Sequence[str]) -> str:
    """The column that a name stands for: its path, title, or a tail of its path, as `resolve` does.

    Raises:
        ConfigError: there is none, or several.
    """
    if name in columns:
        return name
    path, known = tuple(name.split(".")), [tuple(column.split(".")) for column in columns]
    titled = [column for column in columns if TITLES.get(column) == name]
    matches = titled or [".".join(match) for match in _ending_in(path, known)]
    if not matches:
        raise ConfigError(f"no column {name!r}; {_nearest_tails(path, known)}")
    if len(matches) > 1:
        raise ConfigError(f"column {name!r} is ambiguous: it may be {', '.join(matches)}")
    return matches[0]
