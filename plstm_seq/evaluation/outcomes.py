"""Runs a model over long sequences in chunks and counts what was right, on the device.

Three small programs do the work: one draws labelled symbols, one runs the model on a chunk from a
carried state, one adds a chunk to a tally. None of them knows how long the sequences are, so each
is compiled once for a chunk size, and memory does not grow with the length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Int

from plstm_seq.evaluation.sources import Sample, Stream


class EvaluatedModel(Protocol):
    """What evaluation asks of a model.

    `bounded_state` says whether the size of the state is the same after any number of symbols; if
    not, only `model(inputs)` is called.
    """

    @property
    def bounded_state(self) -> bool: ...  # noqa: D102
    def init_state(self, batch_size: int, /) -> Any: ...  # noqa: D102
    def __call__(self, inputs: Array, /, **options: Any) -> Any: ...  # noqa: D102


class Chunk(NamedTuple):
    """A piece of labelled sequences; `mask` is true at the positions that are scored."""

    inputs: Int[Array, "B L"]
    targets: Int[Array, "B L"]
    mask: Bool[Array, "B L"]


class Tally(NamedTuple):
    """Of each sequence so far: right and scored positions; whether the last scored one is right."""

    correct: Int[Array, " B"]
    scored: Int[Array, " B"]
    last: Bool[Array, " B"]


@dataclass(frozen=True)
class Outcomes:
    """What each of N sequences got right at each of R lengths (arrays [R, N] on the host).

    Attributes:
        lengths: the R lengths, ascending.
        correct: scored positions that are right.
        scored: scored positions.
        last: whether the last scored position is right.
        nested: whether the sequences of a length are beginnings of those of the next.
    """

    lengths: tuple[int, ...]
    correct: Int[np.ndarray, "R N"]
    scored: Int[np.ndarray, "R N"]
    last: Bool[np.ndarray, "R N"]
    nested: bool

    @property
    def whole(self) -> Bool[np.ndarray, "R N"]:
        """Whether every scored position is right."""
        return self.correct == self.scored

    @property
    def num_sequences(self) -> int:
        """N."""
        return self.correct.shape[1]


@dataclass(frozen=True)
class Plan:
    """How a model is run: `chunk_size` symbols at a time, or whole if `carried` is false."""

    num_sequences: int
    batch_size: int
    chunk_size: int
    carried: bool


def stream_outcomes(
    model: EvaluatedModel, stream: Stream, lengths: Sequence[int], plan: Plan, key: Array
) -> Outcomes:
    """One pass to the longest length that reads off every length on the way.

    Batch b draws from `fold_in(key, b)`, its chunk c from `fold_in(that, c)`.

    Args:
        model: what is evaluated.
        stream: the task.
        lengths: ascending; no multiples of the chunk size need be among them.
        plan: sizes. Chunks are rounded up to the stream's period; without a carried state there is
            one, as long as the longest length.
        key: typed key.
    """
    size = plan.chunk_size if plan.carried else max(lengths)
    size = -(-size // stream.period) * stream.period

    def chunks(batch_key: Array) -> Iterator[Chunk]:
        state = stream.start(plan.batch_size)
        for number in range(-(-max(lengths) // size)):
            chunk_key = jax.random.fold_in(batch_key, number)
            chunk, state = _draw(stream, plan.batch_size, size, chunk_key, state)
            yield chunk

    batches = [
        _read(model, chunks(jax.random.fold_in(key, number)), lengths, plan)
        for number in range(-(-plan.num_sequences // plan.batch_size))
    ]
    return _gather(tuple(lengths), batches, plan, nested=True)


def sampled_outcomes(
    model: EvaluatedModel, sample: Sample, lengths: Sequence[int], plan: Plan, key: Array
) -> Outcomes:
    """Sequences drawn anew at every length, run in chunks; data (not states) grow with the length.

    Batch b of length n draws from `fold_in(fold_in(key, n), b)`. Samples are padded to the chunk
    size times a power of two, so that few shapes are compiled for sampling and one for the model
    (without a carried state: the same few).

    Args:
        model: what is evaluated.
        sample: the task.
        lengths: ascending.
        plan: sizes.
        key: typed key.
    """
    batches = []
    for number in range(-(-plan.num_sequences // plan.batch_size)):
        tallies = []
        for length in lengths:
            padded = plan.chunk_size * (1 << (-(-length // plan.chunk_size) - 1).bit_length())
            batch_key = jax.random.fold_in(jax.random.fold_in(key, length), number)
            drawn = _sample(sample, plan.batch_size, padded, batch_key, jnp.int32(length))
            # On the host: slicing on the device would compile a program for every padded length.
            batch = jax.tree.map(np.asarray, drawn)
            # Behind a sequence there may be room for an answer: nothing is scored behind that.
            scored = np.flatnonzero(batch.mask.any(0))
            end = max(length, 1 + int(scored.max(initial=0)))
            size = plan.chunk_size if plan.carried else batch.inputs.shape[1]
            tallies += _read(model, _slices(batch, end, size), [end], plan)
        batches.append(tallies)
    return _gather(tuple(lengths), batches, plan, nested=False)


@partial(jax.jit, static_argnames=("stream", "batch", "size"))
def _draw(stream: Stream, batch: int, size: int, key: Array, state: Any) -> tuple[Chunk, Any]:
    inputs = stream.draw(key, batch, size)
    targets, state = stream.advance(inputs, state)
    return Chunk(inputs, targets, jnp.ones_like(inputs, dtype=bool)), state


@partial(jax.jit, static_argnames=("sample", "batch", "padded"))
def _sample(sample: Sample, batch: int, padded: int, key: Array, length: Array) -> Chunk:
    drawn = sample(key, batch, padded, lengths=jnp.full((batch,), length))
    return Chunk(drawn.inputs, drawn.targets, drawn.mask)


def _slices(batch: Chunk, length: int, size: int) -> Iterator[Chunk]:
    for start in range(0, length, size):
        yield jax.tree.map(lambda array: jnp.asarray(array[:, start : start + size]), batch)  # noqa: B023


@partial(jax.jit, static_argnames="graphdef")
def _right(
    graphdef: nnx.GraphDef[Any], variables: Any, chunk: Chunk, state: Any
) -> tuple[Bool[Array, "B L"], Any]:
    model: Any = nnx.merge(graphdef, variables)
    if state is None:
        logits = model(chunk.inputs)
    else:
        logits, state = model(chunk.inputs, initial_state=state, return_state=True)
    return logits.argmax(-1) == chunk.targets, state


@jax.jit
def _count(tally: Tally, right: Array, mask: Array, limit: Int[Array, ""]) -> Tally:
    """Adds the first `limit` positions of a chunk."""
    positions = jnp.arange(mask.shape[1], dtype=jnp.int32)
    mask = mask & (positions < limit)
    final = jnp.where(mask, positions, -1).max(-1)
    at_final = jnp.take_along_axis(right, jnp.maximum(final, 0)[:, None], axis=1)[:, 0]
    return Tally(
        correct=tally.correct + (right & mask).sum(-1, dtype=jnp.int32),
        scored=tally.scored + mask.sum(-1, dtype=jnp.int32),
        last=jnp.where(final >= 0, at_final, tally.last),
    )


def _read(
    model: EvaluatedModel, chunks: Iterable[Chunk], lengths: Sequence[int], plan: Plan
) -> list[Tally]:
    """The tally of one batch at every length; `chunks` reach to the longest."""
    graphdef, variables = nnx.split(model)
    state = None
    if plan.carried:
        # A state without weak types: those would make the second chunk another program.
        initial = model.init_state(plan.batch_size)
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), initial)
    zeros = jnp.zeros((plan.batch_size,), jnp.int32)
    tally = Tally(zeros, zeros, zeros.astype(bool))
    tallies: list[Tally] = []
    start = 0
    for chunk in chunks:
        size = chunk.inputs.shape[1]
        right, state = _right(graphdef, variables, chunk, state)
        for length in lengths[len(tallies) :]:
            if length > start + size:
                break
            tallies.append(_count(tally, right, chunk.mask, jnp.int32(length - start)))
        tally = _count(tally, right, chunk.mask, jnp.int32(size))
        start += size
    return tallies


def _gather(
    lengths: tuple[int, ...], batches: Sequence[Sequence[Tally]], plan: Plan, *, nested: bool
) -> Outcomes:
    """Joins tallies [batch][length] to arrays [R, N]; the last batch may be cut."""

    def join(name: str) -> np.ndarray:
        rows = [np.stack([np.asarray(getattr(t, name)) for t in batch]) for batch in batches]
        return np.concatenate(rows, axis=1)[:, : plan.num_sequences]

    return Outcomes(lengths, join("correct"), join("scored"), join("last"), nested)
