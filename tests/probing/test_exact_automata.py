"""Written weights run automata and compute modular arithmetic, every position of every input."""

import jax
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx

import tasks
from plstm_seq.probing import (
    LinearForm,
    automaton_form,
    exact_automaton,
    exact_linear,
    exact_modular_arithmetic,
    modular_arithmetic_form,
)

BOTH = ["recurrent", "chunkwise"]


def wrong(model, task, *, batch=16, length=512):
    drawn = task.sample(jax.random.key(0), batch, length)
    graph, variables = nnx.split(model)
    logits = fast_jit(lambda variables: nnx.merge(graph, variables)(drawn.inputs))(variables)
    return int(((logits.argmax(-1) != drawn.targets) & drawn.mask).sum())


@pytest.mark.parametrize("implementation", BOTH)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("random_automaton", {"kind": "mixed"}),
        ("random_automaton", {"kind": "permutation", "states": 7}),
        ("random_automaton", {"kind": "reset", "states": 3}),
        ("flip_flop", {"num_values": 3}),
        ("automaton", {"regex": "(ab|ba)*"}),
    ],
    ids=["mixed", "permutations", "resets", "flip_flop", "merges"],
)
def test_automata(name, options, implementation):
    task = tasks.get(name, **options)
    machine = task.machine
    parts = machine.transition, machine.outputs, machine.initial
    form = automaton_form(*parts)
    merges = name == "automaton"
    assert (np.linalg.norm(form.matrices, 2, axis=(-2, -1)).max() > 1 + 1e-9) == merges
    assert wrong(exact_automaton(*parts, implementation=implementation), task) == 0


@pytest.mark.parametrize("implementation", BOTH)
@pytest.mark.parametrize(
    ("modulus", "operators", "blocks"),
    [(5, "+-*", 1), (6, "+*", 1), (5, "+-*", 2), (7, "+-*", 2), (3, "+*", 2), (2, "+-", 2)],
)
def test_modular_arithmetic(modulus, operators, blocks, implementation):
    task = tasks.get("modular_arithmetic", modulus=modulus, operators=operators)
    model = exact_modular_arithmetic(
        modulus, operators, blocks=blocks, implementation=implementation
    )
    assert wrong(model, task) == 0


def test_the_cascade_step_by_step():
    task = tasks.get("modular_arithmetic", modulus=5)
    model = exact_modular_arithmetic(blocks=2, implementation="recurrent")
    drawn = task.sample(jax.random.key(1), 4, 41)
    step = fast_jit(lambda tokens, state: model.step(tokens, state))
    state = model.init_state(4)
    for place in range(drawn.inputs.shape[1]):
        logits, state = step(drawn.inputs[:, place], state)
        np.testing.assert_array_equal(logits.argmax(-1), drawn.targets[:, place])


def test_the_linear_form_has_ten_dimensions():
    form = modular_arithmetic_form()
    assert form.matrices.shape == (8, 10, 10)
    assert np.linalg.norm(form.matrices, 2, axis=(-2, -1)).max() > 2  # no contraction


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="modulus: got 11"):
        exact_modular_arithmetic(11, blocks=2)
    with pytest.raises(ValueError, match="modulus: got 1, expected at least 2"):
        modular_arithmetic_form(1)
    with pytest.raises(ValueError, match="operators: got '/'"):
        modular_arithmetic_form(5, "/")
    with pytest.raises(ValueError, match="blocks: got 3"):
        exact_modular_arithmetic(blocks=3)
    with pytest.raises(ValueError, match="expected states from 0 to 1"):
        exact_automaton(np.array([[2], [0]]), np.array([0, 1]))
    with pytest.raises(ValueError, match="transition, outputs: got shapes"):
        exact_automaton(np.array([[1], [0]]), np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="outputs: got -1"):
        exact_automaton(np.array([[1], [0]]), np.array([0, -1]))
    with pytest.raises(ValueError, match="reading: got shape"):
        exact_linear(LinearForm(*map(np.ones, [(2, 3, 3), (2, 3), (3,), (2, 4, 2)])))
