"""vmap of grad, remat and scan on every form; finite differences and other modes."""

import jax
import jax.numpy as jnp
import pytest
from fast_compile import fast_jit
from golden import relative_error
from jax.test_util import check_grads
from op_2d import PORTABLE, apply, make
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.ops.grid import chunkwise

implementations = pytest.mark.parametrize("implementation", PORTABLE)
SIZES = dict(dimensions="J1", DK=2, DV=2)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    monkeypatch.setattr(chunkwise, "SIDE", 2)


def loss(implementation):
    def function(inputs, initial):
        output, states = apply(inputs, initial, implementation=implementation)
        return sum(jnp.sum(jnp.sin(x)) for x in (output, *states))

    return function


@implementations
def test_vmap_of_grad_equals_a_loop(implementation):
    arguments = make(3, 4, **SIZES, batch=(2, 1))
    gradient = fast_jit(jax.grad(loss(implementation), argnums=(0, 1)))
    mapped = fast_jit(jax.vmap(jax.grad(loss(implementation), argnums=(0, 1))))(*arguments)
    for i in range(2):
        alone = gradient(*jax.tree.map(lambda x, i=i: x[i], arguments))
        for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(alone), strict=True):
            assert relative_error(a[i], b) < GRADIENT_AGREEMENT["float64"]


@implementations
def test_works_inside_scan_and_remat(implementation):
    """Bands of columns scanned, the state carried, as in streaming; with its gradient."""
    inputs, initial = make(6, 3, **SIZES, batch=())

    def streamed(inputs, across):
        parts = jax.tree.map(lambda x: x.reshape(3, 2, *x.shape[1:]), inputs)

        def body(across, part):
            output, (across, _) = apply(part, (across, None), implementation=implementation)
            return across, output

        _, outputs = jax.lax.scan(jax.checkpoint(body), across, parts)
        return jnp.sum(jnp.sin(outputs))

    def whole(inputs, across):
        output = apply(inputs, (across, None), return_state=False, implementation="recurrent")
        return jnp.sum(jnp.sin(output))

    results = [fast_jit(jax.grad(f))(inputs, initial.across) for f in (streamed, whole)]
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        assert relative_error(a, b) < GRADIENT_AGREEMENT["float64"]


def test_derivatives_of_the_recurrence_are_finite_differences():
    """Backward and forward mode, and second derivatives; the others' gradients agree with them."""
    arguments = make(2, 2, "J1", batch=(), DK=1, DV=1, kind="reset")
    function = jax.jit(loss("recurrent"))
    check_grads(function, arguments, order=1, modes=["rev"], rtol=1e-6)
    check_grads(function, arguments, order=2, modes=["fwd"], rtol=1e-5)


def test_scale_is_differentiable():
    inputs, _ = make(2, 3, **SIZES)

    def gradient(name):
        def function(scale):
            output = apply(inputs, return_state=False, scale=scale, implementation=name)
            return jnp.sum(output**2)

        return fast_jit(jax.grad(function))(0.3)

    gradients = [gradient(name) for name in PORTABLE]
    assert relative_error(gradients[0], gradients[2]) < AGREEMENT["float64"]
    assert relative_error(gradients[1], gradients[2]) < AGREEMENT["float64"]


@pytest.mark.slow
@pytest.mark.parametrize(("implementation", "cells"), [("parallel", 24), ("chunkwise", 8)])
@pytest.mark.parametrize("exponent", [38, 40])
def test_the_range_of_products(implementation, cells, exponent, monkeypatch):
    """Products of 1e38 across a grid or a tile are taken, those of 1e40 are not finite."""
    monkeypatch.setattr(chunkwise, "SIDE", 8)
    inputs, initial = jax.tree.map(
        lambda x: jnp.zeros_like(x, jnp.float32), make(cells, 1, "J1", batch=(), DK=1, DV=1)
    )
    inputs = inputs._replace(
        query=jnp.ones_like(inputs.query),
        mark_left=jnp.ones_like(inputs.mark_left),
        transition_rl=jnp.full_like(inputs.transition_rl, 10 ** (exponent / cells)),
    )
    initial = initial._replace(across=jnp.full_like(initial.across, 1e-37))
    expected, found = (
        apply(inputs, initial, implementation=name)[1][0] for name in ("recurrent", implementation)
    )
    assert jnp.isfinite(expected).all()
    if exponent == 38:
        assert relative_error(found, expected) < 1e-5
    else:
        assert not jnp.isfinite(found).any()
