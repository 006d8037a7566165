"""Inputs of automata whose label can be settled for good."""

import jax
import numpy as np
import pytest

import tasks
from tasks.automaton import choices
from tasks.prefix import Machine


def alive(text):
    """Whether a word of (ab|ba)* can still begin so."""
    return all({text[i : i + 2]} <= {"ab", "ba", "a", "b"} for i in range(0, len(text), 2))


def test_one_half_settles_at_uniform_positions():
    task = tasks.get("automaton", regex="(ab|ba)*")
    lengths = np.repeat([24, 9], 512)
    inputs = task.sample(jax.random.key(0), 1024, 24, lengths=lengths).inputs
    words = task.decode(inputs, lengths=lengths)
    for length in (24, 9):
        group = [word for word in words if len(word) == length]
        ends = [next((i for i in range(1, length + 1) if not alive(w[:i])), None) for w in group]
        settled = [end for end in ends if end is not None]
        # What falls due at the last position, after an even number of symbols, is not settled.
        assert len(settled) / len(group) == pytest.approx(0.5, abs=0.12)
        assert all(end % 2 == 0 for end in settled)
        assert {2, length // 2 * 2} <= set(settled)


def test_lengths_are_measured_by_samples_of_their_own():
    assert not tasks.get("automaton", regex="(ab|ba)*").per_token
    assert tasks.get("automaton", regex="(a|b)*abb").per_token
    assert tasks.get("automaton").per_token


def test_states_that_must_settle_do():
    # After a, every symbol settles the label.
    transition, outputs = np.array([[1, 0], [2, 3], [2, 2], [3, 3]]), np.array([0, 0, 1, 0])
    chosen = choices(Machine(transition, outputs, 0, np.full(2, 1 / 2)))
    np.testing.assert_array_equal(chosen.on, [[1, 1], [1, 1], [1, 1], [1, 1]])
    np.testing.assert_array_equal(chosen.settling, [[0, 0], [1, 1], [0, 0], [0, 0]])
