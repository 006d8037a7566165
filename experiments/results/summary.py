"""Seeds in one row: what a setting reaches at best, typically, and how often."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars

from experiments.config import ConfigError
from experiments.results.settings import Setting, grouping, settings
from experiments.run import RunError
from plstm_seq.evaluation import AVERAGED, METRICS, SNAPPED, wilson

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
    """Accuracies and horizons of settings over their seeds.

    One row per setting and length (one without numbers for a setting of which no member has been
    evaluated): the columns `by`; then `metric`, `length`, `members` (of the
    setting), `n` (of them, evaluated at that length); of their accuracies `best`, `median`, `mad`
    (median absolute deviation from the median, not scaled), `mean`, `std` (n - 1 in the
    denominator) and `mean_low`, `mean_high` (95 % percentile bootstrap of the mean over members,
    10,000 resamples: accuracies of seeds are often at 0 or 1, far from a normal distribution);
    `success_rate` with `successes`, `trials` and Wilson's 95 % interval `success_low`,
    `success_high`; `horizon` at 0.9 (the lower median, so that it is a length), `horizon_open`
    (the true one may lie beyond) and `horizon_best`.

    A member succeeds where its accuracy reaches the threshold. One that diverged and could not be
    evaluated is a trial that failed; members that still train are no trials.

    Args:
        frame: of `gather`.
        by: what makes a setting; columns, or tails of them. None: all that varies but the seed.
        metric: `token`, `sequence` or `last`, or such behind `snapped_` or `averaged_`.
        length: where; several, or None: at all evaluated lengths.
        threshold: of success.

    Raises:
        ConfigError: a column, the metric or the length is not in the table.
        RunError: no member has been evaluated.
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
    """The rows of a metric, at one length, several or all.

    Raises:
        ConfigError: the metric or a length is not in the table.
        RunError: no member has been evaluated.
    """
    if metric not in {prefix + name for prefix in ("", SNAPPED, AVERAGED) for name in METRICS}:
        raise ConfigError(
            f"metric is {metric!r}: one of {', '.join(METRICS)} is expected, or one of them "
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
    """The length that one number is given for: the first from the longest trained one on.

    Where only shorter ones were evaluated, the longest of them.
    """
    lengths = frame["length"].drop_nulls().unique().sort().to_list()
    if not lengths:
        raise RunError(f"{NOT_EVALUATED}: plstm-seq resume SWEEP")
    trained = frame["trained_length"].max()
    return next((length for length in lengths if length >= trained), lengths[-1])


def _lengths_of(setting: Setting, lengths: Sequence[int]) -> Sequence[int]:
    """Those at which a member of the setting was evaluated; the first if none was at all."""
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
    """The 95 % percentile bootstrap interval of a mean; a function of its arguments alone."""
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
