"""What varies, as a value: lists of settings, and settings are flat dicts from field to value.

Every combination of two fields:
>>> product(vary("transition.dim", [1, 2]), vary("seed", range(2)))
[{'transition.dim': 1, 'seed': 0}, {'transition.dim': 1, 'seed': 1}, \
{'transition.dim': 2, 'seed': 0}, {'transition.dim': 2, 'seed': 1}]

Two fields that change together, so that the state keeps its size:
>>> zip_together(vary("transition.dim", [1, 2]), vary("mixer.DV", [16, 8]))
[{'transition.dim': 1, 'mixer.DV': 16}, {'transition.dim': 2, 'mixer.DV': 8}]

One sweep after another, each with what is its own:
>>> chain(product(vary("transition", ["diagonal"]), vary("entries", ["signed", "positive"])), \
          vary("transition", ["orthogonal"]))
[{'transition': 'diagonal', 'entries': 'signed'}, \
{'transition': 'diagonal', 'entries': 'positive'}, {'transition': 'orthogonal'}]
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.config import ConfigError
from experiments.sweeps.words import check_count, parse_text
from tasks.base import shown

Setting = dict[str, Any]

COMBINATIONS = ("product", "zip", "chain")


def vary(field: str, values: Iterable[Any]) -> list[Setting]:
    """One setting for each value of a field.

    Raises:
        ConfigError: there are no values.
    """
    settings = [{field: value} for value in values]
    if not settings:
        raise ConfigError(f"{field} has no values: give one or more")
    return settings


def product(*sweeps: Sequence[Setting]) -> list[Setting]:
    """Every combination of a setting of each sweep; the last one changes fastest.

    Raises:
        ConfigError: two sweeps set the same field, or there are more combinations than a sweep has
            members.
    """
    check_count("every combination", math.prod(map(len, sweeps)))
    return [_merge(settings) for settings in itertools.product(*sweeps)]


def zip_together(*sweeps: Sequence[Setting]) -> list[Setting]:
    """The first settings of all sweeps together, then the second ones, and so on.

    Raises:
        ConfigError: the sweeps are not equally long, or two of them set the same field.
    """
    if len({len(sweep) for sweep in sweeps}) > 1:
        lengths = ", ".join(
            f"{'+'.join(sweep[0]) if sweep else 'nothing'} has {len(sweep)}" for sweep in sweeps
        )
        raise ConfigError(f"zip needs equally many values of each: {lengths}")
    return [_merge(settings) for settings in zip(*sweeps, strict=True)]


def chain(*sweeps: Sequence[Setting]) -> list[Setting]:
    """Put the settings of several sweeps one after another."""
    return [dict(setting) for setting in itertools.chain(*sweeps)]


def read_values(node: Any) -> list[Setting]:
    """The settings that a YAML document describes.

    A document maps fields to their values: a list of them, a range `0..7` or one value; entries
    are combined by product. An entry `product`, `zip` or `chain` holds a document whose entries,
    or a list of documents which, are combined in that way.

    Raises:
        ConfigError: it does not have that form.
    """
    if not isinstance(node, Mapping) or not node:
        raise ConfigError(
            f"fields with their values, or product, zip or chain, are expected; got {shown(node)}"
        )
    return product(*(_read_entry(name, value) for name, value in node.items()))


def _read_entry(name: Any, value: Any) -> list[Setting]:
    if name in COMBINATIONS:
        combine = {"product": product, "zip": zip_together, "chain": chain}[name]
        if isinstance(value, Mapping) and value:
            return combine(*(_read_entry(*entry) for entry in value.items()))
        if isinstance(value, list) and value:
            return combine(*map(read_values, value))
        raise ConfigError(f"{name}: a mapping or a list is expected; got {shown(value)}")
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
