"""Fields and their values as words of a command line: `transition.dim=1,2,4 seed=0..7`."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from experiments.config import ConfigError
from experiments.overrides import parse_value, split_assignment

MOST_MEMBERS = 100_000
"""The most members of a sweep, and values of a range."""

_RANGE = re.compile(r"\s*(-?\d+(?:_\d+)*)\.\.(-?\d+(?:_\d+)*)\s*", re.ASCII)
_LOOKS_LIKE_A_RANGE = re.compile(r"[-+.\deE_\s]*\.\.[-+.\deE_\s]*")
_OPENING, _CLOSING, _QUOTES = "[{", "]}", "\"'"


def parse_word(word: str) -> tuple[str, list[Any]]:
    """A field and its values.

    Args:
        word: `field=values`. Values are YAML, separated by commas outside brackets and quotes;
            `a..b` stands for the whole numbers from a to b, both included.

    Raises:
        ConfigError: it is not of that form.
    """
    path, text = split_assignment(word)
    field = ".".join(path)
    return field, parse_values(field, text)


def parse_values(field: str, text: str) -> list[Any]:
    """The values after `field=`; see `parse_word`."""
    return [value for part in _parts(text) for value in _parse_part(field, part)]


def whole_numbers(option: str, text: str) -> list[int]:
    """`0..2` or `0,5` as numbers.

    Raises:
        ConfigError: something else.
    """
    values = parse_values(option, text)
    if not all(isinstance(value, int) and value >= 0 for value in values):
        raise ConfigError(f"{option} {text}: whole numbers such as 0..2 are expected")
    return values


def parse_text(field: str, text: str) -> list[Any]:
    """The values of a text in a file: a range, values between commas, or the text itself."""
    if _LOOKS_LIKE_A_RANGE.fullmatch(text) or len(list(_parts(text))) > 1:
        return parse_values(field, text)
    return [text]


def check_count(what: str, count: int) -> None:
    """Refuses more than a sweep has members, before they are made."""
    if count > MOST_MEMBERS:
        raise ConfigError(f"{what} has {count:,} members, at most {MOST_MEMBERS:,} are expected")


def _parse_part(field: str, text: str) -> list[Any]:
    if not text.strip():
        raise ConfigError(
            f"{field}: a value is missing; write values such as 1,2,4 or a range such as 0..7"
        )
    if numbers := _RANGE.fullmatch(text):
        first, last = (int(number) for number in numbers.groups())
        if last < first:
            raise ConfigError(f"{field}: the range {text.strip()} is empty; write {last}..{first}")
        check_count(f"{field}: the range {text.strip()[:60]}", last + 1 - first)
        return list(range(first, last + 1))
    if _LOOKS_LIKE_A_RANGE.fullmatch(text):
        raise ConfigError(
            f"{field}: {text.strip()!r} is not a range; ranges are of whole numbers, such as 0..7"
        )
    try:
        return [parse_value(text)]
    except yaml.YAMLError:
        raise ConfigError(f"{field}: {text!r} is not a YAML value") from None


def _parts(text: str) -> Iterator[str]:
    """The text between commas that stand outside brackets and quotes."""
    start = depth = 0
    quote = ""
    for index, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES:
            quote = character
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif character == "," and depth <= 0:
            yield text[start:index]
            start = index + 1
    yield text[start:]
