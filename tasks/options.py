"""Options of tasks: a frozen mapping of them, how they are checked, and how messages name them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

MOST_SYMBOLS = 2**16
"""The largest size of an alphabet, or of a set of states or labels, that an option may ask for."""


class Options(Mapping[str, Any]):
    """Options by their names, compared and hashed by their values.

    The order in which they are given is kept and does not count. Lists and arrays become tuples,
    and mappings inside are frozen, too. Values of different types differ: 1, 1.0 and True are
    three, as they are in a file.

    Args:
        given: values by name.

    Example:
        >>> Options({"modulus": 5, "sizes": [1, 2]}) == {"sizes": (1, 2), "modulus": 5}
        True
        >>> len({Options({"modulus": 5}), Options({"modulus": 5}), Options({"modulus": 5.0})})
        2
    """

    def __init__(self, given: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()):
        self._values = {name: _frozen(value) for name, value in dict(given).items()}

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return _with_types(self) == _with_types(Options(other))

    def __hash__(self) -> int:
        return hash(_with_types(self))

    def __repr__(self) -> str:
        return repr(self._values)


def _frozen(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple | range):
        return tuple(map(_frozen, value))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return Options(value) if isinstance(value, Mapping) else value


def _with_types(value: Any) -> Hashable:
    """The value with the types of its parts, so that 1 does not equal True."""
    if isinstance(value, Mapping):
        return frozenset((name, _with_types(part)) for name, part in value.items())
    if isinstance(value, tuple):
        return tuple(map(_with_types, value))
    return type(value), value


def shown(value: object, most: int = 200) -> str:
    """Write a value for an error message: as Python writes it, but shortened if it is long."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 4 :]}"


def alike(name: str, known: Iterable[str]) -> list[str]:
    """The known names that are most like a name, at most three, the most alike first."""
    # Nobody meant a name longer than that.
    return difflib.get_close_matches(name[:100], list(known), n=3, cutoff=0.0)


def nearest(name: str, known: Iterable[str], *, none: str = "there are none") -> str:
    """Return the end of an error message: the known names that are most like a name."""
    close = alike(name, known)
    return f"nearest: {', '.join(close)}" if close else none


def some(words: Sequence[str], between: str = " ", most: int = 20) -> str:
    """Join the first `most` words, and add dots if there are more."""
    return between.join([*words[:most], *(["..."] if len(words) > most else [])])


def check(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise `ValueError` unless a condition holds, which `expected` says in words."""
    if not holds:
        raise ValueError(f"{name}: got {shown(value)}, expected {expected}")


def check_at_least(name: str, value: object, minimum: int, most: int | None = None) -> None:
    """Check an integer option.

    Args:
        name: Of the option.
        value: That was given.
        minimum: The smallest value.
        most: The largest one, such as `MOST_SYMBOLS` for what is written out; None if any will do.

    Raises:
        TypeError: If the value is not an integer.
        ValueError: If it is below the minimum, or above `most`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: got {shown(value)}, expected an integer")
    check(bool(value >= minimum), name, value, f"at least {minimum}")
    check(most is None or bool(value <= most), name, value, f"at most {most}")


def check_range(name: str, values: np.ndarray, low: int, high: int) -> None:
    """Raise `ValueError` unless all numbers of an array, which may be empty, are low to high."""
    if values.size and not (values.min() >= low and values.max() <= high):
        found = f"{values.min()} .. {values.max()}"
        raise ValueError(f"{name}: got {found}, expected {low} .. {high}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Check an option that is one of a few words.

    Raises:
        ValueError: If the value is none of the choices.
    """
    check(value in choices, name, value, f"one of {', '.join(choices)}")
