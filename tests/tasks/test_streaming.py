"""Labels of a stream in chunks are the labels of the whole, for any split."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tasks

STREAMS = [
    ("cycle_navigation", {"modulus": 600}),  # run step by step
    ("even_pairs", {}),
    ("modular_arithmetic", {}),
    ("s4_word_problem", {"composition": "left", "generators": "standard"}),
    ("s3_word_problem", {"tokens_per_transition": 3}),
]
BATCH, LENGTH = 3, 6


@functools.cache
def stream(index):
    """A task's chunk function, its inputs and the labels of the whole."""
    name, options = STREAMS[index]
    task = tasks.get(name, **options)
    inputs = task.sample(jax.random.key(index), BATCH, LENGTH + 1).inputs[:, :LENGTH]
    # Many small programs, each run a few times: compiling is what takes long.
    fast = {"xla_backend_optimization_level": 0}
    return (
        task,
        jax.jit(task.advance, compiler_options=fast),
        np.asarray(inputs),
        np.asarray(task.targets(inputs)),
    )


@pytest.mark.parametrize(
    "index", range(len(STREAMS)), ids=[f"{name}-{options}" for name, options in STREAMS]
)
@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(cuts=st.sets(st.integers(1, LENGTH - 1), max_size=3))
def test_chunks_are_labelled_as_the_whole(index, cuts):
    task, advance, inputs, whole = stream(index)
    state, labels = task.start(BATCH), []
    for chunk in np.split(inputs, sorted(cuts), axis=1):
        targets, state = advance(chunk, state)
        labels.append(np.asarray(targets))
    np.testing.assert_array_equal(np.concatenate(labels, axis=1), whole)


@pytest.mark.parametrize(
    "index", range(len(STREAMS)), ids=[f"{name}-{options}" for name, options in STREAMS]
)
def test_state_keeps_its_type(index):
    task, advance, inputs, _ = stream(index)
    state = task.start(BATCH)
    _, after = jax.eval_shape(advance, inputs, state)
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), state, after)
    assert jax.tree.all(same)


def test_a_chunk_may_be_empty():
    task = tasks.get("parity")
    targets, state = task.advance(np.zeros((2, 0), np.int32), np.array([0, 1]))
    assert targets.shape == (2, 0)
    np.testing.assert_array_equal(state, [0, 1])


@pytest.mark.parametrize(
    ("name", "options"),
    [("modular_arithmetic", {}), ("s3_word_problem", {"tokens_per_transition": 3})],
)
def test_drawn_chunks_follow_one_another(name, options):
    task = tasks.get(name, **options)
    period = task.period
    assert period > 1
    parts = [task.draw(jax.random.key(seed), 2, 2 * period) for seed in range(3)]
    stream = np.concatenate(parts, axis=1)
    starts = stream[:, ::period]
    symbols = 5 if name == "modular_arithmetic" else 6
    assert (starts < symbols).all()
    assert (stream[:, period - 1 :: period] >= symbols).all()
    with pytest.raises(
        ValueError, match=f"length: got 1, expected a multiple of {period} in chunks"
    ):
        task.draw(jax.random.key(0), 2, 1)
