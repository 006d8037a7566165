"""What automata are like, against counting everything out."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tasks
from tasks.prefix import Machine
from tasks.structure import analyse, minimise

# Kind, states, elements of the monoid, order of the largest group, abelian, solvable.
KNOWN = {
    ("z2_word_problem", ()): ("group", 2, 2, 2, True, True),
    ("z60_word_problem", ()): ("group", 60, 60, 60, True, True),
    ("s3_word_problem", ()): ("group", 6, 6, 6, False, True),
    ("s4_word_problem", (("composition", "left"),)): ("group", 24, 24, 24, False, True),
    ("s5_word_problem", (("generators", "swaps"),)): ("group", 120, 120, 120, False, False),
    ("a4_word_problem", ()): ("group", 12, 12, 12, False, True),
    ("a5_word_problem", (("generators", "standard"),)): ("group", 60, 60, 60, False, False),
    ("d4_word_problem", ()): ("group", 8, 8, 8, False, True),
    ("q8_word_problem", ()): ("group", 8, 8, 8, False, True),
    ("psl2_7_word_problem", ()): ("group", 168, 168, 168, False, False),
    # Half of S4 is all that an even generator reaches.
    ("s4_word_problem", (("generators", ("(123)", "(234)")),)): ("group", 12, 12, 12, False, True),
    ("parity", ()): ("group", 2, 2, 2, True, True),
    ("cycle_navigation", ()): ("group", 5, 5, 5, True, True),
    ("automaton", ()): ("group", 3, 6, 6, False, True),
    ("flip_flop", ()): ("aperiodic", 2, 3, 1, True, True),
    ("flip_flop", (("num_values", 5),)): ("aperiodic", 5, 6, 1, True, True),
    ("even_pairs", ()): ("aperiodic", 5, 5, 1, True, True),
    ("automaton", (("regex", "(ab|ba)*"),)): ("aperiodic", 4, 15, 1, True, True),
    ("automaton", (("regex", "a(ab)*"),)): ("aperiodic", 4, 9, 1, True, True),
    ("automaton", (("regex", "(aa)*"), ("alphabet", "ab"))): (
        *("permutation-reset", 3, 3, 2, True, True),
    ),
    ("modular_arithmetic", ()): ("mixed", 60, 618, 5, True, True),
    ("s5_word_problem", (("tokens_per_transition", 2), ("generators", "standard"))): (
        *("mixed", 360, 722, 120, False, False),
    ),
}


def named(case):
    name, options = case
    return name + "".join(f"-{key}={value}" for key, value in options)


@pytest.mark.parametrize("case", KNOWN, ids=named)
def test_known_answers(case):
    name, options = case
    found = tasks.structure(tasks.get(name, **dict(options)))
    assert found is not None
    answer = (
        *(found.kind, found.states, found.monoid_order, found.group_order),
        *(found.is_abelian, found.is_solvable),
    )
    assert answer == KNOWN[case]
    assert found.is_aperiodic == (found.group_order == 1)
    assert found.group is not None
    assert len(found.group.table) == found.group_order


REGULAR = {
    *("automaton", "cycle_navigation", "even_pairs", "flip_flop", "modular_arithmetic"),
    *("parity", "random_automaton", "word_problem"),
}


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_has_an_automaton_or_none(name):
    found = tasks.structure(tasks.get(name))
    assert (found is not None) == (name in REGULAR or name.endswith("_word_problem"))


LABELLED = [
    *((name, {}) for name in sorted(REGULAR - {"word_problem"})),
    ("parity", {"labels_at": "last"}),
    ("automaton", {"regex": "(ab|ba)*"}),
    ("modular_arithmetic", {"modulus": 4, "operators": "-*"}),
    ("s3_word_problem", {"composition": "left", "generators": "standard"}),
    ("s3_word_problem", {"tokens_per_transition": 2, "composition": "left"}),
    ("s3_word_problem", {"tokens_per_transition": 3, "filler": "repeat"}),
    ("s3_word_problem", {"tokens_per_transition": 3, "filler": "identity"}),
]


@pytest.mark.parametrize(
    ("name", "options"), LABELLED, ids=[named((name, o.items())) for name, o in LABELLED]
)
def test_automata_label_as_their_tasks_do(name, options):
    task = tasks.get(name, **options)
    found = tasks.structure(task)
    assert found is not None
    inputs = np.asarray(task.sample(jax.random.key(0), 64, 21).inputs)
    targets = np.asarray(task.targets(inputs))
    for machine in (task.machine, found.machine):
        assert machine.frequencies.sum() == pytest.approx(1)
        state = np.full(len(inputs), machine.initial)
        for tokens, labels in zip(inputs.T, targets.T, strict=True):
            assert machine.drawn is None or machine.drawn[state, tokens].all()
            state = machine.transition[state, tokens]
            np.testing.assert_array_equal(machine.outputs[state], labels)


def machine_of(transition, outputs, initial=0):
    transition = np.array(transition)
    symbols = transition.shape[1]
    return Machine(transition, np.array(outputs), initial, np.full(symbols, 1 / symbols))


@st.composite
def machines(draw, most=6):
    states, symbols = draw(st.integers(1, most)), draw(st.integers(1, 3))
    state = st.integers(0, states - 1)
    row = st.lists(state, min_size=symbols, max_size=symbols)
    rows = draw(st.lists(row, min_size=states, max_size=states))
    outputs = draw(st.lists(st.integers(0, 2), min_size=states, max_size=states))
    return machine_of(rows, outputs, draw(state))


def told_apart(machine):
    """The number of classes of reachable states that some word tells apart."""
    reached = {machine.initial}
    while True:
        wider = reached | {int(s) for state in reached for s in machine.transition[state]}
        if wider == reached:
            break
        reached = wider
    differ = {(a, b) for a in reached for b in reached if machine.outputs[a] != machine.outputs[b]}
    while True:
        more = {
            (a, b)
            for a in reached
            for b in reached
            for x, y in zip(*machine.transition[[a, b]].tolist(), strict=True)
            if (x, y) in differ
        }
        if more <= differ:
            return len({frozenset(b for b in reached if (a, b) not in differ) for a in reached})
        differ |= more


@settings(max_examples=150, deadline=None)
@given(machines(), st.data())
def test_the_smallest_automaton_labels_every_word_the_same(machine, data):
    small = minimise(machine)
    assert len(small.transition) == told_apart(machine)
    state, same = machine.initial, small.initial
    for symbol in data.draw(st.lists(st.integers(0, machine.transition.shape[1] - 1), max_size=20)):
        assert machine.outputs[state] == small.outputs[same]
        state, same = machine.transition[state, symbol], small.transition[same, symbol]
    assert machine.outputs[state] == small.outputs[same]


def counted_out(machine):
    """Elements of the monoid of an automaton with a label a state, and its largest groups."""
    symbols = [tuple(column) for column in machine.transition.T.tolist()]
    identity = tuple(range(len(machine.transition)))

    def product(a, b):
        return tuple(b[state] for state in a)

    words = frontier = {identity}
    while frontier:
        frontier = {product(word, symbol) for word in frontier for symbol in symbols} - words
        words = words | frontier

    def power(word):
        """The idempotent among the powers of a word."""
        found = word
        while product(found, found) != found:
            found = product(found, word)
        return found

    groups = []
    for e in words:
        if product(e, e) == e:
            inside = {w for w in words if product(product(e, w), e) == w}
            groups.append({w for w in inside if power(w) == e})
    return words, groups, product


@settings(max_examples=100, deadline=None)
@given(machines(most=4))
def test_monoids_and_groups_are_those_that_counting_finds(machine):
    machine = machine_of(machine.transition, range(len(machine.transition)), machine.initial)
    compare(minimise(machine), analyse(machine))


@pytest.mark.parametrize("seed", range(100, 120))
def test_random_automata_are_what_counting_finds(seed):
    kind = ("mixed", "permutation", "reset")[seed % 3]
    task = tasks.get("random_automaton", states=4, symbols=4, seed=seed, kind=kind)
    found = tasks.structure(task)
    assert found is not None
    compare(found.machine, found)
    permutes = {"permutation": found.is_group, "reset": found.is_aperiodic}
    assert permutes.get(kind, found.kind in ("permutation-reset", "aperiodic"))


def compare(machine, found):
    words, groups, product = counted_out(machine)
    states = len(machine.transition)
    assert found.states == states
    assert found.monoid_order == len(words)
    assert found.group_order == max(map(len, groups))
    assert found.is_aperiodic == (max(map(len, groups)) == 1)
    commute = all(product(a, b) == product(b, a) for group in groups for a in group for b in group)
    assert found.is_abelian == commute
    assert found.is_solvable  # all groups of at most four points are
    ranks = [len(set(column)) for column in machine.transition.T.tolist()]
    assert found.symbol_ranks == tuple(ranks)
    assert found.is_group == (min(ranks) == states)
    assert found.has_resets == (min(ranks) == 1)
    assert found.has_constant == (min(len(set(word)) for word in words) == 1)
    assert found.has_identity == (np.arange(states)[:, None] == machine.transition).all(0).any()
    table, symbols = found.group.table, found.group.symbols
    assert (np.sort(table, 0) == np.sort(table, 1).T).all()
    assert (table[0] == np.arange(len(table))).all()
    if found.is_group:
        # Words of two symbols are what the table says.
        acts = dict(zip(symbols.tolist(), machine.transition.T, strict=True))
        for a in acts:
            for b in acts:
                if table[a, b] in acts:
                    np.testing.assert_array_equal(acts[table[a, b]], acts[b][acts[a]])


def test_a_task_of_ones_own_joins_by_its_machine():
    task = SimpleNamespace(machine=machine_of([[1, 0], [0, 1]], [0, 1]))
    found = tasks.structure(task)
    assert found is not None
    assert (found.kind, found.group_order) == ("group", 2)


def test_what_is_too_large_is_not_known_or_refused():
    found = tasks.structure(tasks.get("random_automaton", states=40, symbols=6, seed=100))
    assert found is not None
    assert (found.monoid_order, found.group_order, found.group) == (None, None, None)
    assert (found.is_aperiodic, found.is_abelian, found.is_solvable) == (False, False, None)
    # S9 has too many elements to be counted, but more than a solvable group of 9 points can have.
    swap, cycle = [1, 0, *range(2, 9)], [*range(1, 9), 0]
    of_nine = tasks.structure(tasks.Automaton(np.array([swap, cycle]).T))
    assert of_nine is not None
    assert (of_nine.group_order, of_nine.is_solvable) == (None, False)
    with pytest.raises(ValueError, match=r"expected at most .* entries to be written out"):
        tasks.structure(tasks.get("modular_arithmetic", modulus=1000))
    with pytest.raises(ValueError, match=r"expected at most .* entries to be written out"):
        tasks.structure(tasks.get("s6_word_problem", tokens_per_transition=2))
