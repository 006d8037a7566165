"""One suite for every implementation of `plstm_1d`: the recurrence in float64 is the truth."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import relative_error
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted_tpu import interpreted_tpu, race_found
from op_1d import DIMENSIONS, PORTABLE, call, make, value_and_gradients
from tolerances import AGREEMENT, GRADIENT_AGREEMENT
from unpartitioned import Unpartitioned

from plstm_seq.ops import leading_axes, plstm_1d_step
from plstm_seq.ops.sequence.api import IMPLEMENTATIONS
from plstm_seq.ops.sequence.inputs import Inputs

FORMS = [name for name in PORTABLE if name != "recurrent"]
# Kernels, interpreted on the CPU: they decline float64.
KERNELS = {"mosaic_tpu": interpreted_tpu}


def as_float64(tree):
    return jax.tree.map(lambda x: x.astype(jnp.float64), tree)


@functools.cache
def truth(*case, **options):
    arguments = make(*case, **dict(options))
    return value_and_gradients(*as_float64(arguments), implementation="recurrent")


def assert_close(actual, expected, tolerance):
    for path, leaf in jax.tree.leaves_with_path(expected):
        got = functools.reduce(
            lambda x, k: x[k.idx] if hasattr(k, "idx") else getattr(x, k.name), path, actual
        )
        assert relative_error(got, leaf) < tolerance, jax.tree_util.keystr(path)


def test_the_recurrence_is_what_the_formula_says():
    """Written out in numpy, index by index."""
    inputs, state = make(4, "all_differ", batch=())
    q, k, v, S, T, M, D = (np.asarray(x) for x in inputs)
    C, scale = np.asarray(state), 0.7
    expected = []
    for t in range(4):
        read = np.einsum("oqi,kq,kvi->vo", M[t], q[t], C)
        join = np.einsum("oqaw,kq,ka,vw->vo", D[t], q[t], k[t], v[t])
        expected.append(scale * (read + join))
        C = np.einsum("ij,kvj->kvi", T[t], C) + np.einsum("iaw,ka,vw->kvi", S[t], k[t], v[t])
    output, last = call(inputs, state, scale=scale, implementation="recurrent")
    assert relative_error(output, np.stack(expected)) < 1e-14
    assert relative_error(last, C) < 1e-14


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["contractive", "orthogonal", "reset"])
@pytest.mark.parametrize("dimensions", DIMENSIONS)
@pytest.mark.parametrize("length", [1, 13])
def test_agrees_with_the_recurrence(form, length, dimensions, kind):
    arguments = make(length, dimensions, kind=kind)
    results, gradients = value_and_gradients(*arguments, implementation=form, chunk_size=4)
    expected, expected_gradients = truth(length, dimensions, kind=kind)
    assert_close(results, expected, AGREEMENT["float64"])
    assert_close(gradients, expected_gradients, GRADIENT_AGREEMENT["float64"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk_size", [1, 2, 64, None])
def test_the_chunk_size_changes_nothing(form, chunk_size):
    arguments = make(63, kind="reset")
    results, gradients = value_and_gradients(*arguments, implementation=form, chunk_size=chunk_size)
    expected, expected_gradients = truth(63, kind="reset")
    assert_close(results, expected, AGREEMENT["float64"])
    assert_close(gradients, expected_gradients, GRADIENT_AGREEMENT["float64"])


@pytest.mark.parametrize("form", FORMS)
def test_several_runs_of_chunks(form):
    """Longer than what is worked off at once (`make_plan`), and not a multiple of it."""
    arguments = make(2500, "JT3_JK2_JQ2", batch=(), DK=2, DV=2)
    results, gradients = value_and_gradients(*arguments, implementation=form)
    expected, expected_gradients = truth(2500, "JT3_JK2_JQ2", batch=(), DK=2, DV=2)
    assert_close(results, expected, AGREEMENT["float64"])
    assert_close(gradients, expected_gradients, GRADIENT_AGREEMENT["float64"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["orthogonal", "reset", "large"])
def test_low_precision(form, kind, dtype):
    check_low_precision(form, make(50, kind=kind), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("length", "dimensions", "kind", "dtype"),
    [
        (1, "J1", "contractive", "float32"),
        (63, "JT3_JK2_JQ2", "reset", "float32"),
        (140, "J4", "large", "bfloat16"),
        (140, "J4", "orthogonal", "float32"),
        (30, "all_differ", "reset", "bfloat16"),
    ],
)
def test_low_precision_of_kernels(monkeypatch, kernel, length, dimensions, kind, dtype):
    """Interpreted, with uninitialised memory as NaN and without races."""
    monkeypatch.setitem(IMPLEMENTATIONS, kernel, KERNELS[kernel])
    monkeypatch.setattr(leading_axes, "custom_partitioning", Unpartitioned)
    check_low_precision(kernel, make(length, dimensions, kind=kind), dtype)
    assert not race_found()


def check_low_precision(form, arguments, dtype):
    """Against the recurrence in float64 on the same rounded inputs."""
    inputs = jax.tree.map(lambda x: x.astype(dtype), arguments[0])
    arguments = inputs, arguments[1].astype(jnp.float32)
    results, gradients = value_and_gradients(*arguments, implementation=form)
    assert results[0].dtype == dtype
    assert results[1].dtype == jnp.float32
    assert all(g.dtype == dtype for g in gradients[0])
    expected, expected_gradients = value_and_gradients(
        *as_float64(arguments), implementation="recurrent"
    )
    assert_close(results, expected, AGREEMENT[dtype])
    assert_close(gradients, expected_gradients, GRADIENT_AGREEMENT[dtype])


@pytest.mark.parametrize("implementation", PORTABLE)
def test_without_direct_term_and_initial_state(implementation):
    inputs, _ = make(21, direct=False)
    zeros = inputs._replace(direct=jnp.zeros(make(21)[0].direct.shape))
    output, state = call(inputs, implementation=implementation)
    expected, expected_state = call(
        zeros, jnp.zeros(inputs.state_shape), implementation="recurrent"
    )
    assert relative_error(output, expected) < AGREEMENT["float64"]
    assert relative_error(state, expected_state) < AGREEMENT["float64"]
    _, (gradient, _) = value_and_gradients(inputs, None, implementation=implementation)
    assert gradient.direct is None


@pytest.mark.parametrize(
    "options", [dict(implementation="recurrent"), dict(implementation="chunkwise", chunk_size=2)]
)
@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(1, 6), max_size=3, unique=True), seed=st.integers(0, 99))
def test_state_passing(options, cuts, seed):
    """A sequence run in parts, the state handed over, equals the whole for any split."""
    inputs, state = make(7, "J4", kind="reset", seed=seed)
    whole, last = call(inputs, state, implementation="recurrent")
    ends = [0, *sorted(cuts), 7]
    outputs = []
    for begin, end in itertools.pairwise(ends):
        part = jax.tree.map(lambda x, b=begin, e=end: x[:, b:e], inputs)
        output, state = call(part, state, **options)
        outputs.append(output)
    assert relative_error(jnp.concatenate(outputs, 1), whole) < AGREEMENT["float64"]
    assert relative_error(state, last) < AGREEMENT["float64"]


def test_steps_equal_the_whole():
    inputs, state = make(9, "all_differ")
    whole, last = call(inputs, state, scale=0.3)
    for t in range(9):
        now = Inputs(*(x[:, t] for x in inputs))
        output, state = plstm_1d_step(*now, state=state, scale=0.3)
        assert relative_error(output, whole[:, t]) < AGREEMENT["float64"]
    assert relative_error(state, last) < AGREEMENT["float64"]


@pytest.mark.parametrize("implementation", PORTABLE)
def test_no_batch_axes_and_an_empty_batch(implementation):
    inputs, state = make(6, batch=(3, 2))
    whole, _ = call(inputs, state, implementation=implementation)
    alone, _ = call(
        jax.tree.map(lambda x: x[1, 1], inputs), state[1, 1], implementation=implementation
    )
    assert relative_error(alone, whole[1, 1]) < AGREEMENT["float64"]
    empty = jax.tree.map(lambda x: x[:0], (inputs, state))
    (output, last), gradients = value_and_gradients(*empty, implementation=implementation)
    assert output.shape == (0, *whole.shape[1:])
    assert jax.tree.map(jnp.shape, (*gradients, last)) == jax.tree.map(
        jnp.shape, (*empty, empty[1])
    )
