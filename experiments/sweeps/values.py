"""The settings of a sweep: flat dictionaries from the names of fields to their values.

`vary` makes a list of settings of one field; `product`, `zip_together` and `chain` combine such
lists. On a command line a field and its values are one word: `transition.dim=1,2,4 seed=0..7`.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from experiments.reading import ConfigError
from experiments.scalars import load_value, split_assignment
from tasks.options import shown

MOST_MEMBERS = 100_000
"""The largest number of members of a sweep, and of values in a range."""

_RANGE = re.compile(r"\s*(-?\d+(?:_\d+)*)\.\.(-?\d+(?:_\d+)*)\s*", re.ASCII)
_LOOKS_LIKE_A_RANGE = re.compile(r"[-+.\deE_\s]*\.\.[-+.\deE_\s]*")
_OPENING, _CLOSING, _QUOTES = "[{", "]}", "\"'"


def parse_word(word: str) -> tuple[str, list[Any]]:
    """Reads a field and its values from a word.

    Args:
        word: a text of the form `field=values`. Values are YAML, separated by commas outside
            brackets and quotes; `a..b` stands for the whole numbers from a to b, both included.

    Raises:
        ConfigError: the word is not of that form.
    """
    path, text = split_assignment(word)
    field = ".".join(path)
    return field, parse_values(field, text)


def parse_values(field: str, text: str) -> list[Any]:
    """Reads the values after `field=`; see `parse_word`."""
    return [value for part in _parts(text) for value in _parse_part(field, part)]


def whole_numbers(option: str, text: str) -> list[int]:
    """Reads whole numbers such as `0..2` or `0,5`.

    Raises:
        ConfigError: the text is something else, or a number is negative.
    """
    values = parse_values(option, text)
    if not all(isinstance(value, int) and value >= 0 for value in values):
        raise ConfigError(f"{option}: got {shown(text)}, expected whole numbers such as 0..2")
    return values


def parse_text(field: str, text: str) -> list[Any]:
    """Reads the values of a text in a file: a range, values between commas, or the text itself."""
    if _LOOKS_LIKE_A_RANGE.fullmatch(text) or len(list(_parts(text))) > 1:
        return parse_values(field, text)
    return [text]


def check_count(what: str, count: int) -> None:
    """Refuses a number of members above `MOST_MEMBERS`, before they are made."""
    if count > MOST_MEMBERS:
        raise ConfigError(f"{what}: got {count:,} members, expected at most {MOST_MEMBERS:,}")


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
        return [load_value(text)]
    except yaml.YAMLError:
        raise ConfigError(f"{field}: {text!r} is not a YAML value") from None


def _parts(text: str) -> Iterator[str]:
    """Yields the parts of a text between commas that are outside brackets and quotes."""
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


Setting = dict[str, Any]

COMBINATIONS = ("product", "zip", "chain")


def vary(field: str, values: Iterable[Any]) -> list[Setting]:
    """Makes one setting for each value of a field.

    Raises:
        ConfigError: there are no values.

    Example:
        >>> from experiments.sweeps import vary
        >>> vary("transition.dim", [1, 2, 4])
        [{'transition.dim': 1}, {'transition.dim': 2}, {'transition.dim': 4}]
    """
    settings = [{field: value} for value in values]
    if not settings:
        raise ConfigError(f"{field} has no values: give one or more")
    return settings


def product(*sweeps: Sequence[Setting]) -> list[Setting]:
    """Makes every combination of one setting from each list; the last list changes fastest.

    Raises:
        ConfigError: two lists set the same field, or there are more than `MOST_MEMBERS`
            combinations.

    Example:
        >>> from experiments.sweeps import product, vary
        >>> for setting in product(vary("transition.dim", [1, 2]), vary("seed", range(2))):
        ...     print(setting)
        {'transition.dim': 1, 'seed': 0}
        {'transition.dim': 1, 'seed': 1}
        {'transition.dim': 2, 'seed': 0}
        {'transition.dim': 2, 'seed': 1}
    """
    check_count("every combination", math.prod(map(len, sweeps)))
    return [_merge(settings) for settings in itertools.product(*sweeps)]


def zip_together(*sweeps: Sequence[Setting]) -> list[Setting]:
    """Joins the first settings of all lists, then the second ones, and so on.

    Raises:
        ConfigError: the lists are not equally long, or two of them set the same field.

    Example:
        >>> from experiments.sweeps import vary, zip_together
        >>> zip_together(vary("transition.dim", [1, 2]), vary("mixer.DV", [16, 8]))
        [{'transition.dim': 1, 'mixer.DV': 16}, {'transition.dim': 2, 'mixer.DV': 8}]
    """
    if len({len(sweep) for sweep in sweeps}) > 1:
        lengths = ", ".join(
            f"{'+'.join(sweep[0]) if sweep else 'nothing'} has {len(sweep)}" for sweep in sweeps
        )
        raise ConfigError(f"zip needs equally many values of each: {lengths}")
    return [_merge(settings) for settings in zip(*sweeps, strict=True)]


def chain(*sweeps: Sequence[Setting]) -> list[Setting]:
    """Returns the settings of the first list, then those of the second, and so on.

    Example:
        >>> from experiments.sweeps import chain, product, vary
        >>> entries = vary("entries", ["signed", "positive"])
        >>> diagonal = product(vary("transition", ["diagonal"]), entries)
        >>> for setting in chain(diagonal, vary("transition", ["orthogonal"])):
        ...     print(setting)
        {'transition': 'diagonal', 'entries': 'signed'}
        {'transition': 'diagonal', 'entries': 'positive'}
        {'transition': 'orthogonal'}
    """
    return [dict(setting) for setting in itertools.chain(*sweeps)]


def read_values(node: Any) -> list[Setting]:
    """Reads the settings that a YAML document describes.

    A document maps fields to their values: a list of values, a range such as `0..7`, or one value.
    The entries of a document are combined by `product`. An entry named `product`, `zip` or `chain`
    combines in that way what it holds: the entries of a document, or a list of documents.

    Raises:
        ConfigError: the document does not have that form.
    """
    if not isinstance(node, Mapping) or not node:
        raise ConfigError(
            f"values: got {shown(node)}, "
            "expected fields with their values, or product, zip or chain"
        )
    return product(*(_read_entry(name, value) for name, value in node.items()))


def _read_entry(name: Any, value: Any) -> list[Setting]:
    if name in COMBINATIONS:
        combine = {"product": product, "zip": zip_together, "chain": chain}[name]
        if isinstance(value, Mapping) and value:
            return combine(*(_read_entry(*entry) for entry in value.items()))
        if isinstance(value, list) and value:
            return combine(*map(read_values, value))
        raise ConfigError(f"{name}: got {shown(value)}, expected a mapping or a list with entries")
    if isinstance(value, str):
        return vary(str(name), parse_text(str(name), value))
    return vary(str(name), value if isinstance(value, list) else [value])


def _merge(settings: Iterable[Setting]) -> Setting:
    merged: Setting = {}
    for setting in settings:
        for field, value in setting.items():
            if field in merged:
                raise ConfigError(f"{field} is set twice: give all its values in one place")
            merged[field] = value
    return merged
