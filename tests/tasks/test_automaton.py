"""Automata against a loop over symbols, run in parallel and step by step."""

import jax
import numpy as np
import pytest

import tasks
from tasks import prefix
from tasks.automaton import choices
from tasks.prefix import Machine

TABLES = {
    "permutations": [[1, 2], [2, 0], [0, 1]],
    "resets": [[0, 1, 2], [0, 1, 2], [0, 1, 2]],
    "dead end": [[1, 0], [2, 0], [2, 2]],
    "one state": [[0, 0, 0]],
}


def run(task, row):
    state, labels = task.table.initial, []
    for symbol in row:
        state = task.table.transition[state][symbol]
        labels.append(task.table.outputs[state])
    return labels


@pytest.mark.parametrize(
    ("name", "parallel"),
    [*((name, True) for name in TABLES), ("dead end", False)],
    ids=[*(f"{name}, parallel" for name in TABLES), "dead end, step by step"],
)
def test_labels_are_those_of_a_loop(name, parallel, monkeypatch):
    if not parallel:
        monkeypatch.setattr(prefix, "MAX_MONOID", 0)
    table = TABLES[name]
    # The names keep the two apart in caches of compiled functions.
    names = [f"{'p' if parallel else 's'}{symbol}" for symbol in range(len(table[0]))]
    outputs = [state % 2 for state in range(len(table))]
    task = tasks.Automaton(table, outputs, initial=len(table) - 1, symbol_names=names)
    assert (task.machine.monoid is not None) == parallel
    inputs, targets, _ = task.sample(jax.random.key(0), 8, 20)
    assert targets.tolist() == [run(task, row) for row in inputs.tolist()]


def test_monoid_of_all_maps_of_three_points():
    swap, cycle, collapse = (1, 0, 2), (1, 2, 0), (0, 0, 2)
    task = tasks.Automaton(np.array([swap, cycle, collapse]).T)
    monoid = task.machine.monoid
    assert len(monoid.actions) == 3**3
    for a, b in [(0, 5), (7, 3), (26, 11)]:
        expected = monoid.actions[b][monoid.actions[a]]  # a acts first
        np.testing.assert_array_equal(monoid.actions[monoid.table[a, b]], expected)


def test_cycle_navigation_agrees_with_sums_and_with_its_automaton():
    task = tasks.CycleNavigation(modulus=7)
    inputs, targets, _ = task.sample(jax.random.key(1), 8, 20)
    np.testing.assert_array_equal(targets, np.cumsum(np.asarray(inputs) - 1, axis=1) % 7)
    assert task.machine.chance == pytest.approx(task.chance)


def test_symbols_have_the_frequencies_asked_for():
    task = tasks.FlipFlop(num_values=3, hold_probability=0.7)
    inputs = np.asarray(task.draw(jax.random.key(2), 64, 256))
    shares = np.bincount(inputs.ravel()) / inputs.size
    assert shares == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=0.02)


def test_arrays_and_lists_are_welcome_and_tasks_compare_by_value():
    a = tasks.Automaton(np.array([[0, 1], [1, 0]]))
    b = tasks.get("automaton", transition=[[0, 1], [1, 0]], outputs=[0, 1])
    assert a == b
    assert hash(a) == hash(b)
    assert a.vocabulary == a.labels == ("0", "1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transition": [[0, 1], [1]]}, "expected rows of one length"),
        (
            {"transition": [[0, 2], [1, 0]]},
            "transition: got 2, expected states in 0 .. 1, its rows",
        ),
        ({"transition": [[0.0, 1.0]]}, r"transition: got .*, expected 2 dimensions of ids"),
        ({"transition": []}, r"transition: got .*, expected 2 dimensions"),
        ({"transition": [[0, -1]]}, "of ids from 0 on"),
        ({"outputs": [0, 1]}, "outputs: got 2, expected a label for each of 3 states"),
        ({"initial": 3}, "initial: got 3, expected a state in 0 .. 2"),
        ({"symbol_names": ["a", "a"]}, r"symbol_names: got .*, expected 2 different words"),
        ({"symbol_names": ["a", "b c"]}, r"symbol_names: got .*, expected 2 different words"),
        ({"label_names": ["a"]}, r"label_names: got .*, expected 3 different words"),
    ],
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        tasks.Automaton(**options)


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
