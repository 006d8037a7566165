"""Both forms of the DAG op against a plain loop, each other, and the ops on paths and grids."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import op_1d
import op_2d
import pytest
from golden import relative_error
from op_dag import GRAPHS, NAMES, build, call, make, path_edges, plain_loop, value_and_gradients
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.graphs import line_graph, padded, reverse, sizes_of, union
from plstm_seq.ops import plstm_dag
from plstm_seq.ops.dag.inputs import Inputs

names = pytest.mark.parametrize("implementation", NAMES)
EXACT = AGREEMENT["float64"]


@names
@pytest.mark.parametrize("shape", GRAPHS)
def test_equals_a_plain_loop(shape, implementation):
    graph = build(shape)
    inputs = make(graph, "all_differ" if shape == "wide" else "J1", kind="reset")
    assert (
        relative_error(
            call(inputs, graph, implementation=implementation), plain_loop(inputs, graph)
        )
        < EXACT
    )


@pytest.mark.parametrize(
    ("shape", "mode", "dimensions"),
    [
        ("deep", "D", "J1"),
        ("wide", "P", "all_differ"),
        ("star", "P", "J1"),
        ("no_edges", "P", "J1"),
    ],
)
def test_gradients_agree_with_the_recurrence(shape, mode, dimensions):
    graph = build(shape, mode)
    inputs = make(graph, dimensions, kind="reset")
    results = [value_and_gradients(inputs, graph, implementation=name) for name in NAMES]
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        assert relative_error(a, b) < GRADIENT_AGREEMENT["float64"]


@pytest.mark.parametrize("lines", [1, 2])
def test_blocks_cut_to_the_cache_of_a_cpu_change_nothing(lines, monkeypatch):
    """Blocks of 8 lines in parts of so many."""
    module = importlib.import_module("plstm_seq.ops.dag.levelwise")
    graph = build("wide")
    inputs = make(graph, "all_differ", kind="reset")
    batch, JT = inputs.query.shape[0], inputs.transition.shape[-1]
    state_bytes = 8 * batch * JT * inputs.key.shape[-2] * inputs.value.shape[-2]
    widths, in_blocks = [], module._in_blocks

    def watched(rows, graph):
        made = in_blocks(rows, graph)
        widths.append(made.before.shape[1])
        return made

    monkeypatch.setattr(module, "CPU_CACHE", lines * state_bytes)
    monkeypatch.setattr(module, "_in_blocks", watched)
    results = [value_and_gradients(inputs, graph, implementation=name) for name in NAMES]
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        assert relative_error(a, b) < GRADIENT_AGREEMENT["float64"]
    assert graph.blocks.shape[1] == 8
    assert set(widths) == {lines if jax.default_backend() == "cpu" else 8}


def test_leaves_out_the_direct_term():
    graph = build("deep")
    inputs = make(graph, direct=False)
    assert relative_error(call(inputs, graph, scale=1.0), plain_loop(inputs, graph, 1.0)) < EXACT


@names
def test_any_topological_order_gives_the_same(implementation):
    """Lines one at a time by a random order of their second edges."""
    graph = build("wide")
    draws = np.random.default_rng(3)
    place = {}
    while len(place) < graph.tail.size:
        ready = [
            e
            for e in range(graph.tail.size)
            if e not in place and all(d in place for d in graph.before[graph.after == e])
        ]
        place[int(draws.choice(ready))] = len(place)
    order = np.argsort([place[e] for e in graph.after.tolist()], kind="stable")
    other = graph._replace(blocks=order.astype(np.int32)[:, None])
    assert not np.array_equal(order, graph.blocks[graph.blocks < order.size])
    inputs = make(graph)
    outputs = [call(inputs, g, implementation=implementation) for g in (graph, other)]
    assert relative_error(*outputs) < EXACT


@pytest.mark.parametrize("dimensions", ["J1", "all_differ"])
def test_a_path_equals_plstm_1d(dimensions):
    inputs, _ = op_1d.make(9, dimensions, kind="reset")
    graph = line_graph(path_edges(9), 9)
    # The edge from t to t + 1 is written at t, turned by the transition of t, read at t + 1.
    gates = inputs.source[:, :-1], inputs.transition[:, 1:-1], inputs.mark[:, 1:]
    output = call(Inputs(*inputs[:3], *gates, inputs.direct), graph)
    assert relative_error(output, op_1d.call(inputs, implementation="recurrent")[0]) < EXACT


@pytest.mark.parametrize("turns", ["P", "L", "R"])
def test_a_grid_equals_plstm_2d(turns):
    X, Y = 4, 3
    inputs, _ = op_2d.make(X, Y, "J2", turns=turns)
    node = np.arange(X * Y).reshape(X, Y)
    right = np.stack([node[:-1].ravel(), node[1:].ravel()])
    down = np.stack([node[:, :-1].ravel(), node[:, 1:].ravel()])
    edges = np.concatenate([right, down], axis=1)
    is_down = np.arange(edges.shape[1]) >= right.shape[1]
    every = line_graph(edges, X * Y)
    kinds = is_down[every.after].astype(int), is_down[every.before].astype(int)
    # Of a transition's two letters the first is the edge that it leads to.
    names = np.asarray([["transition_rl", "transition_ru"], ["transition_dl", "transition_du"]])
    named = names[kinds]
    kept = np.asarray([getattr(inputs, name) is not None for name in named])
    graph = line_graph(edges, X * Y, lines=[every.before[kept], every.after[kept]])

    def flat(array):
        return array.reshape(array.shape[0], X * Y, *array.shape[3:])

    def pick(options, index):
        both = jnp.stack([flat(getattr(inputs, name)) for name in options])
        return jnp.moveaxis(both[is_down.astype(int), :, index], 0, 1)

    transition = [
        flat(getattr(inputs, name))[:, node]
        for name, node in zip(named[kept], graph.node, strict=True)
    ]
    arguments = Inputs(
        *(flat(x) for x in inputs[:3]),
        pick(("source_right", "source_down"), graph.tail),
        jnp.stack(transition, 1),
        pick(("mark_left", "mark_up"), graph.head),
        flat(inputs.direct),
    )
    output = call(arguments, graph).reshape(-1, X, Y, *inputs.value.shape[-2:-1], 2)
    assert relative_error(output, op_2d.call(inputs, implementation="recurrent")[0]) < EXACT


def test_padding_and_union_change_nothing():
    graphs = [build("deep"), build("isolated"), build("wide")]
    inputs = [make(graph, seed=i) for i, graph in enumerate(graphs)]
    joined = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *inputs)
    expected = [call(x, g) for x, g in zip(inputs, graphs, strict=True)]
    both = union(graphs)
    assert relative_error(call(joined, both), np.concatenate(expected, axis=1)) < EXACT
    size = sizes_of(both)
    larger = padded(both, size._replace(graphs=5, nodes=40, edges=61, lines=150, steps=40, width=8))
    assert sizes_of(larger).nodes == 40
    short = sizes_of(both)
    rows = dict(zip(Inputs._fields, (40, 40, 40, 61, 150, 61, 40), strict=True))
    filled = Inputs(
        *(
            jnp.pad(
                x,
                [(0, 0), (0, rows[name] - x.shape[1]), *[(0, 0)] * (x.ndim - 2)],
                constant_values=7.0,
            )
            for name, x in joined._asdict().items()
        )
    )
    for name in NAMES:
        output, gradients = value_and_gradients(filled, larger, implementation=name)
        assert relative_error(output[:, : short.nodes], np.concatenate(expected, axis=1)) < EXACT
        assert not np.any(gradients.transition[:, short.lines :])
        assert not np.any(gradients.source[:, short.edges :])


def test_reversal_swaps_what_is_written_and_read():
    """Backwards, the state of an edge gathers what lies behind it; places are kept."""
    graph = build("wide")
    back = reverse(graph)
    assert relative_error(call(make(back), back), plain_loop(make(back), back)) < EXACT
    assert all(np.array_equal(a, b) for a, b in zip(reverse(back), graph, strict=True))


@names
def test_low_precision_accumulates_in_float32(implementation):
    graph = build("deep")
    inputs = jax.tree.map(lambda x: x.astype(jnp.bfloat16), make(graph))
    output = call(inputs, graph, implementation=implementation)
    assert output.dtype == jnp.bfloat16
    assert relative_error(output, plain_loop(inputs, graph)) < AGREEMENT["bfloat16"]


def test_graphs_of_one_size_share_a_program():
    traced = []

    @jax.jit
    def run(inputs, graph):
        traced.append(1)
        return plstm_dag(*inputs, graph=graph)

    for order in ([0, 1, 2], [0, 2, 1]):
        edges = np.asarray([[order[0], order[1]], [order[1], order[2]]])
        graph = line_graph(edges, 3)
        run(make(graph), graph)
    assert len(traced) == 1
