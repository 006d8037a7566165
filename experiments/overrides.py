"""`a.b.c=value`: changing any field of a config from the command line.

A field may be named by any tail of its path that only one field has: `transition.dim` stands for
`model.mixer.transition.dim`. Where a field is one of several kinds of thing, its kind can be
assigned to it: `transition=orthogonal`. What was changed in the old kind stays where the new one
has the field.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from experiments import scalars
from experiments.config import ConfigError, ExperimentConfig, from_document, to_document
from experiments.kinds import default_fields, fits, kinds_at
from tasks.base import nearest, shown

Path = tuple[str, ...]


def override(config: ExperimentConfig, assignments: Iterable[str]) -> ExperimentConfig:
    """A config with fields changed, kinds first.

    Args:
        config: what is changed.
        assignments: `path=value` each; values are YAML (`3e-3`, `true`, `null`, `[64, 256]`).

    Raises:
        ConfigError: a path is unknown or names several fields, or a value is wrong.
    """
    return assign(config, [parse_assignment(assignment) for assignment in assignments])


def assign(config: ExperimentConfig, pairs: Sequence[tuple[Path, Any]]) -> ExperimentConfig:
    """A config with fields changed, kinds first.

    Args:
        config: what is changed.
        pairs: a field's path, or a tail of it, and its new value.

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
    matches = [candidate for candidate in known if candidate[-len(path) :] == path]
    # A field of a thing names the thing's own, not what lies deeper: the shortest path wins if it
    # is alone.
    shortest = min(map(len, matches), default=0)
    matches = [match for match in matches if len(match) == shortest]
    name = ".".join(path)
    if not matches:
        _refuse_in_null(document, path)
        tails = {".".join(candidate[-len(path) :]) for candidate in known}
        raise ConfigError(f"unknown field {shown(name)}; {nearest(name, sorted(tails))}")
    if len(matches) > 1:
        options = ", ".join(".".join(match) for match in matches)
        raise ConfigError(f"field {name!r} is ambiguous: it may be {options}")
    return matches[0]


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


def _at(document: Mapping[str, Any], path: Path) -> Any:
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
    old = _at(document, path)
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
