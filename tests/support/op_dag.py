"""Graphs of known shape, random arguments for the DAG op, the op as a function, a plain loop."""

import functools

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
from fast_compile import fast_jit
from op_1d import DIMENSIONS, cotangent

from plstm_seq.graphs import line_graph
from plstm_seq.ops import plstm_dag
from plstm_seq.ops.dag.api import IMPLEMENTATIONS
from plstm_seq.ops.dag.inputs import Inputs

NAMES = list(IMPLEMENTATIONS)


def random_edges(nodes, edges, *, span=None, seed=0):
    """[2, E], all directed from the lower to the higher node; span: how far an edge leads."""
    draws = np.random.default_rng(seed)
    pairs = set()
    while len(pairs) < edges:
        tail = int(draws.integers(nodes - 1))
        head = tail + int(draws.integers(1, min(span or nodes, nodes - tail - 1) + 1))
        pairs.add((tail, head))
    return np.asarray(sorted(pairs), np.int32).reshape(-1, 2).T


def path_edges(nodes):
    return np.asarray([np.arange(nodes - 1), np.arange(1, nodes)])


def star_edges(rays):
    """Half of the rays enter the centre, node `rays`; the others leave it."""
    outer = np.arange(rays)
    enters = outer < rays // 2
    return np.where(enters, [outer, np.full(rays, rays)], [np.full(rays, rays), outer])


# Shapes with little in common; every one is small, since each is compiled for.
GRAPHS = {
    "path": lambda: (path_edges(7), 7),
    "star": lambda: (star_edges(7), 8),
    "deep": lambda: (random_edges(12, 20, span=3), 12),
    "wide": lambda: (random_edges(12, 26), 12),
    "isolated": lambda: (np.asarray([[0, 4], [4, 2]]), 6),
    "no_lines": lambda: (np.asarray([[0, 1], [2, 2]]), 3),
    "no_edges": lambda: (np.zeros((2, 0), np.int32), 3),
}


@functools.cache
def build(name, mode="P"):
    edges, nodes = GRAPHS[name]()
    return line_graph(edges, nodes, mode=mode)


def make(graph, dimensions="J1", *, batch=(2,), DK=3, DV=2, kind="contractive", seed=0, **options):
    """Arguments of the op: `Inputs`; options: direct=False, dtype."""
    d = DIMENSIONS[dimensions]
    dtype = options.get("dtype", jnp.float64)
    draws = np.random.default_rng(seed)
    N, E, P = graph.graph.size, graph.tail.size, graph.before.size

    def draw(*shape, scale=1.0):
        return jnp.asarray(scale * draws.standard_normal((*batch, *shape)), dtype)

    return Inputs(
        query=draw(N, DK, d["JQ"]),
        key=draw(N, DK, d["JK"]),
        value=draw(N, DV, d["JV"]),
        source=draw(E, d["JT"], d["JK"], d["JV"], scale=0.3),
        transition=jnp.asarray(_transitions(draws, (*batch, P, d["JT"], d["JT"]), kind), dtype),
        mark=draw(E, d["JO"], d["JQ"], d["JT"], scale=0.3),
        direct=draw(N, d["JO"], d["JQ"], d["JK"], d["JV"]) if options.get("direct", True) else None,
    )


def _transitions(draws, shape, kind):
    """Orthogonal matrices times 0.2 to 0.6; a reset has three tenths of them zero."""
    orthogonal, _ = np.linalg.qr(draws.standard_normal(shape))
    factor = draws.uniform(0.2, 0.6, (*shape[:-2], 1, 1))
    if kind == "reset":
        factor *= draws.uniform(size=factor.shape) > 0.3
    return orthogonal * factor


def call(inputs, graph, **options):
    """The output."""
    return fast_jit(lambda x, g: plstm_dag(*x, graph=g, **options))(inputs, graph)


def value_and_gradients(inputs, graph, **options):
    """The output, and the gradients of a random projection of it."""

    def project(inputs, graph):
        output = plstm_dag(*inputs, graph=graph, **options)
        return jnp.vdot(output, cotangent(jax.random.key(7), output)), output

    run = fast_jit(jax.value_and_grad(project, has_aux=True))
    (_, output), gradients = run(inputs, graph)
    return output, gradients


def plain_loop(inputs, graph, scale=None):
    """One state per edge in a dictionary, in networkx's topological order, in float64."""
    x = Inputs(*(None if a is None else np.asarray(a, np.float64) for a in inputs))
    scale = x.query.shape[-2] ** -0.5 if scale is None else scale
    edges = list(zip(graph.tail.tolist(), graph.head.tolist(), strict=True))
    lines = nx.DiGraph()
    lines.add_nodes_from(range(len(edges)))
    for p, (d, e) in enumerate(zip(graph.before.tolist(), graph.after.tolist(), strict=True)):
        lines.add_edge(d, e, line=p)
    states = {}
    output = np.zeros((*x.value.shape[:-1], x.mark.shape[-3]))
    for e in nx.topological_sort(lines):
        u, v = edges[e]
        states[e] = np.einsum(
            "...iaw,...ka,...vw->...kvi",
            x.source[..., e, :, :, :],
            x.key[..., u, :, :],
            x.value[..., u, :, :],
        )
        for d in lines.predecessors(e):
            T = x.transition[..., lines[d][e]["line"], :, :]
            states[e] = states[e] + np.einsum("...ij,...kvj->...kvi", T, states[d])
        mark, query = x.mark[..., e, :, :, :], x.query[..., v, :, :]
        output[..., v, :, :] += np.einsum("...oqi,...kq,...kvi->...vo", mark, query, states[e])
    if x.direct is not None:
        output += np.einsum("...oqaw,...kq,...ka,...vw->...vo", x.direct, *x[:3])
    return scale * output
