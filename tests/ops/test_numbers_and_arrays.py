"""What every op takes: arrays of numpy, one number as a scale, whole numbers as chunk sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import op_1d
import op_2d
import op_dag
import pytest

from plstm_seq.ops import plstm_1d, plstm_1d_step, plstm_2d, plstm_2d_oriented, plstm_dag
from plstm_seq.ops.attention import causal_attention
from plstm_seq.ops.grid.inputs import GATES
from plstm_seq.ops.linear import (
    column_one_hot_recurrence,
    diagonal_recurrence,
    gated_delta_rule,
)


def numbers(*shape):
    return jax.random.normal(jax.random.key(len(shape)), shape)


def step_call():
    inputs, _ = op_1d.make(6)
    now = jax.tree.map(lambda x: x[:, 0], inputs)
    return plstm_1d_step, now, {"state": numbers(*inputs.state_shape)}


def call_1d(implementation):
    inputs, _ = op_1d.make(6)
    arrays = {"initial_state": numbers(*inputs.state_shape)}
    return functools.partial(plstm_1d, implementation=implementation), inputs, arrays


def call_2d(implementation):
    inputs, states = op_2d.make(3, 4)
    arrays = {"initial_left": states.across, "initial_top": states.down}
    return functools.partial(plstm_2d, implementation=implementation), inputs, arrays


def call_oriented():
    """Both orientations have the same gates."""
    inputs, _ = op_2d.make(3, 4)
    gates = {name: jnp.stack([getattr(inputs, name)] * 2, 1) for name in GATES}
    return functools.partial(plstm_2d_oriented, orientations=(0, 3)), inputs._replace(**gates), {}


def call_dag(implementation):
    return (
        functools.partial(plstm_dag, graph=GRAPH, implementation=implementation),
        op_dag.make(GRAPH),
        {},
    )


GRAPH = op_dag.build("wide")
PLSTM = {
    **{f"plstm_1d {name}": functools.partial(call_1d, name) for name in op_1d.PORTABLE},
    "plstm_1d_step": step_call,
    **{f"plstm_2d {name}": functools.partial(call_2d, name) for name in op_2d.PORTABLE},
    "plstm_2d_oriented": call_oriented,
    **{f"plstm_dag {name}": functools.partial(call_dag, name) for name in op_dag.NAMES},
}
OTHERS = {
    "causal_attention": lambda: (causal_attention, [numbers(2, 5, 2, 3)] * 3, {}),
    "gated_delta_rule": lambda: (
        gated_delta_rule,
        [numbers(2, 5, 3), *[numbers(2, 5, 1, 3)] * 2, numbers(2, 5, 1), -(numbers(2, 5, 1) ** 2)],
        {"initial_state": numbers(2, 3, 3)},
    ),
    "diagonal_recurrence": lambda: (
        diagonal_recurrence,
        [numbers(2, 5, 3), numbers(2, 5, 3), numbers(2, 3)],
        {},
    ),
    "column_one_hot_recurrence": lambda: (
        column_one_hot_recurrence,
        [numbers(2, 5, 3, 3), numbers(2, 5, 3), numbers(2, 5, 3), numbers(2, 3)],
        {},
    ),
}


@pytest.mark.parametrize("name", PLSTM | OTHERS)
def test_arrays_of_numpy_are_taken_as_those_of_jax(name):
    op, arguments, arrays = (PLSTM | OTHERS)[name]()
    expected = op(*arguments, **arrays)
    given, more = jax.tree.map(np.asarray, (tuple(arguments), arrays))
    for got, wanted in zip(
        jax.tree.leaves(op(*given, **more)), jax.tree.leaves(expected), strict=True
    ):
        assert isinstance(got, jax.Array)
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_ops_without_a_recurrent_form_have_forward_mode_or_say_what_to_use(name, jitted):
    op, arguments, arrays = OTHERS[name]()

    def function(*x):
        return op(*x, **arrays)

    call = jax.jit(function) if jitted else function

    def tangents():
        return jax.jvp(call, tuple(arguments), tuple(arguments))

    if name == "diagonal_recurrence":
        assert jnp.isfinite(tangents()[1]).all()
    else:
        with pytest.raises(NotImplementedError, match=f"{name}.*: use jax.grad, jax.vjp"):
            tangents()


@pytest.mark.parametrize("name", PLSTM)
@pytest.mark.parametrize(
    ("scale", "error", "message"),
    [
        (1j, TypeError, "scale: got complex, expected a real number"),
        (True, TypeError, "scale: got bool, expected a real number"),
        ("2", TypeError, "scale: got str, expected a real number"),
        (np.complex64(1), TypeError, "scale: got complex64, expected a real number"),
        (jnp.ones((3,)), ValueError, r"scale: got shape \(3,\), expected one number"),
    ],
    ids=["complex", "bool", "text", "complex64", "axes"],
)
def test_a_scale_that_is_no_number_is_named(name, scale, error, message):
    op, arguments, arrays = PLSTM[name]()
    with pytest.raises(error, match=message):
        op(*arguments, **arrays, scale=scale)


@pytest.mark.parametrize("name", PLSTM)
def test_a_scale_is_a_number_of_any_kind(name):
    op, arguments, arrays = PLSTM[name]()
    expected = op(*arguments, **arrays, scale=2.0)
    for scale in (2, np.float32(2), np.array(2), jnp.array(2.0)):
        for got, wanted in zip(
            jax.tree.leaves(op(*arguments, **arrays, scale=scale)),
            jax.tree.leaves(expected),
            strict=True,
        ):
            np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.parametrize("size", [4.0, "4", 0, -4])
def test_a_chunk_size_that_is_no_number_of_steps_is_named(size):
    for name in ("plstm_1d chunkwise", "gated_delta_rule"):
        op, arguments, arrays = (PLSTM | OTHERS)[name]()
        with pytest.raises((TypeError, ValueError), match=f"chunk_size: got {size!r}, expected a "):
            op(*arguments, **arrays, chunk_size=size)


def test_a_chunk_is_no_longer_than_the_sequence_needs():
    inputs, _ = op_1d.make(6)

    def memory(size):
        call = functools.partial(plstm_1d, implementation="chunkwise", chunk_size=size)
        compiled = jax.jit(lambda inputs: call(*inputs)).lower(inputs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(1024) == memory(8)
