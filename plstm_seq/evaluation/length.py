"""Accuracy far beyond the training length: at many lengths, or over a mixture of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from plstm_seq.evaluation.metrics import (
    Estimate,
    Horizon,
    bootstrap,
    horizon,
    scaled,
    sequence_estimate,
)
from plstm_seq.evaluation.outcomes import (
    Bookmark,
    Outcomes,
    Plan,
    Tally,
    count,
    sampled_outcomes,
    stream_outcomes,
)
from plstm_seq.evaluation.sources import EvaluatedModel, Sample, Source, Stream

Axis = Literal["length", "size", "depth"]
Metric = Literal["token", "sequence", "last"]
METRICS: tuple[Metric, ...] = ("token", "sequence", "last")
SEGMENT = "segment"
# Before the metric of a model whose parameters are averages over training.
AVERAGED = "averaged_"
# Before the metric of sequences of many lengths at once.
MIXTURE = "mixture_"
BY_LENGTH = "token_by_length"
HORIZON_THRESHOLDS = (0.9, 0.99)
# The longest sequences that a model whose state grows is run on, whole.
WHOLE_MAXIMUM = 4096
# Positions are counted in int32.
LONGEST = 2**31 - 1


class Row(NamedTuple):
    """One measured accuracy.

    `metric` is `token`, `sequence` or `last`, over positions 1 .. `length` (then `start` is 0), or
    `segment`, the token accuracy of positions `start` + 1 .. `length` only. `low` and `high` are
    the ends of the interval of `value`. `scaled` is the value with chance at 0 and perfection at 1.
    """

    metric: str
    length: int
    start: int
    value: float
    low: float
    high: float
    scaled: float
    num_sequences: int


@dataclass(frozen=True)
class LengthGeneralization:
    """Accuracy against length, or against another size of the input.

    Attributes:
        outcomes: the counts of every sequence at every length.
        chance: accuracy of a guess at one scored position.
        confidence: coverage of the intervals.
        chunk_size: number of symbols that were run at a time.
        whole: whether the model was run on whole sequences, because its state is not bounded.
        skipped: lengths that were left out because they are too long to be run whole.
        rows: every metric at every length, and the segments between lengths.
        axis: what the lengths are: lengths of sequences, or sizes or depths of other inputs.
        step: the training step of the measured model; None: not known.
        checkpoint: identity of the checkpoint that was measured; None: not known.
        notes: what a reader has to know, such as that a later checkpoint is damaged.
    """

    outcomes: Outcomes
    chance: float
    confidence: float
    chunk_size: int
    whole: bool
    skipped: tuple[int, ...]
    rows: tuple[Row, ...]
    axis: Axis = "length"
    step: int | None = None
    checkpoint: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def lengths(self) -> tuple[int, ...]:
        """The evaluated lengths, ascending."""
        return self.outcomes.lengths

    def row(self, metric: Metric, length: int) -> Row:
        """The row of a metric at an evaluated length.

        Raises:
            ValueError: there is no such row.
        """
        for row in self.rows:
            if (row.metric, row.length) == (metric, length):
                return row
        raise ValueError(
            f"no row of metric {metric!r} at length {length}: {self.lengths} are there"
        )

    def token_accuracy(self, start: int, stop: int) -> Estimate:
        """Token accuracy at positions `start` + 1 .. `stop`.

        Args:
            start: 0 or an evaluated length.
            stop: an evaluated length above it.

        Raises:
            ValueError: not such lengths, or each length has its own sequences (sampled tasks).
        """
        return _segment(self.outcomes, start, stop, self.confidence)

    def horizon(self, metric: Metric, threshold: float) -> Horizon:
        """The largest length such that it and every shorter one reach `threshold`."""
        values = [self.row(metric, length).value for length in self.lengths]
        return horizon(self.lengths, values, threshold)

    def horizons(self) -> dict[tuple[Metric, float], Horizon]:
        """The horizon of every metric at each of `HORIZON_THRESHOLDS`."""
        return {(m, t): self.horizon(m, t) for m in METRICS for t in HORIZON_THRESHOLDS}

    def __str__(self) -> str:
        """What was measured, and every accuracy with its interval, as a table of text."""
        found = {(row.metric, row.length): row for row in self.rows if not row.start}
        lines = [self.describe()]
        # Without and, where a second pass was made, with correction.
        passes = [name.removesuffix("token") for name, _ in found if name.endswith("token")]
        for prefix in dict.fromkeys(passes):
            names = [prefix + metric for metric in METRICS]
            lines.append(f"{self.axis:>9}" + "".join(f"  {name:<21}" for name in names))
            for length in self.lengths:
                cells = "".join(f"  {_cell(found[name, length]):<21}" for name in names)
                lines.append(f"{length:>9,}{cells}")
        mixed = [row for row in self.rows if row.start and row.metric != SEGMENT]
        lines += [f"{row.metric}, {row.start} to {row.length}: {_cell(row)}" for row in mixed]
        return "\n".join(line.rstrip() for line in lines)

    def describe(self) -> str:
        """Says in one line what was measured, without the results."""
        of = () if self.step is None else (f"model of step {self.step}",)
        return "; ".join((self._conditions(), *of, *self.notes))

    def _conditions(self) -> str:
        if self.axis != "length":
            count = self.outcomes.num_sequences
            return f"{count} examples at each {self.axis} of {list(self.lengths)}"
        how = f"in chunks of {self.chunk_size}"
        if self.whole:
            how = "whole (state not bounded)"
            if self.skipped:
                how += f"; lengths {list(self.skipped)} skipped as too long for that"
        return f"{self.outcomes.num_sequences} sequences at lengths {list(self.lengths)}, run {how}"


def _cell(row: Row) -> str:
    return f"{row.value:.3f} ({row.low:.3f}-{row.high:.3f})"


def length_generalization(
    model: nnx.Module,
    source: Source,
    lengths: Sequence[int],
    *,
    chance: float,
    key: Array,
    num_sequences: int = 512,
    batch_size: int = 128,
    chunk_size: int = 256,
    whole_maximum: int = WHOLE_MAXIMUM,
    confidence: float = 0.95,
    bookmark: Bookmark | None = None,
) -> LengthGeneralization:
    """Measure token, sequence and last-position accuracy at many lengths.

    A `Stream` is read in one pass to the longest length. It is read in chunks, and the model's
    state is carried from one to the next: memory does not depend on the length, and the model is
    compiled once for each chunk size. A `Sample` is drawn anew at each length and read likewise.

    A model whose `bounded_state` is false is run on whole sequences up to `whole_maximum`; longer
    lengths are skipped, and the result says so.

    Args:
        model: an nnx module with `bounded_state`, `init_state(batch)` and
            `model(inputs, initial_state=..., return_state=True)` -> (logits, state), where inputs
            are [B, L] and logits [B, L, V].
        source: a `Stream` for per-token tasks, else the task's `sample` function.
        lengths: any lengths from 1 to 2,147,483,647, not only multiples of the chunk size.
        chance: accuracy of a guess at one scored position, in [0, 1).
        key: typed key; the result is a function of it, `batch_size` and `chunk_size`.
        num_sequences: number of sequences at each length; at least 512 where a claim is made.
        batch_size: number of sequences that are run at once.
        chunk_size: number of symbols that are run at once.
        whole_maximum: the longest length for a model of unbounded state.
        confidence: coverage of the intervals: Wilson's for `sequence` and `last`, a bootstrap over
            sequences for tokens.
        bookmark: keeps how far the evaluation has come, and says where it begins; None: it begins
            at the start.

    Returns:
        The accuracies as rows, their horizons, and the counts that they were computed from.

    Raises:
        ValueError: a size below 1, a length that is not one of those, `chance` outside [0, 1), or
            nothing to evaluate.

    Example:
        >>> import tasks
        >>> from plstm_seq.layers.mixers import RNNConfig
        >>> from plstm_seq.models import SequenceModel, SequenceModelConfig
        >>> task, config = tasks.get("parity"), SequenceModelConfig(width=8, mixer=RNNConfig())
        >>> model = SequenceModel(2, config, rngs=nnx.Rngs(0))  # not trained: it guesses
        >>> stream = Stream(task.draw, task.start, task.advance)
        >>> options = {"chance": task.chance, "key": jax.random.key(0), "num_sequences": 8}
        >>> result: LengthGeneralization = length_generalization(model, stream, [16, 64], **options)
        >>> result.lengths, result.horizon("sequence", 0.9)
        ((16, 64), Horizon(length=0, open_ended=False))
    """
    evaluated = cast(EvaluatedModel, model)
    carried = evaluated.bounded_state
    sizes = {"num_sequences": num_sequences, "batch_size": batch_size, "chunk_size": chunk_size}
    wanted = check_arguments("length", lengths, sizes)
    if wanted[-1] > LONGEST:
        raise ValueError(f"lengths must be at most {LONGEST:,}, got {wanted[-1]:,}")
    kept = [length for length in wanted if carried or length <= whole_maximum]
    if not kept:
        raise ValueError(
            f"lengths {wanted} all exceed whole_maximum={whole_maximum}, and the model's state is "
            "not bounded"
        )
    scaled(0.0, chance)  # a wrong chance should not show only after the run
    plan = Plan(num_sequences, min(batch_size, num_sequences), chunk_size, carried)
    if isinstance(source, Stream):
        outcomes = stream_outcomes(evaluated, source, kept, plan, key, bookmark)
    else:
        outcomes = sampled_outcomes(evaluated, source, kept, plan, key, bookmark)
    return LengthGeneralization(
        outcomes=outcomes,
        chance=chance,
        confidence=confidence,
        chunk_size=chunk_size,
        whole=not carried,
        skipped=tuple(length for length in wanted if length not in kept),
        rows=tuple(rows_of(outcomes, chance, confidence)),
    )


def check_arguments(axis: Axis, lengths: Sequence[int], numbers: dict[str, int]) -> list[int]:
    """The different lengths, ascending; `ValueError` if one, or one of the numbers, is below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be >= 1, got {number}")
    wanted = sorted({int(length) for length in lengths})
    if not wanted or wanted[0] < 1:
        raise ValueError(f"{axis}s must be one or more numbers >= 1, got {list(lengths)}")
    return wanted


def rows_of(outcomes: Outcomes, chance: float, confidence: float) -> Iterator[Row]:
    """Every metric at every length, and the segments between lengths that are nested."""
    count = outcomes.num_sequences
    for index, length in enumerate(outcomes.lengths):
        correct, scored = outcomes.correct[index], outcomes.scored[index]
        # A sequence is guessed only by guessing every one of its scored positions.
        guess = {"token": chance, "last": chance, "sequence": chance ** float(scored.mean())}
        estimates = {
            "token": bootstrap(correct, scored, confidence=confidence),
            "sequence": sequence_estimate(outcomes.whole[index], confidence=confidence),
            "last": sequence_estimate(outcomes.last[index], confidence=confidence),
        }
        for metric in METRICS:
            yield _row(metric, length, 0, estimates[metric], guess[metric], count)
    if outcomes.nested:
        for start, stop in pairwise(outcomes.lengths):
            estimate = _segment(outcomes, start, stop, confidence)
            yield _row(SEGMENT, stop, start, estimate, chance, count)


def _row(metric: str, length: int, start: int, estimate: Estimate, guess: float, count: int) -> Row:
    return Row(metric, length, start, *estimate, scaled(estimate.value, guess), count)


def _segment(outcomes: Outcomes, start: int, stop: int, confidence: float) -> Estimate:
    if not outcomes.nested:
        raise ValueError("segments need a Stream: here each length has sequences of its own")
    known = (0, *outcomes.lengths)
    if start not in known or stop not in known or start >= stop:
        raise ValueError(f"start < stop must be two of {known}, got {start} and {stop}")

    def between(counts: np.ndarray) -> np.ndarray:
        before = counts[known.index(start) - 1] if start else 0
        return counts[known.index(stop) - 1] - before

    return bootstrap(between(outcomes.correct), between(outcomes.scored), confidence=confidence)


def mixture_of_lengths(
    model: nnx.Module,
    sample: Sample,
    minimum: int,
    maximum: int,
    *,
    chance: float,
    key: Array,
    num_sequences: int,
    batch_size: int = 128,
    confidence: float = 0.95,
) -> tuple[Row, ...]:
    """Measure accuracies pooled over sequences of all lengths `minimum .. maximum`.

    Every length occurs equally often (up to one sequence): the result is the mean that uniformly
    drawn lengths have, without the noise of drawing them. Sequences are run whole and padded.

    Args:
        model: an nnx module, `model(inputs [B, T])` -> logits [B, T, V].
        sample: draws `batch` sequences of given lengths, padded to a common one.
        minimum: the shortest length.
        maximum: the longest length.
        chance: accuracy of a guess at one scored position, in [0, 1).
        key: typed key; batch b draws from `fold_in(key, b)`.
        num_sequences: number of sequences of all lengths together.
        batch_size: number of sequences that are run at once.
        confidence: coverage of the intervals.

    Returns:
        A row each for `mixture_token`, `mixture_sequence`, `mixture_last` and
        `mixture_token_by_length`; `start` is the shortest length and `length` the longest. The
        first is the mean over all scored positions, so that long sequences weigh more; the last is
        the mean of the token accuracies at each length. A sequence of the mean number of scored
        positions gives the chance that `scaled` uses for `mixture_sequence`.

    Raises:
        ValueError: the lengths are not 1 <= minimum <= maximum, or a number is below 1.

    Example:
        >>> import tasks
        >>> task, model = tasks.get("parity"), nnx.Embed(2, 2, rngs=nnx.Rngs(0))
        >>> options = {"chance": task.chance, "key": jax.random.key(0), "num_sequences": 16}
        >>> rows: tuple[Row, ...] = mixture_of_lengths(model, task.sample, 1, 4, **options)
        >>> [row.metric for row in rows][:2], rows[0].start, rows[0].length
        (['mixture_token', 'mixture_sequence'], 1, 4)
    """
    if not 1 <= minimum <= maximum:
        raise ValueError(f"lengths must satisfy 1 <= minimum <= maximum, got {minimum}, {maximum}")
    if min(num_sequences, batch_size) < 1:
        raise ValueError(
            f"num_sequences and batch_size must be >= 1, got {num_sequences} and {batch_size}"
        )
    batch = min(batch_size, num_sequences)
    batches = -(-num_sequences // batch)
    lengths = minimum + np.arange(batches * batch, dtype=np.int32) % (maximum - minimum + 1)
    graphdef, variables = nnx.split(model)
    tallies = [
        _tally(graphdef, variables, sample, maximum, jax.random.fold_in(key, number), part)
        for number, part in enumerate(lengths.reshape(batches, batch))
    ]
    correct, scored, last = (
        np.concatenate(parts)[:num_sequences] for parts in zip(*tallies, strict=True)
    )
    outcomes = Outcomes((maximum,), correct[None], scored[None], last[None], nested=False)
    own = lengths[:num_sequences]
    at_length = np.maximum(np.bincount(own, scored)[own], 1)
    by_length = bootstrap(correct / at_length, scored / at_length, confidence=confidence)
    rows = [row._replace(start=minimum) for row in rows_of(outcomes, chance, confidence)]
    rows.append(_row(BY_LENGTH, maximum, minimum, by_length, chance, num_sequences))
    return tuple(row._replace(metric=MIXTURE + row.metric) for row in rows)


@partial(jax.jit, static_argnames=("graphdef", "sample", "longest"))
def _tally(
    graphdef: nnx.GraphDef[Any],
    variables: Any,
    sample: Sample,
    longest: int,
    key: Array,
    lengths: Int[Array, " B"],
) -> Tally:
    batch = sample(key, lengths.shape[0], longest, lengths=lengths)
    model: Any = nnx.merge(graphdef, variables)
    right = model(batch.inputs).argmax(-1) == batch.targets
    return count(Tally.empty(lengths.shape[0]), right, batch.mask, jnp.int32(batch.mask.shape[1]))
