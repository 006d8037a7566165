"""Forward mode goes through `recurrent`; all other forms say so, wherever jax finds it out."""

import jax
import jax.numpy as jnp
import op_1d
import op_2d
import op_dag
import pytest
from plain_kernel import PlainKernel

from plstm_seq.ops import plstm_1d, plstm_2d, plstm_dag
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


def dag(implementation):
    graph = op_dag.build("isolated")
    inputs = op_dag.make(graph, batch=())
    return inputs, lambda x: jnp.sum(plstm_dag(*x, graph=graph, implementation=implementation) ** 2)


FORMS = [(sequence, "chunkwise"), (sequence, "plain"), (grid, "parallel"), (grid, "chunkwise")]
FORMS += [(dag, "levelwise")]
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
        lambda f, x: jax.jacfwd(f)(x),
        lambda f, x: jax.hessian(f)(x),
        lambda f, x: jax.jit(jax.hessian(f))(x),
    ],
    ids=["jvp", "in jit", "of jit", "of scan", "jacfwd", "hessian", "hessian in jit"],
)
def test_forward_mode_names_the_form_it_goes_through(make, name, derivative):
    x, function = make(name)
    with pytest.raises(NotImplementedError, match='implementation="recurrent"'):
        derivative(function, x)


@forms
@pytest.mark.parametrize(
    "around", [repeated, chosen, with_a_constant, jax.checkpoint, jax.jit, lambda f: f]
)
def test_reverse_mode_is_that_of_the_recurrence(make, name, around):
    x, function = make(name)
    _, truth = make("recurrent")

    def gradient(function):
        return jax.vmap(lambda s: jax.grad(lambda x: function(x))(jax.tree.map(lambda a: s * a, x)))

    scales = jnp.array([1.0, 0.5])
    found, expected = gradient(around(function))(scales), gradient(truth)(scales)
    times = 2 if around is repeated else 1
    for name, array in expected._asdict().items():
        if array is not None and around is not with_a_constant:
            assert jnp.allclose(getattr(found, name), times * array, rtol=1e-9), name
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
