"""Forward mode goes through `recurrent`; all other forms say so, wherever jax finds it out."""

import jax
import jax.numpy as jnp
import op_1d
import op_2d
import op_dag
import pytest
from fast_compile import fast_jit
from plain_kernel import PlainKernel

from plstm_seq.ops import plstm_1d, plstm_2d, plstm_2d_oriented, plstm_dag
from plstm_seq.ops.grid.inputs import GATES
from plstm_seq.ops.sequence import api
from plstm_seq.ops.sequence.kernel import implementation_of


@pytest.fixture(autouse=True)
def kernel(monkeypatch):
    monkeypatch.setitem(api.IMPLEMENTATIONS, "plain", implementation_of(PlainKernel()))


def sequence(implementation):
    inputs, state = op_1d.make(3, "J1", batch=(), DK=1, DV=1)
    return inputs, lambda x: jnp.sum(
        plstm_1d(*x, initial_state=state, implementation=implementation) ** 2
    )


def grid(implementation):
    inputs, _ = op_2d.make(2, 2, "J1", batch=(), DK=1, DV=1)
    return inputs, lambda x: jnp.sum(plstm_2d(*x, implementation=implementation) ** 2)


def oriented(implementation):
    inputs, _ = op_2d.make(2, 2, "J1", batch=(1,), DK=1, DV=1)
    one = jax.tree.map(lambda x: x[0], inputs)
    inputs = one._replace(**{name: getattr(inputs, name) for name in GATES})

    def function(x):
        return jnp.sum(plstm_2d_oriented(*x, orientations=(3,), implementation=implementation) ** 2)

    return inputs, function


def dag(implementation):
    graph = op_dag.build("isolated")
    inputs = op_dag.make(graph, batch=())
    return inputs, lambda x: jnp.sum(plstm_dag(*x, graph=graph, implementation=implementation) ** 2)


FORMS = [(sequence, "chunkwise"), (sequence, "plain"), (grid, "parallel"), (grid, "chunkwise")]
FORMS += [(oriented, "parallel"), (oriented, "chunkwise"), (dag, "levelwise")]
forms = pytest.mark.parametrize(("make", "name"), FORMS)


def repeated(function):
    """In a loop, which begins with numbers that depend on nothing."""
    return lambda x: jax.lax.scan(lambda c, _: (c + function(x), None), 0.0, None, length=2)[0]


def chosen(function):
    return lambda x: jax.lax.cond(x.query.sum() < jnp.inf, function, lambda _: 0.0, x)


def with_a_constant(function):
    """Some arguments are known, and have no tangents."""
    return lambda x: function(x._replace(key=jnp.ones_like(x.key)))


def tangents(function, x):
    return jax.jvp(function, (x,), (x,))


@forms
@pytest.mark.parametrize(
    "derivative",
    [
        tangents,
        lambda f, x: jax.jit(lambda x: tangents(f, x))(x),
        lambda f, x: tangents(jax.jit(f), x),
        lambda f, x: tangents(repeated(f), x),
        lambda f, x: jax.jit(jax.hessian(f))(x),
    ],
    ids=["jvp", "in jit", "of jit", "of scan", "hessian in jit"],
)
def test_forward_mode_names_the_form_it_goes_through(make, name, derivative):
    x, function = make(name)
    with pytest.raises(NotImplementedError, match='implementation="recurrent"'):
        derivative(function, x)


def gradient_of_gradient(function):
    def norm(x):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(jax.grad(function)(x)))

    return norm


AROUND = [repeated, chosen, with_a_constant, jax.checkpoint, gradient_of_gradient]


@pytest.mark.parametrize(
    ("make", "name", "around"),
    [
        *((sequence, "chunkwise", around) for around in AROUND[:-1]),
        *((make, name, repeated) for make, name in FORMS[1:]),
        *(
            pytest.param(make, name, gradient_of_gradient, marks=pytest.mark.slow)
            for make, name in (FORMS[0], *FORMS[2:])
        ),
    ],
)
def test_reverse_mode_is_that_of_the_recurrence(make, name, around):
    x, function = make(name)
    _, truth = make("recurrent")

    def gradients(function):
        def scaled(factor):
            return jax.grad(around(function))(jax.tree.map(lambda a: factor * a, x))

        return fast_jit(jax.vmap(scaled))(jnp.array([1.0, 0.5]))

    pairs = zip(*(jax.tree.leaves(gradients(f)) for f in (function, truth)), strict=True)
    for found, expected in pairs:
        assert jnp.allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("make", [sequence, grid, dag])
def test_without_a_name_forward_mode_takes_the_recurrence(make):
    x, function = make(None)
    _, truth = make("recurrent")
    assert jnp.allclose(tangents(function, x)[1], tangents(truth, x)[1], rtol=1e-9)
