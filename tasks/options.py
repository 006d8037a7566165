"""How options of tasks are checked, and how messages write values and names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np

MOST_SYMBOLS = 2**16
"""Largest size of an alphabet, a set of states or labels, that a task can be given as an option."""


def shown(value: object, most: int = 200) -> str:
    """How an error message writes a value: as Python does, and what is long shortened."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 4 :]}"


def nearest(name: str, known: Iterable[str], *, none: str = "there are none") -> str:
    """The known names that are most alike, as the end of an error message."""
    name = name[:100]  # nobody meant more
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.0)
    return f"nearest: {', '.join(close)}" if close else none


def some(words: Sequence[str], between: str = " ", most: int = 20) -> str:
    """The first of some words, and dots where there are more."""
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
