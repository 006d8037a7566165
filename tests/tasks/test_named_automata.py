"""Random automata: what their kind promises, for many seeds."""

import numpy as np
import pytest

import tasks

KINDS = {"permutation": 2, "reset": 7, "mixed": 3}


def connected(table):
    """Whether every state reaches every other, by powers of the matrix of steps."""
    states = len(table)
    steps = np.eye(states, dtype=int)
    steps[np.arange(states)[:, None], table] = 1
    return (np.linalg.matrix_power(steps, states) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_symbols_do_what_the_kind_says(kind):
    found = set()
    for seed in range(20):
        task = tasks.RandomAutomaton(states=5, symbols=KINDS[kind], kind=kind, seed=seed)
        table = task.machine.transition
        reached = [len(set(column)) for column in table.T.tolist()]
        identities = [(column == np.arange(5)).all() for column in table.T]
        assert connected(table)
        if kind == "permutation":
            assert reached == [5] * 2
        elif kind == "reset":
            assert sorted(table[0, :5]) == list(range(5))
            assert reached[:5] == [1] * 5
            assert identities[5]
            assert reached[6] == 1 or identities[6]
        else:
            assert reached[:2] == [5, 1]
            assert reached[2] in (1, 5)
        found.add(table.tobytes())
    assert len(found) == 20


def test_a_table_is_a_function_of_the_options():
    one, two = (tasks.RandomAutomaton(seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.machine.transition, two.machine.transition)
    assert tasks.RandomAutomaton(kind="permutation").chance == 1 / 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "cyclic"}, r"kind: got .*, expected one of permutation, reset, mixed"),
        ({"states": 1}, r"states: got .*, expected at least 2"),
        ({"states": 257}, r"states: got .*, expected at most 256"),
        ({"kind": "reset", "symbols": 3}, "symbols of kind='reset': got 3, expected at least 4"),
        ({"symbols": 1}, "symbols of kind='mixed': got 1, expected at least 2"),
        ({"seed": -1}, r"seed: got .*, expected at least 0"),
    ],
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        tasks.RandomAutomaton(**options)
