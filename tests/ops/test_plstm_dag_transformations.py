"""vmap of grad, remat, other modes, and what the backward pass holds in memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from golden import relative_error
from jax.test_util import check_grads
from op_dag import GRAPHS, NAMES, build, make, path_edges, random_edges, star_edges
from tolerances import GRADIENT_AGREEMENT

from plstm_seq.graphs import line_graph, sizes_of
from plstm_seq.ops import plstm_dag

EXACT = GRADIENT_AGREEMENT["float64"]


def loss(graph, implementation=None):
    def function(inputs):
        return jnp.sum(jnp.sin(plstm_dag(*inputs, graph=graph, implementation=implementation)))

    return function


@pytest.mark.parametrize("implementation", NAMES)
def test_vmap_of_grad_equals_a_loop(implementation):
    graph = build("isolated")
    inputs = make(graph, batch=(2, 1))
    gradient = jax.grad(loss(graph, implementation))
    mapped = fast_jit(jax.vmap(gradient))(inputs)
    one = fast_jit(gradient)
    for i in range(2):
        alone = one(jax.tree.map(lambda x, i=i: x[i], inputs))
        for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(alone), strict=True):
            assert relative_error(a[i], b) < EXACT


def test_vmap_over_graphs():
    """Two graphs of one size, their index arrays stacked; with remat."""
    graphs = [line_graph(np.asarray(e), 4, width=1) for e in ([[0, 1], [1, 3]], [[2, 3], [3, 0]])]
    inputs = [make(graph, seed=i) for i, graph in enumerate(graphs)]
    stack = jax.tree.map(lambda *x: jnp.stack(x), *inputs)
    arrays = jax.tree.map(lambda *x: np.stack(x), *graphs)
    gradient = jax.grad(lambda x, g: jax.checkpoint(loss(g))(x))
    mapped = fast_jit(jax.vmap(gradient))(stack, arrays)
    for i, (x, graph) in enumerate(zip(inputs, graphs, strict=True)):
        alone = fast_jit(gradient)(x, graph)
        for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(alone), strict=True):
            assert relative_error(a[i], b) < EXACT


def test_derivatives_of_the_recurrence_are_finite_differences():
    graph = build("isolated")
    inputs = make(graph, batch=(), DK=1, DV=1)
    function = jax.jit(loss(graph, "recurrent"))
    check_grads(function, (inputs,), order=1, modes=["rev"], rtol=1e-6)
    check_grads(function, (inputs,), order=2, modes=["fwd"], rtol=1e-5)


LARGE = {
    "path": (path_edges(400), 400),
    "star": (star_edges(60), 61),
    "deep": (random_edges(300, 800, span=8), 300),
    "wide": (random_edges(300, 800), 300),
}


@pytest.mark.parametrize("shape", LARGE)
def test_no_array_has_a_state_per_line(shape):
    """In the traced program, forward and backward; nor is more than half of the work padding."""
    graph = line_graph(*LARGE[shape])
    lines, state = graph.before.size, 6 * 7
    _, _, _, _, steps, width = sizes_of(graph)
    levels = np.unique(graph.level[graph.after]).size
    assert steps * width <= 2 * lines + levels * width
    inputs = jax.eval_shape(lambda: make(graph, batch=(), DK=6, DV=7, dtype=jnp.float32))
    program = jax.make_jaxpr(jax.value_and_grad(loss(graph)))(inputs)
    largest = max(sizes_in(program.jaxpr))
    rows = max(graph.tail.size + 1, width, steps * width // state)
    assert largest <= rows * state
    assert shape == "path" or largest < lines * state


def sizes_in(jaxpr):
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            yield int(np.prod(variable.aval.shape))
        for inner in jax.tree.leaves(
            equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from sizes_in(inner)


def test_the_shapes_are_what_they_are_called():
    levels = {name: int(build(name).level.max(initial=0)) for name in GRAPHS}
    assert levels["path"] == 5
    assert levels["star"] == 1
    assert levels["deep"] > levels["wide"] > 1
    assert levels["no_lines"] == levels["no_edges"] == 0
