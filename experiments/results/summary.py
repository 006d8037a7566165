"""Summaries of settings over their seeds: best and typical results, and the rate of success.

The members of a setting differ in nothing but their seeds.
"""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars

from experiments import scalars
from experiments.overrides import TITLES, resolve_column, short_names
from experiments.reading import ConfigError
from experiments.run import RunError
from plstm_seq.evaluation import AVERAGED, METRICS, SNAPPED, wilson

SEED = "seed"
# Sizes that follow from others if a sweep matches costs: they are named only if no others vary.
_SOLVED = ("model.width", "model.mixer.DV")
_CONFIG = ("task.", "model.", "training.")


class Setting(NamedTuple):
    """The members of a setting, and what they have in common.

    Attributes:
        values: the common values, by column.
        label: the common values in words.
        rows: the rows of the members in the table of `gather`.
    """

    values: Mapping[str, Any]
    label: str
    rows: polars.DataFrame


def varied(frame: polars.DataFrame) -> list[str]:
    """Returns the fewest config columns, without the seed, that tell the settings apart.

    Columns with a title come first (task, transition, JT, ...). Fields that follow from others are
    left out, such as those that only one kind of transition has.
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
    """Returns the columns that `by` names; None: those of `varied`.

    Raises:
        ConfigError: a name is unknown or ambiguous.
    """
    return varied(frame) if by is None else [resolve_column(name, frame.columns) for name in by]


def settings(frame: polars.DataFrame, by: Sequence[str]) -> Iterator[Setting]:
    """Yields the settings of a table, ordered by the values of the columns `by`."""
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
    """Writes values as text such as `JT = 2, learning rate = 0.001`."""
    return ", ".join(f"{names[name]} = {text(value)}" for name, value in values.items())


def titles(fields: Sequence[str]) -> dict[str, str]:
    """Returns the names of columns that people read."""
    return {field: name.replace("_", " ") for field, name in short_names(fields).items()}


def text(value: Any) -> str:
    """Writes a value of a config as people write it."""
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def where(frame: polars.DataFrame, conditions: Sequence[str]) -> polars.DataFrame:
    """Selects the rows of a table for which all conditions hold.

    Args:
        frame: a table from `gather`.
        conditions: each is `column=value`, or `column=value,value` for rows with one of these
            values. The end of a column's name is enough if no other column's name ends like that.

    Raises:
        ConfigError: a condition is not of that form, or its column has no such value.

    Example:
        >>> import polars
        >>> from experiments.results import where
        >>> frame = polars.DataFrame({"transition.dim": [1, 2, 4], "value": [0.5, 0.9, 1.0]})
        >>> where(frame, ["dim=2,4"])["value"].to_list()
        [0.9, 1.0]
    """
    for condition in conditions:
        name, equals, values = condition.partition("=")
        if not equals:
            raise ConfigError(f"{condition!r}: expected column=value, such as transition.dim=2")
        column = resolve_column(name.strip(), frame.columns)
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
    """Returns the values that a text names: the whole text if it is a value, else its parts."""
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


THRESHOLD = 0.9
CONFIDENCE = 0.95
_RESAMPLES = 10_000
NOT_EVALUATED = (
    "no member has been evaluated yet (those that predict numbers are not, their errors are in "
    "metrics.jsonl)"
)


def summarize(
    frame: polars.DataFrame,
    by: Sequence[str] | None = None,
    metric: str = "sequence",
    length: int | Sequence[int] | None = None,
    *,
    threshold: float = THRESHOLD,
) -> polars.DataFrame:
    """Computes accuracies and horizons of settings over their seeds.

    There is one row per setting and length (and one without numbers for a setting of which no
    member has been evaluated). Its columns are

    - those named by `by`, then `metric` and `length`;
    - `members`, the number of members, and `n`, how many of them were evaluated at that length;
    - of their accuracies `best`, `median`, `mad` (median absolute deviation from the median, not
      scaled), `mean`, `std` (n - 1 in the denominator), and `mean_low` and `mean_high`, a 95 %
      percentile bootstrap of the mean over members (10,000 resamples: accuracies of seeds are
      often at 0 or 1, far from a normal distribution);
    - `success_rate`, `successes`, `trials`, and Wilson's 95 % interval `success_low`,
      `success_high`;
    - `horizon` at 0.9 (the lower median, so that it is a length), `horizon_open` (whether the true
      one may be larger) and `horizon_best`.

    A member succeeds if its accuracy reaches the threshold. A member that diverged and could not be
    evaluated is a failed trial; members in training are no trials.

    Args:
        frame: a table from `gather`.
        by: the columns whose values make a setting, or ends of their names; None: all that vary,
            except for the seed.
        metric: `token`, `sequence` or `last`, with `snapped_` or `averaged_` before it for
            corrected models or averaged parameters.
        length: one length, or several; None: all evaluated lengths.
        threshold: the accuracy of a success.

    Raises:
        ConfigError: a column, the metric or the length is not in the table.
        RunError: no member has been evaluated.

    Example:
        >>> import polars
        >>> from experiments.results import summarize
        >>> about = {"member": ["seed=0", "seed=1"], "status": "finished"}
        >>> measured = {"metric": "sequence", "length": 40, "value": [1.0, 0.5]}
        >>> reached = {"horizon_90": [40, 0], "horizon_90_open": [True, False]}
        >>> frame = polars.DataFrame({**about, **measured, **reached})  # a part of `gather`'s
        >>> summarize(frame, by=[]).select("n", "best", "mean", "successes", "trials").row(0)
        (2, 1.0, 0.75, 1, 2)
    """
    measured = at(frame, metric, length)
    columns = grouping(frame, by)
    lengths = measured["length"].unique().sort().to_list()
    rows = [
        {**setting.values, **_row(setting, metric, wanted, threshold)}
        for setting in settings(frame, columns)
        for wanted in _lengths_of(setting, lengths)
    ]
    return polars.DataFrame(rows, infer_schema_length=None)


def at(
    frame: polars.DataFrame, metric: str, length: int | Sequence[int] | None = None
) -> polars.DataFrame:
    """Selects the rows of a metric, at one length, at several or at all.

    Raises:
        ConfigError: the metric or a length is not in the table.
        RunError: no member has been evaluated.
    """
    if metric not in {prefix + name for prefix in ("", SNAPPED, AVERAGED) for name in METRICS}:
        raise ConfigError(
            f"metric: got {metric!r}, expected one of {', '.join(METRICS)}, or one of them "
            f"behind {SNAPPED} or {AVERAGED}"
        )
    rows = frame.filter(polars.col("metric") == metric)
    if rows.is_empty():
        raise RunError(f"{NOT_EVALUATED}: plstm-seq resume SWEEP")
    if length is None:
        return rows
    wanted = [length] if isinstance(length, int) else list(length)
    known = rows["length"].unique().sort().to_list()
    if missing := [str(n) for n in wanted if n not in known]:
        raise ConfigError(
            f"length {', '.join(missing)} has not been evaluated: "
            f"there are {', '.join(map(str, known))}"
        )
    return rows.filter(polars.col("length").is_in(wanted))


def default_length(frame: polars.DataFrame) -> int:
    """Returns the length at which one number is given: the first from the longest trained one on.

    If only shorter lengths were evaluated, it is the longest of them.
    """
    lengths = frame["length"].drop_nulls().unique().sort().to_list()
    if not lengths:
        raise RunError(f"{NOT_EVALUATED}: plstm-seq resume SWEEP")
    trained = frame["trained_length"].max()
    return next((length for length in lengths if length >= trained), lengths[-1])


def _lengths_of(setting: Setting, lengths: Sequence[int]) -> Sequence[int]:
    """Returns the lengths at which the setting was evaluated; the first one if there are none."""
    own = setting.rows["length"].drop_nulls().unique().to_list()
    return [length for length in lengths if length in own] or lengths[: not own]


def _row(setting: Setting, metric: str, length: int, threshold: float) -> dict[str, Any]:
    own = setting.rows
    rows = own.filter(metric=metric, length=length)
    values = rows["value"].to_list()
    successes = sum(value >= threshold for value in values)
    lost = own.filter(polars.col("metric").is_null(), status="diverged").height
    trials = len(values) + lost
    rate = wilson(successes, trials, confidence=CONFIDENCE) if trials else (None, None, None)
    row: dict[str, Any] = {
        "metric": metric,
        "length": length,
        "members": own["member"].n_unique(),
        "n": len(values),
        **_spread(values),
        **dict(zip(("success_rate", "success_low", "success_high"), rate, strict=True)),
        "successes": successes,
        "trials": trials,
    }
    return row | _horizon(rows)


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        names = ("best", "median", "mad", "mean", "std", "mean_low", "mean_high")
        return dict.fromkeys(names)
    median = statistics.median(values)
    several = len(values) > 1
    low, high = mean_interval(values) if several else (None, None)
    return {
        "best": max(values),
        "median": median,
        "mad": statistics.median(abs(value - median) for value in values),
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if several else None,
        "mean_low": low,
        "mean_high": high,
    }


def mean_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % percentile bootstrap interval of a mean, the same for the same seed."""
    drawn = np.random.default_rng(seed).choice(np.asarray(values), (_RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn.mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def _horizon(rows: polars.DataFrame) -> dict[str, Any]:
    if rows.is_empty():
        return dict.fromkeys(("horizon", "horizon_open", "horizon_best"))
    median = statistics.median_low(rows["horizon_90"].to_list())
    reached = rows.filter(polars.col("horizon_90") == median)
    return {
        "horizon": median,
        "horizon_open": bool(reached["horizon_90_open"].any()),
        "horizon_best": rows["horizon_90"].max(),
    }
