"""The recurrences of the baselines against plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from golden import relative_error
from op_delta import DK, B, T, delta_inputs, delta_loop
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.ops.linear import (
    column_one_hot_recurrence,
    diagonal_recurrence,
    gated_delta_rule,
)
from plstm_seq.ops.linear.delta import unit_triangular_inverse

N = 5
EXACT = AGREEMENT["float64"]
CASES = {
    "one part, no decay": (1, 0),
    "three parts, a rate a head": (3, 1),
    "two parts, a rate a feature": (2, DK),
}


def parts_of(x) -> np.ndarray:
    """Real and imaginary parts."""
    return np.stack([np.real(x), np.imag(x)])


@pytest.mark.parametrize(("parts", "decays"), CASES.values(), ids=CASES.keys())
def test_delta_rule_agrees_with_its_loop(parts, decays):
    """Outputs, last state and all gradients, over chunks of 3 steps of which the last has 1."""
    inputs = delta_inputs(parts, decays, erases=True)

    @fast_jit
    def both(inputs):
        def loss(function, inputs):
            y, state = function(**inputs)
            return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.cos(state)), (y, state)

        def chunked(**inputs):
            return gated_delta_rule(**inputs, chunk_size=3)

        return [
            jax.grad(lambda x, f=function: loss(f, x), has_aux=True)(inputs)
            for function in (chunked, delta_loop)
        ]

    (gradients, results), (expected_gradients, expected) = both(inputs)
    for result, reference in zip(results, expected, strict=True):
        assert relative_error(result, reference) < EXACT
    for name, gradient in gradients.items():
        error = relative_error(gradient, expected_gradients[name])
        assert error < GRADIENT_AGREEMENT["float64"], name


@pytest.mark.parametrize("chunk_size", [None, 1, 4])
def test_without_erasing_it_is_gated_linear_attention(chunk_size):
    inputs = delta_inputs(1, DK, erases=False)
    results = fast_jit(functools.partial(gated_delta_rule, chunk_size=chunk_size))(**inputs)
    for result, expected in zip(results, fast_jit(delta_loop)(**inputs), strict=True):
        assert relative_error(result, expected) < EXACT


@pytest.mark.parametrize("decays", [1, DK])
def test_a_strong_decay_leaves_those_behind_it_exact(decays):
    """One program, both types: a chunk forgets all at its third step, then next to nothing."""
    inputs = delta_inputs(1, decays, erases=True)
    inputs["log_decay"] = np.full((B, T, decays), -0.02)
    inputs["log_decay"][:, 2] = -5000
    short = {name: array.astype(np.float32) for name, array in inputs.items()}
    results, expected = fast_jit(lambda *both: [gated_delta_rule(**x) for x in both])(short, inputs)
    for result, reference in zip(results, expected, strict=True):
        assert relative_error(result, reference) < AGREEMENT["float32"]


def test_many_reflections_in_float32():
    """Products of reflections keep the state's size; the triangular system is well-conditioned."""
    inputs = delta_inputs(3, 0, erases=True, dtype=np.float32)
    inputs["erase"] = np.full_like(inputs["erase"], 2)
    long = {
        name: np.tile(array, (1, 40) + (1,) * (array.ndim - 2))
        if name != "initial_state"
        else array
        for name, array in inputs.items()
    }
    y, state = fast_jit(gated_delta_rule)(**long)
    assert y.dtype == state.dtype == jnp.float32
    wide = {name: jnp.asarray(array, jnp.float64) for name, array in long.items()}
    expected, last = fast_jit(delta_loop)(**wide)
    assert relative_error(y, expected) < 100 * AGREEMENT["float32"]
    assert relative_error(state, last) < 100 * AGREEMENT["float32"]


@pytest.mark.parametrize("length", [1, 5, 32])
def test_unit_triangular_inverse(length):
    strict = np.tril(np.random.default_rng(0).normal(size=(2, length, length)), -1)
    weights = np.random.default_rng(1).normal(size=strict.shape)

    def loss(invert):
        return lambda strict: jnp.sum(weights * jnp.sin(invert(strict)))

    def library(strict):
        return jnp.linalg.inv(jnp.tril(strict, -1) + jnp.eye(length))

    inverse = fast_jit(unit_triangular_inverse)(strict)
    assert relative_error(inverse, library(strict)) < EXACT
    gradient, expected = (
        fast_jit(jax.grad(loss(invert)))(strict) for invert in (unit_triangular_inverse, library)
    )
    assert relative_error(gradient, expected) < GRADIENT_AGREEMENT["float64"]


def complex_normal(rng, *shape):
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_diagonal_recurrence(kind):
    rng = np.random.default_rng(0)
    decay, drive, state = (
        complex_normal(rng, *shape) if kind == "complex" else rng.normal(size=shape)
        for shape in ((B, T, N), (B, T, N), (B, N))
    )
    decay[:, 3] = 0
    result = diagonal_recurrence(jnp.asarray(decay), jnp.asarray(drive), jnp.asarray(state))
    expected = []
    for t in range(T):
        state = decay[:, t] * state + drive[:, t]
        expected.append(state)
    assert relative_error(parts_of(result), parts_of(np.stack(expected, axis=1))) < EXACT


def one_hot_loop(logits, factor, drive, state):
    """Dense matrices one after another; the one-hot matrix differentiated as a softmax."""
    soft = jax.nn.softmax(logits, axis=-2)
    hard = jax.nn.one_hot(jnp.argmax(logits, axis=-2), logits.shape[-2], axis=-2)
    matrix = soft + jax.lax.stop_gradient(hard - soft)
    states = []
    for t in range(logits.shape[1]):
        state = jnp.einsum("bij,bj->bi", matrix[:, t], factor[:, t] * state) + drive[:, t]
        states.append(state)
    return jnp.stack(states, axis=1)


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_column_one_hot_recurrence(kind):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(B, T, N, N))
    factor, drive, state = (
        complex_normal(rng, *shape) if kind == "complex" else rng.normal(size=shape)
        for shape in ((B, T, N), (B, T, N), (B, N))
    )

    @fast_jit
    def both(*inputs):
        def loss(function, *inputs):
            states = function(*inputs)
            return jnp.sum(jnp.sin(states.real) + jnp.cos(2 * states.imag)), states

        return [
            jax.grad(lambda *x, f=function: loss(f, *x), argnums=(0, 1, 2, 3), has_aux=True)(
                *inputs
            )
            for function in (column_one_hot_recurrence, one_hot_loop)
        ]

    (gradients, states), (expected_gradients, expected) = both(logits, factor, drive, state)
    assert relative_error(parts_of(states), parts_of(expected)) < EXACT
    for gradient, reference in zip(gradients, expected_gradients, strict=True):
        error = relative_error(parts_of(gradient), parts_of(reference))
        assert error < GRADIENT_AGREEMENT["float64"]


def test_members_by_vmap():
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(3, B, *shape)) for shape in ((T, N, N), (T, N), (T, N), (N,))]

    def gradient(*inputs):
        return jax.grad(lambda *x: jnp.sum(column_one_hot_recurrence(*x) ** 3))(*inputs)

    together = fast_jit(jax.vmap(gradient))(*inputs)
    alone = fast_jit(gradient)(*[array[1] for array in inputs])
    assert relative_error(together[1], alone) < GRADIENT_AGREEMENT["float64"]
