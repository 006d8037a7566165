"""Settings: what members have in common that differ in their seeds alone."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars

from experiments import scalars
from experiments.config import ConfigError
from experiments.results.columns import TITLES, resolve, short_names

SEED = "seed"
# Sizes that follow from others where a sweep matches costs: named only if nothing else varies.
_SOLVED = ("model.width", "model.mixer.DV")
_CONFIG = ("task.", "model.", "training.")


class Setting(NamedTuple):
    """Some members and what they have in common.

    Attributes:
        values: by column.
        label: in words.
        rows: of the table of `gather`.
    """

    values: Mapping[str, Any]
    label: str
    rows: polars.DataFrame


def varied(frame: polars.DataFrame) -> list[str]:
    """The fewest config columns that tell the settings of a table apart, without the seed.

    Columns with a title come first (task, transition, JT, ...). Fields that follow from others, as
    those which only one kind of transition has, are left out.
    """
    fields = [name for name in frame.columns if name.startswith(_CONFIG) or name == "sweep"]
    fields = [name for name in fields if frame[name].n_unique() > 1]
    fields.sort(key=lambda name: (name in _SOLVED, _rank(name)))
    kept: list[str] = []
    count = 1
    for name in fields:
        finer = frame.select(*kept, name).n_unique()
        if finer > count:
            kept.append(name)
            count = finer
    return kept


def _rank(name: str) -> int:
    titles = ["sweep", *TITLES]
    return titles.index(name) if name in titles else len(titles)


def grouping(frame: polars.DataFrame, by: Sequence[str] | None) -> list[str]:
    """The columns that `by` names; None: those of `varied`.

    Raises:
        ConfigError: a name is unknown or ambiguous.
    """
    return varied(frame) if by is None else [resolve(name, frame.columns) for name in by]


def settings(frame: polars.DataFrame, by: Sequence[str]) -> Iterator[Setting]:
    """The settings of a table, ordered by the values of the columns `by`."""
    if not by:
        yield Setting({}, "all members", frame)
        return
    ordered = frame.select(by).unique(maintain_order=True).sort(by, nulls_last=False)
    names = titles(by)
    for values in ordered.iter_rows(named=True):
        rows = frame.filter(
            *(polars.col(name).eq_missing(polars.lit(value)) for name, value in values.items())
        )
        yield Setting(values, label(values, names), rows)


def label(values: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """`JT = 2, learning rate = 0.001`."""
    return ", ".join(f"{names[name]} = {text(value)}" for name, value in values.items())


def titles(fields: Sequence[str]) -> dict[str, str]:
    """What columns are called where people read them."""
    return {field: name.replace("_", " ") for field, name in short_names(fields).items()}


def text(value: Any) -> str:
    """A value of a config as people write it."""
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def where(frame: polars.DataFrame, conditions: Sequence[str]) -> polars.DataFrame:
    """The rows for which all conditions hold.

    Args:
        frame: of `gather`.
        conditions: `column=value` each, or several values between commas, of which one must hold;
            columns by any tail of their name that only one has.

    Raises:
        ConfigError: a condition is not of that form, or its column has no such value.
    """
    for condition in conditions:
        name, equals, values = condition.partition("=")
        if not equals:
            raise ConfigError(f"{condition!r}: expected column=value, such as transition.dim=2")
        column = resolve(name.strip(), frame.columns)
        known = frame[column].unique().to_list()
        wanted = _wanted(values, known)
        kept = [value for value in known if value in wanted]
        if not kept:
            there = ", ".join(sorted(text(value) for value in known))
            raise ConfigError(f"{condition!r} leaves nothing: {column} is {there}")
        hold = [polars.col(column).eq_missing(polars.lit(value)) for value in kept]
        frame = frame.filter(polars.any_horizontal(hold))
    return frame


def _wanted(values: str, known: Sequence[Any]) -> list[Any]:
    """The values named: the whole text where that is one (a list as JSON), else its parts."""
    if values in known:
        return [values]
    wanted: list[Any] = []
    for part in values.split(","):
        read = scalars.load(part) if part.strip() else part
        wanted += [read, part.strip(), json.dumps(read)]
        try:
            wanted.append(float(part))
        except ValueError:
            continue
    return wanted
