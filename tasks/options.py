"""Checks of the options of tasks, and the form of values and names in error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np

MOST_SYMBOLS = 2**16
"""The largest size of an alphabet, or of a set of states or labels, that an option may ask for."""


def shown(value: object, most: int = 200) -> str:
    """How an error message writes a value: as Python does, and what is long shortened."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 4 :]}"


def nearest(name: str, known: Iterable[str], *, none: str = "there are none") -> str:
    """The known names that are most alike, as the end of an error message."""
    name = name[:100]  # no known name is longer, and matching long texts is slow
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.0)
    return f"nearest: {', '.join(close)}" if close else none


def some(words: Sequence[str], between: str = " ", most: int = 20) -> str:
    """The first of some words, and dots where there are more."""
    return between.join([*words[:most], *(["..."] if len(words) > most else [])])


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
        raise TypeError(f"{name} must be an integer, got {shown(value)}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most:,}, got {value:,}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Check an option that is one of a few words.

    Raises:
        ValueError: If the value is none of the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {shown(value)}")
