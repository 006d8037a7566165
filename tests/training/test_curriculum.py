import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from plstm_seq.training import Staged, TrainingConfig, Uniform
from plstm_seq.training.curriculum import draw_lengths


@st.composite
def staged(draw):
    lengths = sorted(draw(st.sets(st.integers(1, 200), min_size=1, max_size=6)))
    steps = draw(st.lists(st.integers(1, 50), min_size=len(lengths), max_size=len(lengths)))
    return Staged(
        stages=tuple(zip(lengths, steps, strict=True)),
        minimum=draw(st.integers(1, lengths[0])),
        fixed=draw(st.booleans()),
        smallest_bucket=draw(st.integers(1, 64)),
    )


@given(staged())
def test_phases_follow_the_stages_step_by_step(curriculum):
    spelled_out = [length for length, steps in curriculum.stages for _ in range(steps)]
    for step, length in enumerate(spelled_out):
        phase = curriculum.phase(step)
        assert phase.maximum == length
        assert phase.minimum == (length if curriculum.fixed else curriculum.minimum)
        assert length <= phase.bucket <= curriculum.longest
        assert phase.until is None or curriculum.phase(phase.until - 1) == phase
        assert phase.until is None or curriculum.phase(phase.until).maximum > length
    assert curriculum.phase(len(spelled_out) + 1000).until is None
    assert spelled_out.index(curriculum.longest) == curriculum.final_start


@given(staged())
def test_buckets_are_few(curriculum):
    buckets = {curriculum.phase(step).bucket for step in range(301)}
    powers = {1 << n for n in range(9)}
    assert buckets <= powers | {curriculum.longest, curriculum.smallest_bucket}


def test_uniform_has_one_phase_and_one_bucket():
    curriculum = Uniform(3, 40)
    assert {curriculum.phase(step) for step in (0, 1, 10_000)} == {(3, 40, 40, None)}


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 2**31))
def test_lengths_reach_both_ends_and_no_further(minimum, extra, seed):
    key = jax.random.key(seed)
    limits = jnp.int32(minimum), jnp.int32(minimum + extra)
    lengths = np.asarray(draw_lengths(key, 2048, *limits, "sequence"))
    assert (lengths.min(), lengths.max()) == (minimum, minimum + extra)
    one = np.asarray(draw_lengths(key, 64, *limits, "batch"))
    assert len(set(one)) == 1
    assert minimum <= one[0] <= minimum + extra


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(0, 4), "minimum, maximum: got"),
        (lambda: Uniform(5, 4), "minimum, maximum: got"),
        (lambda: Uniform(draw="token"), "draw: got 'token', expected one of"),
        (lambda: Staged(stages=()), "growing lengths"),
        (lambda: Staged(stages=((8, 10), (4, 10))), "growing lengths"),
        (lambda: Staged(stages=((4, 10), (4, 10))), "growing lengths"),
        (lambda: Staged(stages=((4, 0),)), "last 1 step"),
        (lambda: Staged(stages=((4, 10),), minimum=5), "minimum: got 5, expected 1 to 4"),
        (lambda: Staged(smallest_bucket=0), "smallest_bucket"),
        (
            lambda: TrainingConfig(steps=100, curriculum=Staged(((4, 100), (8, 1)))),
            r"stages=\[\[4,99\],\[8,1\]\] would fit",
        ),
        (lambda: TrainingConfig(batch_size=0), "batch_size"),
        (lambda: TrainingConfig(checkpoint_every=-1), "checkpoint_every"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_configs_round_trip():
    adapter = TypeAdapter(TrainingConfig)
    config = TrainingConfig(curriculum=Staged(((4, 10), (8, 10))), steps=70)
    assert adapter.validate_json(adapter.dump_json(config)) == config
