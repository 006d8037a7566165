"""jit, vmap, vmap of grad, remat, scan, finite differences and other modes, on every form."""

import jax
import jax.numpy as jnp
import pytest
from fast_compile import fast_jit
from golden import relative_error
from jax.test_util import check_grads
from op_1d import PORTABLE, check_range, make
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.ops import plstm_1d

implementations = pytest.mark.parametrize("implementation", PORTABLE)
SIZES = dict(length=6, dimensions="J1", DK=2, DV=2)


def loss(implementation):
    def function(inputs, state):
        output = plstm_1d(*inputs, initial_state=state, implementation=implementation)
        return jnp.sum(jnp.sin(output))

    return function


@implementations
def test_jit_changes_nothing(implementation):
    arguments = make(**SIZES)
    expected = loss(implementation)(*arguments)
    assert relative_error(fast_jit(loss(implementation))(*arguments), expected) < 1e-12


@implementations
def test_vmap_of_grad_equals_a_loop(implementation):
    arguments = make(**SIZES, batch=(3, 2))
    gradient = fast_jit(jax.grad(loss(implementation), argnums=(0, 1)))
    mapped = fast_jit(jax.vmap(jax.grad(loss(implementation), argnums=(0, 1))))(*arguments)
    for i in range(3):
        alone = gradient(*jax.tree.map(lambda x, i=i: x[i], arguments))
        for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(alone), strict=True):
            assert relative_error(a[i], b) < GRADIENT_AGREEMENT["float64"]


@implementations
def test_vmap_over_some_arguments(implementation):
    inputs, state = make(**SIZES, batch=(3,))

    def function(transition, state):
        shared = jax.tree.map(lambda x: x[0], inputs)
        return plstm_1d(
            *shared._replace(transition=transition),
            initial_state=state,
            implementation=implementation,
        )

    mapped = jax.vmap(function)(inputs.transition, state)
    for i in range(3):
        alone = function(inputs.transition[i], state[i])
        assert relative_error(mapped[i], alone) < AGREEMENT["float64"]


@implementations
def test_remat_changes_nothing(implementation):
    arguments = make(**SIZES)
    expected = fast_jit(jax.grad(loss(implementation)))(*arguments)
    actual = fast_jit(jax.grad(jax.checkpoint(loss(implementation))))(*arguments)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert relative_error(a, b) < 1e-12


@implementations
def test_works_inside_scan(implementation):
    """Segments of a sequence scanned, the state carried, as in streaming evaluation."""
    inputs, state = make(12, "J1", DK=2, DV=2)
    parts = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(2, 3, 4, *x.shape[2:]), 1, 0), inputs)

    def body(state, part):
        output, state = plstm_1d(
            *part, initial_state=state, implementation=implementation, return_state=True
        )
        return state, output

    _, outputs = jax.lax.scan(body, state, parts)
    expected = plstm_1d(*inputs, initial_state=state, implementation="recurrent")
    assert relative_error(jnp.concatenate(list(outputs), 1), expected) < AGREEMENT["float64"]


@implementations
def test_gradients_are_finite_differences(implementation):
    arguments = make(**SIZES, batch=(), kind="reset")
    check_grads(jax.jit(loss(implementation)), arguments, order=1, modes=["rev"], rtol=1e-6)


@pytest.mark.slow
def test_forward_mode_and_second_derivatives_of_the_recurrence():
    arguments = make(3, "J1", batch=(), DK=1, DV=1)
    check_grads(jax.jit(loss("recurrent")), arguments, order=2, rtol=1e-5)


@pytest.mark.slow
def test_second_derivatives_of_the_chunks():
    """With respect to every argument, those of the recurrence."""
    arguments = make(3, "J4", batch=(), DK=2, DV=2)

    def of_gradients(implementation):
        def norm(arguments):
            gradients = jax.grad(loss(implementation), argnums=(0, 1))(*arguments)
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradients))

        return jax.jit(jax.grad(norm))(arguments)

    chunks, expected = of_gradients("chunkwise"), of_gradients("recurrent")
    for leaf, wanted in zip(jax.tree.leaves(chunks), jax.tree.leaves(expected), strict=True):
        assert relative_error(leaf, wanted) < GRADIENT_AGREEMENT["float64"]


def test_scale_is_differentiable():
    inputs, state = make(**SIZES)

    def function(scale, implementation):
        return jnp.sum(
            plstm_1d(*inputs, initial_state=state, scale=scale, implementation=implementation) ** 2
        )

    gradients = [jax.grad(function)(0.3, name) for name in PORTABLE]
    assert relative_error(gradients[0], gradients[1]) < AGREEMENT["float64"]


@pytest.mark.parametrize(
    "size", [8, 16, *(pytest.param(n, marks=pytest.mark.slow) for n in (64, 128))]
)
def test_the_range_of_chunks(size):
    check_range("chunkwise", size, chunk_size=size)
