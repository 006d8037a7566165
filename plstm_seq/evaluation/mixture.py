"""Accuracy over sequences of many lengths at once, as benchmarks with one number for all report."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from plstm_seq.evaluation.length import Row
from plstm_seq.evaluation.metrics import bootstrap, scaled, sequence_estimate
from plstm_seq.evaluation.sources import Sample

MIXTURE = "mixture_"
BY_LENGTH = "token_by_length"


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
    """Measure accuracies pooled over sequences whose lengths fill `minimum .. maximum`.

    Every length occurs equally often (up to one sequence, where their number is no multiple): the
    mean that lengths drawn uniformly have, without the noise of drawing them. Sequences are run
    whole, padded to the longest.

    Args:
        model: an nnx module, `model(inputs [B, T])` -> logits [B, T, V].
        sample: draws `batch` sequences of given lengths, padded to a common one.
        minimum: the shortest length.
        maximum: the longest.
        chance: accuracy of a guess at one scored position, in [0, 1).
        key: typed key; batch b draws from `fold_in(key, b)`.
        num_sequences: of all lengths together.
        batch_size: sequences run at once.
        confidence: coverage of the intervals.

    Returns:
        A row each for `mixture_token`, `mixture_sequence`, `mixture_last` and
        `mixture_token_by_length`, where `start` is the shortest length and `length` the longest.
        The first is the mean over all scored positions, so that long sequences weigh more; the last
        is the mean over lengths of the token accuracy at each. Of a sequence the guess is that of
        its mean number of scored positions.

    Raises:
        ValueError: the lengths are not 1 <= minimum <= maximum, or a number is below 1.
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
    correct, positions, last = (
        np.concatenate([np.asarray(part) for part in parts])[:num_sequences]
        for parts in zip(*tallies, strict=True)
    )
    own = lengths[:num_sequences]
    at_length = np.maximum(np.bincount(own, positions)[own], 1)
    estimates = {
        "token": bootstrap(correct, positions, confidence=confidence),
        "sequence": sequence_estimate(correct == positions, confidence=confidence),
        "last": sequence_estimate(last, confidence=confidence),
        BY_LENGTH: bootstrap(correct / at_length, positions / at_length, confidence=confidence),
    }
    guess = dict.fromkeys(estimates, chance)
    guess["sequence"] = chance ** float(positions.mean())
    return tuple(
        Row(
            MIXTURE + name,
            maximum,
            minimum,
            *estimate,
            scaled(estimate.value, guess[name]),
            num_sequences,
        )
        for name, estimate in estimates.items()
    )


@partial(jax.jit, static_argnames=("graphdef", "sample", "longest"))
def _tally(
    graphdef: nnx.GraphDef[Any],
    variables: Any,
    sample: Sample,
    longest: int,
    key: Array,
    lengths: Int[Array, " B"],
) -> tuple[Array, Array, Array]:
    """Of each sequence: right and scored positions; whether the last scored one is right."""
    batch = sample(key, lengths.shape[0], longest, lengths=lengths)
    model: Any = nnx.merge(graphdef, variables)
    right = model(batch.inputs).argmax(-1) == batch.targets
    final = jnp.where(batch.mask, jnp.arange(batch.mask.shape[1]), -1).max(-1)
    at_final = jnp.take_along_axis(right, jnp.maximum(final, 0)[:, None], axis=1)[:, 0]
    correct = (right & batch.mask).sum(-1, dtype=jnp.int32)
    return correct, batch.mask.sum(-1, dtype=jnp.int32), at_final & (final >= 0)
