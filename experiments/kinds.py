"""Fields that hold one of several kinds of thing: unions of dataclasses told apart by `kind`."""

import dataclasses
import typing
from collections.abc import Iterator
from types import UnionType
from typing import Any

from pydantic_core import to_jsonable_python

from experiments.config import ExperimentConfig


def kinds_at(path: tuple[str, ...]) -> dict[str, type]:
    """The classes that the field at a path of `ExperimentConfig` may hold, by their `kind`."""
    classes: list[type] = [ExperimentConfig]
    for name in path:
        hints = [typing.get_type_hints(cls) for cls in classes]
        annotations = [hint[name] for hint in hints if name in hint]
        classes = [cls for annotation in annotations for cls in _dataclasses(annotation)]
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
