"""Reads a nested mapping field by field, and remembers what nobody asked for."""

from collections.abc import Mapping
from typing import Any

_MISSING = object()


class Fields:
    """The fields of one published configuration.

    Every field is taken once; `leftovers` then names those for which there was no use, in this
    configuration and in those below it.

    Args:
        fields: the configuration.
        path: its name in messages.
    """

    def __init__(self, fields: Mapping[str, Any], path: str = ""):
        self._fields = dict(fields)
        self._path = path
        self._problems: list[str] = []
        self._children: list[Fields] = []

    def take(self, name: str, default: Any = _MISSING) -> Any:
        """Return a field and count it as used; `KeyError` where it is absent without default."""
        if default is _MISSING and name not in self._fields:
            raise KeyError(f"{self._path}{name}")
        return self._fields.pop(name, default)

    def expect(self, name: str, *values: Any) -> None:
        """Use a field that may only have one of these values; absent is fine."""
        got = self._fields.pop(name, values[0])
        if got not in values:
            options = " or ".join(map(repr, values))
            self._problems.append(f"{self._path}{name} = {got!r} (only {options})")

    def below(self, name: str) -> "Fields | None":
        """Return the configuration in a field, or None where the field is None or absent."""
        fields = self._fields.pop(name, None)
        if fields is None:
            return None
        child = Fields(fields, f"{self._path}{name}.")
        self._children.append(child)
        return child

    def required(self, name: str) -> "Fields":
        """Return the configuration in a field; `KeyError` where there is none."""
        fields = self.below(name)
        if fields is None:
            raise KeyError(f"{self._path}{name}")
        return fields

    def leftovers(self) -> list[str]:
        """Return the fields not used, and those used that had another value than expected."""
        unused = [f"{self._path}{name} = {value!r}" for name, value in self._fields.items()]
        below = [problem for child in self._children for problem in child.leftovers()]
        return self._problems + unused + below
