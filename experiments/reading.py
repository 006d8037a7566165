"""Reads typed values from files and command lines, and explains mistakes in them.

Pydantic does the reading. The classes that are read are plain dataclasses, which know nothing of
it.
"""

import dataclasses
import functools
import typing
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any

import pydantic

from tasks.options import nearest, shown

Path = tuple[str, ...]


class ConfigError(ValueError):
    """A field or value of a config is wrong; the message says which and what is expected.

    Example:
        >>> from experiments import ConfigError, default_config, override
        >>> try:
        ...     override(default_config("parity"), ["transition.dimension=2"])
        ... except ConfigError as error:
        ...     print(str(error).partition(",")[0])
        unknown field 'transition.dimension'; nearest: transition.dim
    """


def read(form: Any, given: Any, path: Path = ()) -> Any:
    """Reads a value of a type.

    Args:
        form: the type: a dataclass, or any other annotation that a field may have.
        given: the value as a file or a command line gives it. Instances of the dataclasses that the
            type has are taken as they are.
        path: the path of the field that is read, for messages.

    Raises:
        ConfigError: a field is unknown or missing, or a value is wrong.
    """
    try:
        value = _adapter(form).validate_python(given)
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(error, form, given, path)) from None
    _refuse_what_was_let_pass(given, value, path)
    return value


def plain(value: Any) -> Any:
    """Turns dataclasses into dictionaries and tuples into lists, as YAML and JSON hold them."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    return list(map(plain, value)) if isinstance(value, list | tuple) else value


def kinds_of(form: Any) -> dict[str, type]:
    """Returns the dataclasses that a type allows, by their `kind`."""
    return {cls.kind: cls for cls in dataclasses_of(form) if hasattr(cls, "kind")}  # pyright: ignore[reportAttributeAccessIssue]


def dataclasses_of(form: Any) -> Iterator[type]:
    """Yields the dataclasses that a type allows: the type itself, or the members of a union."""
    if typing.get_origin(form) in (typing.Union, UnionType):
        for member in typing.get_args(form):
            yield from dataclasses_of(member)
    elif isinstance(form, type) and dataclasses.is_dataclass(form):
        yield form


@functools.cache
def hints(cls: type) -> Mapping[str, Any]:
    """Returns the types of a dataclass's fields."""
    return typing.get_type_hints(cls)


def _refuse_what_was_let_pass(given: Any, value: Any, path: Path) -> None:
    """Refuses what pydantic accepts: unknown fields, and truth values or texts as numbers."""
    if isinstance(given, Mapping) and isinstance(value, Mapping):
        for name, part in given.items():
            _refuse_what_was_let_pass(part, value[name], (*path, str(name)))
    elif isinstance(given, Mapping) and dataclasses.is_dataclass(value):
        known = [field.name for field in dataclasses.fields(value)]
        for name, part in given.items():
            where = (*path, str(name))
            if name not in known:
                raise ConfigError(f"unknown field {'.'.join(where)!r}; {nearest(str(name), known)}")
            _refuse_what_was_let_pass(part, getattr(value, name), where)
    elif isinstance(given, list | tuple) and isinstance(value, list | tuple):
        for one, other in zip(given, value, strict=False):
            _refuse_what_was_let_pass(one, other, path)
    elif isinstance(given, bool | str) and type(value) is not type(given):
        text = str(given).lower() if isinstance(given, bool) else shown(given)
        raise ConfigError(f"{'.'.join(path)}: got {text}, expected a number")


@functools.cache
def _adapter(form: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(form)


LONGEST_MESSAGE = 300
"""The largest number of letters of one mistake in a message."""

_MOST_LINES = 3


def told(mistakes: Mapping[str, str]) -> str:
    """Joins the first few mistakes into one line.

    Args:
        mistakes: a message for each field that has a mistake.
    """
    lines = [f"{place}: {text}".removeprefix(": ") for place, text in mistakes.items()]
    more = len(lines) - _MOST_LINES
    return "; ".join(lines[:_MOST_LINES]) + (f"; and {more} more" if more > 0 else "")


def _explain(error: pydantic.ValidationError, form: Any, given: Any, path: Path) -> str:
    """Explains an error; of the kinds of a union, only the given `kind` is considered."""
    # For each field, its message. The outer key counts the kinds on its path that were not given.
    found: dict[int, dict[str, str]] = {}
    for entry in error.errors(include_url=False):
        where = list(path)
        node: Any = given
        misses = 0
        for part in entry["loc"]:
            if _holds(node, part):
                where.append(str(part))
                node = node[part]
            elif isinstance(node, Mapping) and "kind" in node and isinstance(part, str):
                misses += _kinds(form).get(part) != node["kind"]
            elif entry["type"] == "missing":
                where.append(str(part))
        message = entry["msg"].removeprefix("Value error, ")[:LONGEST_MESSAGE]
        got = "" if isinstance(entry["input"], Mapping) else f", got {shown(entry['input'], 100)}"
        got = "" if "got" in message else got
        found.setdefault(misses, {})[".".join(where)] = message + got
    likely = found[min(found)]
    if min(found):  # all mistakes are in kinds that were not given; the deepest say the most
        deepest = max(place.count(".") for place in likely)
        likely = {place: line for place, line in likely.items() if place.count(".") == deepest}
    return told(likely)


def _holds(node: Any, part: str | int) -> bool:
    if isinstance(node, Mapping):
        return part in node
    return isinstance(node, list | tuple) and isinstance(part, int) and part < len(node)


@functools.cache
def _kinds(form: Any) -> dict[str, str]:
    """Returns the `kind` of every class that a value of a type may hold, by the class's name."""
    kinds: dict[str, str] = {}
    left: list[Any] = [form]
    seen: set[Any] = set()
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        if not (isinstance(node, type) and dataclasses.is_dataclass(node)):
            left.extend(typing.get_args(node))
            continue
        kind = getattr(node, "kind", None)
        if isinstance(kind, str):
            kinds[node.__name__] = kind
        left.extend(hints(node)[field.name] for field in dataclasses.fields(node))
    return kinds
