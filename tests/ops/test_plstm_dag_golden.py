"""The published graph operations' arrays: outputs and all gradients, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from golden import golden_files, load, record, relative_error
from op_dag import NAMES

from plstm_seq.graphs import line_graph
from plstm_seq.ops import plstm_dag

FILES = golden_files("graphop_")


def published_graph(path):
    """Edges in the published processing order and its lines; in P-mode those are all."""
    with np.load(path) as arrays:
        edges, lines = arrays["graph__topo_edges"], arrays["graph__ldag_edge_topo_pairs"]
        graph = line_graph(edges.T, int(arrays["graph__num_nodes"]), lines=lines.T)
        # Published, an edge reads its source at its rank among those that enter its head, its mark
        # at its rank among those that leave its tail (defect 28), in the order of `dag_edges`.
        place = {tuple(edge): i for i, edge in enumerate(arrays["graph__dag_edges"].tolist())}
        order = [place[tuple(edge)] for edge in edges.tolist()]
        forward, backward = (
            arrays[f"graph__incidence_{name}"][order] for name in ("forward", "backward")
        )
    return graph._replace(out_slot=backward, in_slot=forward)


def by_edge(arrays, graph):
    return arrays["S"], arrays["T"], arrays["M"]


def by_node(arrays, graph):
    before, after = graph.in_slot[graph.before], graph.out_slot[graph.after]
    return (
        arrays["S"][:, graph.tail, graph.out_slot],
        arrays["T"][:, graph.node, before, after],
        arrays["M"][:, graph.head, graph.in_slot],
    )


def run(arrays, graph, gates, implementation):
    source, transition, mark = gates(arrays, graph)
    output = plstm_dag(
        *(arrays[name][..., None] for name in "QKV"),
        source[..., None, None, None],
        transition[..., None, None],
        mark[..., None, None, None],
        arrays["D"][..., None, None, None, None],
        graph=graph,
        scale=1.0,
        implementation=implementation,
    )
    return output[..., 0]


def cases():
    """Every file by the default form; by the truth those that are committed too."""
    for path in FILES:
        for name in NAMES:
            if name == "levelwise" or "rand2" in path.stem:
                yield pytest.param(path, name, id=f"{path.stem}-{name}")


@pytest.mark.parametrize(("path", "implementation"), list(cases()))
def test_agrees_with_the_published_operation(path, implementation):
    golden = load(path)
    graph = published_graph(path)
    gates = by_node if golden.meta["op"] == "nodewise" else by_edge
    arrays = {name: jnp.asarray(array, jnp.float64) for name, array in golden.inputs.items()}
    cotangent = jnp.asarray(golden.cotangents["y"], jnp.float64)

    def function(arrays):
        output = run(arrays, graph, gates, implementation)
        return jnp.vdot(output, cotangent), output

    gradients, output = fast_jit(jax.grad(function, has_aux=True))(arrays)
    errors = {"y": relative_error(output, golden.outputs64["y"])}
    assert golden.grads64 or not graph.tail.size
    for name, expected in golden.grads64.items():
        errors[f"gradient of {name}"] = relative_error(gradients[name], expected)
    record(golden.name, implementation, errors)
    assert {name: error for name, error in errors.items() if not error < 1e-13} == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_graph_is_built_as_published(path):
    """From the directed edges alone: the same lines, and the same after pruning."""
    mode = load(path).meta["mode"]
    with np.load(path) as arrays:
        edges = arrays["graph__dag_edges"]
        published = {tuple(line) for line in arrays["graph__ldag_edges"].tolist()}
        processing = arrays["graph__topo_edges"].tolist()
        slots = arrays["graph__incidence_forward"], arrays["graph__incidence_backward"]
        graph = line_graph(edges.T, int(arrays["graph__num_nodes"]), mode=mode)
    assert np.array_equal(graph.out_slot, slots[0])
    lines = np.concatenate([edges[graph.before], edges[graph.after]], axis=1)
    assert {tuple(line) for line in lines.tolist()} == published
    levels = {tuple(edge): level for edge, level in zip(edges.tolist(), graph.level, strict=True)}
    if mode == "P":
        assert np.all(np.diff([levels[tuple(edge)] for edge in processing]) >= 0)
