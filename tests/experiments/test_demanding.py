"""What tasks demand: known dimensions, and linear forms that label as their tasks do."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import tasks
from experiments import demands, linear_form, show
from experiments.cli import app

DOCS = Path(__file__).parents[2] / "docs" / "tasks.md"

# Smallest faithful dimension, that of rotations, most reflections of a symbol, linear form.
KNOWN = [
    ("z2_word_problem", {}, (1, 2, 1, 1)),
    ("z60_word_problem", {}, (2, 2, 2, 2)),
    ("s3_word_problem", {}, (2, 3, 2, 2)),
    ("s3_word_problem", {"generators": ["(12)", "(23)"]}, (2, 3, 1, 2)),
    ("s4_word_problem", {"generators": "swaps"}, (3, 3, 1, 3)),
    # As rotations of a cube: the other representation of dimension 3 takes 3 reflections.
    ("s4_word_problem", {}, (3, 3, 2, 3)),
    ("a4_word_problem", {}, (3, 3, 2, 3)),
    ("s5_word_problem", {"generators": "swaps"}, (4, 5, 1, 4)),
    ("a5_word_problem", {}, (3, 3, 2, 3)),
    ("d4_word_problem", {}, (2, 3, 2, 2)),
    ("q8_word_problem", {}, (4, 4, 4, 4)),
    ("a4xz5_word_problem", {}, (5, 5, 4, 5)),
    ("psl2_7_word_problem", {"composition": "left"}, (6, 6, 6, 6)),
    ("parity", {}, (1, 2, 1, 1)),
    ("cycle_navigation", {}, (2, 2, 2, 2)),
    ("flip_flop", {}, (0, 0, 0, 2)),
    ("even_pairs", {}, (0, 0, 0, 2)),
    ("automaton", {}, (2, 3, 1, 2)),
    ("automaton", {"regex": "(ab|ba)*"}, (0, 0, 0, 4)),
    ("automaton", {"regex": "a(ab)*"}, (0, 0, 0, 4)),
    ("modular_arithmetic", {}, (2, 2, None, 10)),
    ("modular_arithmetic", {"operators": "+-"}, (2, 2, None, 4)),
    # 2 and 3 apart: 2 + 6 dimensions instead of 12.
    ("modular_arithmetic", {"modulus": 6}, (2, 2, None, 8)),
    ("random_automaton", {}, (2, 2, 2, 3)),
    ("s3_word_problem", {"tokens_per_transition": 2}, (2, 3, None, 2)),
    ("s3_word_problem", {"tokens_per_transition": 2, "filler": "identity"}, (2, 3, None, 6)),
]


@pytest.mark.parametrize(
    ("name", "options", "dims"),
    KNOWN,
    ids=[name + "".join(f"-{k}={v}" for k, v in options.items()) for name, options, _ in KNOWN],
)
def test_known_dimensions_and_forms_that_label_exactly(name, options, dims):
    task = tasks.get(name, **options)
    found, form = demands(task), linear_form(task)
    assert found is not None
    assert found.not_computed == ()
    answer = (found.faithful_dimension, found.rotation_dimension, found.reflection_length)
    assert (*answer, found.linear_dimension) == dims
    assert form is not None
    assert form.dim == found.linear_dimension
    assert form.transitions.shape == (len(task.vocabulary), form.dim, form.dim)
    length = 21  # whole expressions
    inputs = np.asarray(task.sample(jax.random.key(0), 1000, length).inputs)
    np.testing.assert_array_equal(form.label(inputs), np.asarray(task.targets(inputs)))


@pytest.mark.parametrize("seed", range(100, 110))
def test_linear_forms_of_random_automata_label_exactly(seed):
    random = np.random.default_rng(seed)
    states, symbols = int(random.integers(2, 9)), int(random.integers(1, 4))
    transition = random.integers(states, size=(states, symbols))
    outputs = random.integers(3, size=states)
    task = tasks.Automaton(transition, outputs, label_names=list("xyz")[: outputs.max() + 1])
    found, form = demands(task), linear_form(task)
    assert found is not None
    assert form is not None
    assert form.dim == found.linear_dimension <= found.structure.states
    inputs = random.integers(symbols, size=(200, 30))
    np.testing.assert_array_equal(form.label(inputs), np.asarray(task.targets(inputs)))


def test_what_is_not_computed_says_why():
    found = demands(tasks.get("random_automaton", states=9, symbols=4, seed=100))
    assert found is not None
    assert found.faithful_dimension is None
    assert found.linear_dimension == 9
    (problem,) = found.not_computed
    assert "more than 5,040 elements" in problem
    # Many classes, and labels on one circle.
    found = demands(tasks.get("z300_word_problem", generators="standard"))
    assert found is not None
    assert found.linear_dimension == 2
    (problem,) = found.not_computed
    assert "got 300, expected at most 256 classes" in problem


def test_labels_outside_of_the_group_are_told_apart_too():
    # A start of its own, then a cycle of 3 whose labels are its elements.
    task = tasks.Automaton([[1, 1], [2, 3], [3, 1], [1, 2]], [3, 0, 1, 2], label_names=list("abcd"))
    form = linear_form(task)
    assert form is not None
    inputs = np.random.default_rng(0).integers(2, size=(100, 20))
    np.testing.assert_array_equal(form.label(inputs), np.asarray(task.targets(inputs)))


def test_tasks_without_automaton_demand_none():
    task = tasks.get("majority")
    assert demands(task) is None
    assert linear_form(task) is None


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_says_what_it_asks_for(name):
    task = tasks.get(name)
    described = show.describe(task, length=None, count=1, seed=0)
    json.dumps(described)
    subjects = dict(described["in_words"])
    if tasks.structure(task) is None:
        assert described["asks_for"] is None
        assert subjects["automaton"].startswith("none")
    else:
        assert described["asks_for"]["states"] > 1
        assert {"automaton", "monoid", "kind", "resets", "group", "linear form"} <= set(subjects)


def test_the_command_prints_it():
    def printed(*arguments):
        result = CliRunner().invoke(app, ["tasks", "show", *arguments, "--count", "1"])
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    text = printed("s5_word_problem", "generators=swaps")
    assert "120 elements, not abelian, not solvable" in text
    text = printed("modular_arithmetic", "modulus=1000")
    assert "not analysed: automaton: got a table of 2,000,000,000 states" in text
    data = json.loads(printed("parity", "--json"))
    assert data["asks_for"]["kind"] == "group"
    assert data["asks_for"]["rotation_dimension"] == 2
    assert "what it asks for" not in printed("grid_parity")


def test_the_docs_show_what_is_printed():
    page = DOCS.read_text(encoding="utf-8")
    result = CliRunner().invoke(app, ["tasks", "show", "s5_word_problem", "generators=swaps"])
    printed = result.output.partition("what it asks for")[2].partition("examples")[0]
    assert " ".join(printed.split()) in " ".join(page.split())
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE)
    assert len(rows) == 7
    for name, row in rows:
        found = demands(tasks.get(name))
        assert found is not None
        of, cells = found.structure, row.split(" | ")
        dims = f"{found.faithful_dimension} ({found.rotation_dimension})"
        known = (of.kind, str(of.monoid_order), dims, str(found.linear_dimension))
        assert (*cells[:2], *cells[3:]) == known
        order, _, trait = cells[2].partition(", ")
        assert int(order) == of.group_order
        traits = {"": True, "abelian": of.is_abelian, "solvable": of.is_solvable}
        assert traits.get(trait, not of.is_solvable)
