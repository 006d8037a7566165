"""Fields that hold one of several kinds of thing: unions of dataclasses told apart by `kind`."""

import dataclasses
import typing
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Any

from pydantic_core import to_jsonable_python

from experiments.config import ExperimentConfig

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
