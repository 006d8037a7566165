import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import FaultyParity, FinalParity, Parity, ToyModel, UnboundedParity

from plstm_seq.evaluation import Stream, length_generalization

KEY = jax.random.key(5)
TASK = Parity()
STREAM = Stream(TASK.draw, TASK.start, TASK.advance)
SAMPLES = {"every position": TASK.sample, "final position": FinalParity().sample}


def evaluate(model, source=STREAM, lengths=(1, 5, 8, 9, 30), **options):
    sizes = {"num_sequences": 6, "batch_size": 4, "chunk_size": 8}
    return length_generalization(
        model, source, lengths, chance=0.5, key=KEY, **{**sizes, **options}
    )


@settings(max_examples=15, deadline=None)
@given(
    st.sets(st.integers(1, 40), min_size=1, max_size=6),
    st.sets(st.integers(0, 40), max_size=4),
)
def test_stream_reads_off_every_length_in_one_pass(lengths, errors):
    lengths = sorted(lengths)
    result = evaluate(FaultyParity(*errors), lengths=lengths)
    assert result.lengths == tuple(lengths)
    for length in lengths:
        wrong = sum(error < length for error in errors)
        assert result.row("token", length).value == (length - wrong) / length
        assert result.row("sequence", length).value == (wrong == 0)
        assert result.row("last", length).value == (length - 1 not in errors)
    first_error = min(errors, default=1000)
    expected = max((length for length in lengths if length <= first_error), default=0)
    assert result.horizon("sequence", 0.99) == (expected, first_error >= lengths[-1])


@pytest.mark.parametrize("chunk_size", [1, 3, 8, 64])
def test_chunks_give_what_the_whole_sequence_gives(chunk_size):
    """An untrained model, whose answers depend on the state that is carried."""
    model = ToyModel(rngs=nnx.Rngs(0))
    lengths = (1, 7, 24, 30)
    drawn = jax.random.bits(KEY, (4, 64), jnp.uint32).astype(jnp.int32) & 1
    position = []

    class Replay(Parity):
        """The same inputs for every chunk size."""

        def start(self, batch):
            return super().start(batch), jnp.zeros((), jnp.int32)

        def advance(self, inputs, state):
            parity, start = state
            inputs = jax.lax.dynamic_slice_in_dim(drawn, start, inputs.shape[1], axis=1)
            position.append(inputs.shape)
            targets, parity = super().advance(inputs, parity)
            return targets, (parity, start + inputs.shape[1])

    class Reading(ToyModel):
        """Answers for the replayed inputs rather than the ones it is given."""

        def init_state(self, batch_size):
            return super().init_state(batch_size), jnp.zeros((), jnp.int32)

        def __call__(self, tokens, *, initial_state, return_state):  # noqa: ARG002
            state, start = initial_state
            tokens = jax.lax.dynamic_slice_in_dim(drawn, start, tokens.shape[1], axis=1)
            logits, state = super().__call__(tokens, initial_state=state, return_state=True)
            return logits, (state, start + tokens.shape[1])

    task = Replay()
    result = evaluate(
        Reading(rngs=nnx.Rngs(0)),
        Stream(task.draw, task.start, task.advance),
        lengths,
        num_sequences=4,
        chunk_size=chunk_size,
    )
    targets, _ = TASK.advance(drawn, TASK.start(4))
    right = np.asarray(model(drawn).argmax(-1) == targets)
    assert 0.2 < right[:, :30].mean() < 0.8
    for index, length in enumerate(lengths):
        np.testing.assert_array_equal(result.outcomes.correct[index], right[:, :length].sum(1))
        np.testing.assert_array_equal(result.outcomes.last[index], right[:, length - 1])
    assert {shape[1] for shape in position} == {chunk_size}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
@pytest.mark.parametrize("length", [1, 8, 9, 30])
def test_samples_are_scored_where_their_mask_says(sample, length):
    final = sample is not SAMPLES["every position"]
    result = evaluate(FaultyParity(2, 8), sample, [length])
    wrong = sum(error == length - 1 if final else error < length for error in (2, 8))
    scored = 1 if final else length
    assert (result.outcomes.scored == scored).all()
    assert result.row("token", length).value == (scored - wrong) / scored
    assert result.row("sequence", length).value == (wrong == 0)
    assert result.row("last", length).value == (length - 1 not in (2, 8))


@pytest.mark.parametrize("length", [1, 5, 9])
def test_answers_behind_a_sequence_are_scored(length):
    class Answering(Parity):
        """Scores as many positions again as a sequence has, behind it."""

        def sample(self, key, batch, length, *, lengths=None):
            drawn = super().sample(key, batch, 2 * length)
            position, lengths = jnp.arange(2 * length), lengths[:, None]
            return drawn._replace(mask=(position >= lengths) & (position < 2 * lengths))

    result = evaluate(FaultyParity(2, 8), Answering().sample, [length])
    wrong = sum(length <= error < 2 * length for error in (2, 8))
    assert (result.outcomes.scored == length).all()
    assert result.row("token", length).value == (length - wrong) / length


def test_samples_are_labelled_by_their_own_task():
    """A model that answers at chance is measured at chance: labels and answers do not leak."""
    result = evaluate(FaultyParity(every=2), SAMPLES["final position"], [7, 8], num_sequences=32)
    assert [result.row("token", length).value for length in (7, 8)] == [0.0, 1.0]


def test_every_sequence_and_chunk_is_other_data():
    seen = []

    class Watched(Parity):
        def advance(self, inputs, state):
            jax.debug.callback(lambda x: seen.append(np.asarray(x)), inputs)
            return super().advance(inputs, state)

    task = Watched()
    stream = Stream(task.draw, task.start, task.advance)
    for _ in range(2):
        evaluate(FaultyParity(), stream, [64], num_sequences=8, chunk_size=32)
    jax.effects_barrier()
    assert len(seen) == 8  # twice: two batches of two chunks
    np.testing.assert_array_equal(sorted(map(bytes, seen[:4])), sorted(map(bytes, seen[4:])))
    assert len({row.tobytes() for chunk in seen[:4] for row in chunk}) == 16


def count_traces():
    shapes = []

    class Counted(FaultyParity):
        def __call__(self, tokens, **options):
            shapes.append(tokens.shape)
            return super().__call__(tokens, **options)

    return Counted(), shapes


@pytest.mark.parametrize("source", [STREAM, *SAMPLES.values()], ids=["stream", *SAMPLES])
def test_the_model_is_compiled_once_for_a_chunk_size(source):
    model, shapes = count_traces()
    for lengths in ([1, 8, 40], [3, 7, 9, 11, 1000]):
        evaluate(model, source, lengths)
    assert shapes == [(4, 8)]


def test_memory_does_not_grow_with_the_length():
    """Bytes alive on the device after every chunk, at the last chunks of a short and a long run."""
    live = []

    class Watched(Parity):
        def draw(self, key, batch, length):
            jax.debug.callback(
                lambda _: live.append(sum(x.nbytes for x in jax.live_arrays())), key_data(key)
            )
            return super().draw(key, batch, length)

    def key_data(key):
        return jax.random.key_data(key)

    task = Watched()
    model = FaultyParity()
    for chunks in (4, 64):
        lengths = [1, 8 * chunks]
        evaluate(model, Stream(task.draw, task.start, task.advance), lengths, num_sequences=4)
    jax.effects_barrier()
    assert len(live) == 4 + 64
    # Chunks in flight at once are bounded; 64 of them with 4 x 8 answers each would be 2 KiB more.
    assert max(live[-10:]) <= max(live[:4]) + 1024


def test_long_sequences_are_counted_to_the_last_position():
    result = evaluate(
        FaultyParity(65_535),
        lengths=[65_535, 65_536, 70_000],
        num_sequences=2,
        batch_size=2,
        chunk_size=8192,
    )
    assert [result.row("sequence", n).value for n in result.lengths] == [1.0, 0.0, 0.0]
    assert [result.row("last", n).value for n in result.lengths] == [1.0, 0.0, 1.0]
    assert result.outcomes.correct[-1].tolist() == [69_999, 69_999]


def test_segments_are_between_consecutive_lengths():
    result = evaluate(FaultyParity(6, 7, 12), lengths=[5, 10, 30])
    segments = [row for row in result.rows if row.metric == "segment"]
    assert [(row.start, row.length) for row in segments] == [(5, 10), (10, 30)]
    assert [row.value for row in segments] == pytest.approx([1 - 2 / 5, 1 - 1 / 20])
    assert result.token_accuracy(5, 30).value == pytest.approx(1 - 3 / 25)
    assert result.token_accuracy(0, 30).value == result.row("token", 30).value
    for start, stop in ((5, 5), (10, 5), (6, 30), (5, 31)):
        with pytest.raises(ValueError, match="expected start < stop in"):
            result.token_accuracy(start, stop)
    with pytest.raises(ValueError, match=r"source: got .*, expected a Stream"):
        evaluate(FaultyParity(), TASK.sample, [5, 10]).token_accuracy(5, 10)


def test_sequence_accuracy_is_scaled_to_guessing_every_position():
    result = evaluate(FaultyParity(), SAMPLES["final position"], [4])
    assert {row.scaled for row in result.rows} == {1.0}
    none_right = evaluate(FaultyParity(every=1), lengths=[3])
    assert none_right.row("token", 3).scaled == -1.0
    assert none_right.row("sequence", 3).scaled == pytest.approx(-(0.5**3) / (1 - 0.5**3))


@pytest.mark.parametrize("source", [STREAM, TASK.sample], ids=["stream", "sample"])
def test_unbounded_state_is_run_whole_up_to_a_maximum_and_says_so(source):
    model = UnboundedParity(9)
    result = evaluate(model, source, [5, 20, 32, 33, 64], whole_maximum=32)
    assert result.lengths == (5, 20, 32)
    assert result.skipped == (33, 64)
    assert result.whole
    assert "whole" in str(result)
    assert "[33, 64] skipped" in str(result)
    assert [result.row("token", n).value for n in result.lengths] == [1, 19 / 20, 31 / 32]
    with pytest.raises(ValueError, match=r"lengths: got .*, expected one up to whole_maximum=32"):
        evaluate(model, source, [33, 64], whole_maximum=32)


def test_a_stream_with_a_period_is_drawn_in_its_multiples():
    drawn = []

    def draw(key, batch, length):
        drawn.append(length)
        return TASK.draw(key, batch, length)

    for model in (FaultyParity(), UnboundedParity()):
        evaluate(model, Stream(draw, TASK.start, TASK.advance, period=3), [4, 10])
    assert drawn == [9, 12]


def test_result_is_a_function_of_the_key():
    model = ToyModel(rngs=nnx.Rngs(0))
    first, again = (evaluate(model) for _ in range(2))
    assert first.rows == again.rows
    other = length_generalization(
        model, STREAM, [30], chance=0.5, key=jax.random.key(6), num_sequences=6, chunk_size=8
    )
    assert other.row("token", 30) != first.row("token", 30)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lengths": []}, "lengths: got"),
        ({"lengths": [0, 3]}, "lengths: got"),
        ({"num_sequences": 0}, "num_sequences: got 0, expected at least 1"),
        ({"batch_size": 0}, "batch_size: got 0, expected at least 1"),
        ({"chunk_size": 0}, "chunk_size: got 0, expected at least 1"),
    ],
)
def test_nonsense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        evaluate(FaultyParity(), **wrong)
    with pytest.raises(ValueError, match=r"chance: got .*, expected in"):
        length_generalization(FaultyParity(), STREAM, [3], chance=1.0, key=KEY)
    with pytest.raises(ValueError, match="metric, length: got 'token' and 4, expected a row"):
        evaluate(FaultyParity(), lengths=[3]).row("token", 4)


def test_answers_behind_the_length_are_read():
    """Tasks that append room for an answer return more positions than the length asked for."""

    def sample(key, batch, length, *, lengths=None):
        drawn = TASK.sample(key, batch, 2 * length)
        end = 2 * lengths[:, None]
        place = jnp.arange(2 * length)
        return drawn._replace(mask=(place >= end // 2) & (place < end))

    for model in (FaultyParity(9, 30), UnboundedParity()):
        result = evaluate(model, sample, lengths=(5, 8))
        exact = isinstance(model, UnboundedParity)
        assert result.row("token", 5).value == (1.0 if exact else 4 / 5)
        assert result.row("last", 5).value == exact
        assert result.row("token", 8).value == (1.0 if exact else 7 / 8)
        assert result.row("last", 8).value == 1.0


class Places:
    """Keeps every place that an evaluation reaches, and begins at one."""

    def __init__(self, start=None):
        self.start, self.places, self.read = start, [], []

    def find(self, start):
        return start if self.start is None else copy_of(self.start)

    def put(self, place, read, symbols):
        self.places.append(copy_of(place))
        self.read.append((read, symbols))


def copy_of(place):
    return jax.tree.map(lambda leaf: np.array(leaf), place)


@pytest.mark.parametrize("source", [STREAM, *SAMPLES.values()], ids=["stream", *SAMPLES])
@pytest.mark.parametrize("make", [ToyModel, UnboundedParity])
def test_an_evaluation_goes_on_from_every_place_to_the_same_counts(source, make):
    model = make(rngs=nnx.Rngs(0)) if make is ToyModel else make(3, 20)
    whole = Places()
    expected = evaluate(model, source, bookmark=whole)
    assert len(whole.places) >= (6 if make is ToyModel else 2)
    assert [read for read, _ in whole.read] == sorted(read for read, _ in whole.read)
    assert whole.read[-1][0] == whole.read[-1][1]
    for place in whole.places:
        again = Places(place)
        assert evaluate(model, source, bookmark=again).rows == expected.rows
        assert len(again.places) < len(whole.places)


def test_many_chunks_are_read_at_once():
    places = Places()
    evaluate(FaultyParity(), lengths=[8 * 512], bookmark=places, num_sequences=4)
    assert len(places.places) < 128


def test_a_million_symbols_are_counted_to_the_last():
    """More than float32 could count: 2 ** 24 in all, and 2 ** 20 of a sequence."""
    longest = 2**20
    result = evaluate(
        FaultyParity(longest - 1),
        lengths=[longest - 1, longest],
        num_sequences=17,
        batch_size=17,
        chunk_size=2**15,
    )
    assert result.outcomes.correct.tolist() == [[longest - 1] * 17] * 2
    assert result.row("token", longest).value == (longest - 1) / longest
    assert [result.row("sequence", n).value for n in result.lengths] == [1.0, 0.0]
    assert result.row("sequence", longest).scaled == 0.0
    assert result.token_accuracy(longest - 1, longest).value == 0.0


def test_counts_reach_to_the_longest_length_that_is_evaluated():
    """Begun 3 chunks before the largest number of int32, which 2,147,483,639 of 8 reach."""
    longest = 2**31 - 1
    start = Places()
    evaluate(FaultyParity(), lengths=[9], bookmark=start, num_sequences=4)
    first = start.places[0]
    done = 2**31 // 8 - 3
    counts = np.full(4, 8 * done, np.int32)
    reading = first.reading._replace(
        chunk=np.int32(done),
        state=(first.reading.state[0], np.int32(8 * done)),
        tally=first.reading.tally._replace(correct=counts - 1, scored=counts),
    )
    place = first._replace(reading=reading)
    result = evaluate(
        FaultyParity(longest - 2), lengths=[longest], bookmark=Places(place), num_sequences=4
    )
    assert result.outcomes.scored.tolist() == [[longest] * 4]
    assert result.outcomes.correct.tolist() == [[longest - 2] * 4]
    assert result.row("token", longest).value == (longest - 2) / longest
    with pytest.raises(ValueError, match="lengths: got 2147483648, expected at most 2147483647"):
        evaluate(FaultyParity(), lengths=[longest + 1])


def test_a_state_whose_type_a_chunk_changes_is_carried():
    class Widening(FaultyParity):
        def init_state(self, batch_size):
            parity, start = super().init_state(batch_size)
            return parity.astype(jnp.int8), start

    assert evaluate(Widening(9)).row("token", 30).value == 29 / 30
