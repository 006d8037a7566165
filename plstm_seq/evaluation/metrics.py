"""Accuracies, their intervals and horizons, computed on the host from counts of right positions.

At length n, *token* accuracy is the share of the scored positions up to n that are right. A
sequence counts for *sequence* accuracy if all of them are right, for *last* if the last one is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Real

# Weights of sequences in memory at a time: 128 MiB.
_AT_ONCE = 1 << 24


class Estimate(NamedTuple):
    """A proportion and its confidence interval.

    Attributes:
        value: the proportion that was measured.
        low: the lower end of the interval.
        high: the upper end of the interval.
    """

    value: float
    low: float
    high: float


class Horizon(NamedTuple):
    """The largest length such that it and every shorter evaluated length pass a threshold.

    Attributes:
        length: that length; 0 if not even the shortest one passes.
        open_ended: whether it is the longest evaluated length, so that the true horizon may be
            larger.
    """

    length: int
    open_ended: bool

    def __str__(self) -> str:
        return f"{'>=' if self.open_ended else ''}{self.length}"


def scaled(accuracy: float, chance: float) -> float:
    """Rescales an accuracy so that guessing gives 0 and being always right gives 1.

    Args:
        accuracy: the accuracy; one below chance becomes negative.
        chance: the accuracy of a guess.

    Raises:
        ValueError: `chance` is not in [0, 1).

    Example:
        >>> from plstm_seq.evaluation import scaled
        >>> scaled(0.75, chance=0.5)
        0.5
    """
    if not 0 <= chance < 1:
        raise ValueError(f"chance must lie in [0, 1), got {chance}")
    return (accuracy - chance) / (1 - chance)


def wilson(successes: int, trials: int, *, confidence: float = 0.95) -> Estimate:
    """Wilson's score interval of a proportion of independent outcomes (E. B. Wilson, 1927).

    Args:
        successes: how many trials succeeded.
        trials: how many trials there were, 1 or more.
        confidence: the interval's coverage.

    Raises:
        ValueError: `successes` is not in 0 .. `trials`, or `confidence` is not in (0, 1).

    Example:
        >>> from plstm_seq.evaluation import Estimate, wilson
        >>> Estimate(*(round(number, 3) for number in wilson(90, 100)))
        Estimate(value=0.9, low=0.826, high=0.945)
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"successes must lie in 0 .. trials, got {successes} of {trials} trials")
    z = NormalDist().inv_cdf((1 + _check_confidence(confidence)) / 2)
    value = successes / trials
    centre = value + z * z / (2 * trials)
    spread = z * math.sqrt(value * (1 - value) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # Rounding must not push the interval off the proportion or out of [0, 1].
    low = min(max(0.0, (centre - spread) / scale), value)
    high = max(min(1.0, (centre + spread) / scale), value)
    return Estimate(value, low, high)


def bootstrap(
    correct: Real[np.ndarray, " N"],
    scored: Real[np.ndarray, " N"],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Token accuracy with a percentile bootstrap interval over whole sequences.

    Whole sequences are drawn again, because the tokens of one sequence are not independent.

    Args:
        correct: number of right positions of each sequence, or the sum of their weights.
        scored: number of scored positions of each sequence, or the sum of their weights; at least
            one sequence has some.
        confidence: the interval's coverage.
        resamples: how many times the sequences are drawn again.
        seed: seed of the resampling; the same arguments always give the same result.

    Raises:
        ValueError: nothing is scored, or `confidence` is not in (0, 1).

    Example:
        >>> import numpy as np
        >>> from plstm_seq.evaluation import bootstrap
        >>> estimate = bootstrap(correct=np.array([4, 4, 2, 0]), scored=np.array([4, 4, 4, 4]))
        >>> estimate.value, estimate.low < estimate.value < estimate.high
        (0.625, True)
    """
    if not scored.any():
        raise ValueError("scored must count one position or more, got none")
    tail = (1 - _check_confidence(confidence)) / 2
    count = len(scored)
    generator = np.random.default_rng(seed)
    shares = np.full(count, 1 / count)
    drawn = np.concatenate(
        [
            _resampled(generator.multinomial(count, shares, size=size), correct, scored)
            for size in _blocks(resamples, max(1, _AT_ONCE // count))
        ]
    )
    low, high = np.quantile(drawn, [tail, 1 - tail])
    value = float(correct.sum() / scored.sum())
    return Estimate(value, min(float(low), value), max(float(high), value))


def _resampled(weights: np.ndarray, correct: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Accuracies of resamples; those without a scored position are left out."""
    right, total = weights @ correct, weights @ scored
    return right[total > 0] / total[total > 0]


def _blocks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def sequence_estimate(right: Bool[np.ndarray, " N"], *, confidence: float = 0.95) -> Estimate:
    """The proportion of sequences with a true outcome, with Wilson's interval."""
    return wilson(int(right.sum()), len(right), confidence=confidence)


def horizon(lengths: Sequence[int], accuracies: Sequence[float], threshold: float) -> Horizon:
    """The largest length such that it and every shorter one reach `threshold`.

    Args:
        lengths: the evaluated lengths, ascending.
        accuracies: the accuracy at each length.
        threshold: the smallest accuracy that passes, usually 0.9 or 0.99.

    Raises:
        ValueError: `lengths` are not ascending, or not as many as `accuracies`.

    Example:
        >>> from plstm_seq.evaluation import horizon
        >>> horizon([16, 32, 64], [1.0, 0.95, 0.4], threshold=0.9)
        Horizon(length=32, open_ended=False)
        >>> print(horizon([16, 32, 64], [1.0, 0.95, 0.91], threshold=0.9))
        >=64
    """
    if list(lengths) != sorted(set(lengths)) or len(lengths) != len(accuracies):
        raise ValueError(
            f"lengths must be ascending and as many as accuracies, got {list(lengths)} "
            f"and {len(accuracies)} accuracies"
        )
    best = 0
    for length, accuracy in zip(lengths, accuracies, strict=True):
        if not accuracy >= threshold:
            return Horizon(best, open_ended=False)
        best = length
    return Horizon(best, open_ended=bool(lengths))


def _check_confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    return confidence
