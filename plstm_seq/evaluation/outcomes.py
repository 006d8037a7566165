"""Runs a model over long sequences in chunks and counts right positions, on the device.

A `Reading` is a batch of sequences after some chunks: the states of model and task, and the counts
so far. One program reads several chunks, as many as take about a second. It does not depend on the
length of the sequences, so it is compiled once for each chunk size, and its memory does not grow
with the length. A `Place` is how far a whole evaluation has come; from a place that a `Bookmark`
kept, the evaluation goes on with the same results.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Int

from plstm_seq.batches import Sample
from plstm_seq.evaluation.sources import EvaluatedModel, Stream

# A program reads so many chunks that it takes about as long: then the host is not waited for, and
# an evaluation can be stopped and shows where it is.
_SECONDS_A_DISPATCH = 0.5


class Chunk(NamedTuple):
    """A piece of labelled sequences; `mask` is true at the positions that are scored."""

    inputs: Int[Array, "B L"]
    targets: Int[Array, "B L"]
    mask: Bool[Array, "B L"]


class Tally(NamedTuple):
    """Counts of each sequence so far: right and scored positions, and whether the last is right."""

    correct: Int[Array | np.ndarray, " B"]
    scored: Int[Array | np.ndarray, " B"]
    last: Bool[Array | np.ndarray, " B"]

    @classmethod
    def empty(cls, batch_size: int) -> Tally:
        """Returns the counts before anything has been read."""
        zeros = jnp.zeros((batch_size,), jnp.int32)
        return cls(zeros, zeros, zeros.astype(bool))


class Reading(NamedTuple):
    """How far a batch of sequences has been read, on the device.

    Attributes:
        chunk: number of chunks that have been read, int32.
        state: the model's state; None: the model is run on whole sequences.
        labels: the task's state; None: the sequences were drawn whole, with their labels.
        tally: counts of what has been read.
    """

    chunk: Int[Array, ""]
    state: Any
    labels: Any
    tally: Tally


class Place(NamedTuple):
    """How far an evaluation has come: a tree of arrays that holds all it needs to go on.

    Attributes:
        batch: how many batches have been measured at every length.
        passed: at how many lengths the current batch has been measured.
        reading: how far the current batch is read; of sampled sequences, those of its next length.
        found: what has been measured (arrays [R, batches * B] on the host), zero where nothing was.
    """

    batch: Int[np.ndarray, ""]
    passed: Int[np.ndarray, ""]
    reading: Reading
    found: Tally


class Bookmark(Protocol):
    """Keeps how far an evaluation has come, so that it can be stopped and taken up again."""

    def find(self, start: Place, /) -> Place:
        """The place to go on from: the one kept, of the same tree as `start`, or else `start`."""
        ...

    def put(self, place: Place, read: int, symbols: int, /) -> None:
        """Takes the place that the evaluation has reached; called every second or so.

        Args:
            place: what the evaluation can go on from.
            read: symbols of all sequences that have been read.
            symbols: symbols that will have been read at the end.
        """
        ...


@dataclass(frozen=True)
class Outcomes:
    """How many positions are right in each of N sequences at each of R lengths.

    Attributes:
        lengths: the R lengths, ascending.
        correct: number of scored positions that are right, [R, N] on the host like the next two.
        scored: number of scored positions.
        last: whether the last scored position is right.
        nested: whether the sequences of a length are beginnings of those of the next length.

    Example:
        >>> import numpy as np
        >>> from plstm_seq.evaluation import Outcomes
        >>> correct, scored = np.array([[4, 3]]), np.array([[4, 4]])
        >>> outcomes = Outcomes((4,), correct, scored, last=np.array([[True, True]]), nested=True)
        >>> outcomes.whole.tolist(), outcomes.num_sequences
        ([[True, False]], 2)
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
class PassPlan:
    """How a pass is run: `chunk_size` symbols at a time, or whole if `carried` is false."""

    num_sequences: int
    batch_size: int
    chunk_size: int
    carried: bool

    @property
    def batches(self) -> int:
        """The number of batches; the last may be cut."""
        return -(-self.num_sequences // self.batch_size)


def stream_outcomes(
    model: EvaluatedModel,
    stream: Stream,
    lengths: Sequence[int],
    plan: PassPlan,
    key: Array,
    bookmark: Bookmark | None = None,
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
        bookmark: where the pass begins, and what is told where it is.
    """
    size = plan.chunk_size if plan.carried else max(lengths)
    size = -(-size // stream.period) * stream.period
    chunks = -(-max(lengths) // size)
    every = jnp.ones((plan.batch_size, size), bool)
    graphdef, variables = nnx.split(model)
    start = _start(model, plan, stream.start(plan.batch_size))
    # Of the types that a chunk leaves behind, since one program makes all of them.
    left, _ = _read_chunk.eval_shape(graphdef, variables, stream, size, key, start)
    start = jax.tree.map(lambda leaf, like: jnp.asarray(leaf, like.dtype), start, left)
    work = _Work(lengths, plan, start, bookmark, plan.batch_size * chunks * size)
    at_once = 1
    while work.batch < plan.batches:
        begun = time.monotonic()
        batch_key = jax.random.fold_in(key, work.batch)
        first = int(work.place.reading.chunk)
        number = min(at_once, (lengths[work.passed] - 1) // size + 1 - first)
        reading, before, right = _read_chunks(
            graphdef, variables, stream, size, batch_key, jnp.int32(number), work.place.reading
        )
        reached = (first + number) * size
        tallies = [
            count(before, right, every, jnp.int32(length - (reached - size)))
            for length in lengths[work.passed :]
            if length <= reached
        ]
        jax.block_until_ready(reading)
        at_once = _chunks_at_once(at_once, number, time.monotonic() - begun)
        work.add(tallies, reading, plan.batch_size * reached)
    return work.outcomes(nested=True)


def sampled_outcomes(
    model: EvaluatedModel,
    sample: Sample,
    lengths: Sequence[int],
    plan: PassPlan,
    key: Array,
    bookmark: Bookmark | None = None,
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
        bookmark: where the evaluation begins, and what is told where it is.
    """
    graphdef, variables = nnx.split(model)
    work = _Work(lengths, plan, _start(model, plan, None), bookmark, plan.batch_size * sum(lengths))
    while work.batch < plan.batches:
        length = lengths[work.passed]
        padded = plan.chunk_size * (1 << (-(-length // plan.chunk_size) - 1).bit_length())
        batch_key = jax.random.fold_in(jax.random.fold_in(key, length), work.batch)
        drawn = _sample(sample, plan.batch_size, padded, batch_key, jnp.int32(length))
        # On the host: slicing on the device would compile a program for every padded length.
        batch = jax.tree.map(np.asarray, drawn)
        # Behind a sequence there may be room for an answer: nothing is scored behind that.
        scored = np.flatnonzero(batch.mask.any(0))
        end = max(length, 1 + int(scored.max(initial=0)))
        size = plan.chunk_size if plan.carried else batch.inputs.shape[1]
        shorter = sum(lengths[: work.passed])
        for begin in range(int(work.place.reading.chunk) * size, end, size):
            chunk, state, _, tally = work.place.reading
            piece = jax.tree.map(lambda array: jnp.asarray(array[:, begin : begin + size]), batch)  # noqa: B023
            right, state = _right(graphdef, variables, piece, state)
            tally = count(tally, right, piece.mask, jnp.int32(end - begin))
            jax.block_until_ready(work.place.reading)  # one chunk ahead of what is measured
            reading = Reading(chunk + 1, state, None, tally)
            read = plan.batch_size * (shorter + min(begin + size, length))
            work.add([tally] if begin + size >= end else [], reading, read, anew=True)
    return work.outcomes(nested=False)


class _Work:
    """An evaluation while it goes on: how far it has come, and the bookmark that keeps it."""

    def __init__(
        self,
        lengths: Sequence[int],
        plan: PassPlan,
        start: Reading,
        bookmark: Bookmark | None,
        symbols: int,
    ):
        self.lengths, self.plan, self.start, self.bookmark = tuple(lengths), plan, start, bookmark
        self.symbols = symbols  # of a batch
        shape = (len(lengths), plan.batches * plan.batch_size)
        found = jax.tree.map(lambda counts: np.zeros(shape, counts.dtype), start.tally)
        place = Place(np.array(0), np.array(0), start, found)
        self.place = place if bookmark is None else bookmark.find(place)

    @property
    def batch(self) -> int:
        return int(self.place.batch)

    @property
    def passed(self) -> int:
        return int(self.place.passed)

    def add(
        self, tallies: Sequence[Tally], reading: Reading, read: int, *, anew: bool = False
    ) -> None:
        """The next lengths are measured, and the batch is so far.

        A place is replaced in one go: an interruption leaves the old one or the new one.

        Args:
            tallies: at the next lengths.
            reading: of the batch.
            read: symbols of the batch.
            anew: the next length has sequences of its own.
        """
        batch, passed, _, found = self.place
        columns = slice(self.batch * self.plan.batch_size, (self.batch + 1) * self.plan.batch_size)
        for index, tally in enumerate(tallies, self.passed):
            for counts, new in zip(found, tally, strict=True):
                counts[index, columns] = np.asarray(new)
        read += self.batch * self.symbols
        passed = passed + len(tallies)
        if tallies and (anew or passed == len(self.lengths)):
            reading = self.start
        if passed == len(self.lengths):
            batch, passed = batch + 1, passed * 0
        self.place = Place(np.array(batch), np.array(passed), reading, found)
        if self.bookmark is not None:
            self.bookmark.put(self.place, read, self.symbols * self.plan.batches)

    def outcomes(self, *, nested: bool) -> Outcomes:
        """Returns what was measured; the last batch may be cut."""
        found = self.place.found
        correct, scored, last = (np.asarray(x)[:, : self.plan.num_sequences] for x in found)
        return Outcomes(self.lengths, correct, scored, last, nested)


def _start(model: EvaluatedModel, plan: PassPlan, labels: Any) -> Reading:
    state = model.init_state(plan.batch_size) if plan.carried else None
    reading = Reading(jnp.int32(0), state, labels, Tally.empty(plan.batch_size))
    # Without weak types: those would make the second chunk another program.
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), reading)


def _chunks_at_once(before: int, read: int, seconds: float) -> int:
    """How many chunks to read at once, after some were read in so many seconds."""
    if seconds > 2 * _SECONDS_A_DISPATCH:
        return max(1, before // 2)
    return 2 * before if read == before and seconds < _SECONDS_A_DISPATCH / 2 else before


@partial(jax.jit, static_argnames=("graphdef", "stream", "size"))
def _read_chunks(
    graphdef: nnx.GraphDef[Any],
    variables: Any,
    stream: Stream,
    size: int,
    key: Array,
    number: Int[Array, ""],
    reading: Reading,
) -> tuple[Reading, Tally, Bool[Array, "B L"]]:
    """Reads chunks, one or more; of the last, also the tally before it and what is right in it."""

    def read(_: Array, carried: tuple[Reading, Tally, Array]) -> tuple[Reading, Tally, Array]:
        now, right = _read_chunk(graphdef, variables, stream, size, key, carried[0])
        return now, carried[0].tally, right

    right = jnp.zeros((reading.tally.last.shape[0], size), bool)
    return jax.lax.fori_loop(0, number, read, (reading, reading.tally, right))


@partial(jax.jit, static_argnames=("graphdef", "stream", "size"))
def _read_chunk(
    graphdef: nnx.GraphDef[Any],
    variables: Any,
    stream: Stream,
    size: int,
    key: Array,
    reading: Reading,
) -> tuple[Reading, Bool[Array, "B L"]]:
    batch = reading.tally.last.shape[0]
    inputs = stream.draw(jax.random.fold_in(key, reading.chunk), batch, size)
    targets, labels = stream.advance(inputs, reading.labels)
    chunk = Chunk(inputs, targets, jnp.ones_like(inputs, dtype=bool))
    right, state = _right(graphdef, variables, chunk, reading.state)
    tally = count(reading.tally, right, chunk.mask, jnp.int32(size))
    return Reading(reading.chunk + 1, state, labels, tally), right


@partial(jax.jit, static_argnames=("sample", "batch", "padded"))
def _sample(sample: Sample, batch: int, padded: int, key: Array, length: Array) -> Chunk:
    drawn = sample(key, batch, padded, lengths=jnp.full((batch,), length))
    return Chunk(drawn.inputs, drawn.targets, drawn.mask)


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
def count(tally: Tally, right: Array, mask: Array, limit: Int[Array, ""]) -> Tally:
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
