"""Line graphs against networkx, and what is said about graphs that are none."""

import jax
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_dag import random_edges

from plstm_seq.graphs import LineGraph, line_graph, reverse, union
from plstm_seq.graphs.order import in_blocks


def pairs(graph):
    """Lines as pairs of pairs of nodes."""
    edges = list(zip(graph.tail.tolist(), graph.head.tolist(), strict=True))
    lines = zip(graph.before.tolist(), graph.after.tolist(), strict=True)
    return [(edges[d], edges[e]) for d, e in lines]


@st.composite
def acyclic(draw):
    """Edges between nodes in a hidden order, in any order of edges."""
    nodes = draw(st.integers(2, 9))
    every = [(u, v) for u in range(nodes) for v in range(u + 1, nodes)]
    names = draw(st.permutations(range(nodes)))
    chosen = draw(st.lists(st.sampled_from(every), unique=True, max_size=14))
    return np.asarray([(names[u], names[v]) for u, v in chosen]).reshape(-1, 2).T, nodes


@given(acyclic(), st.sampled_from([None, 1, 3]))
@settings(max_examples=60, deadline=None)
def test_is_the_line_graph_of_networkx(case, width):
    edges, nodes = case
    graph = line_graph(edges, nodes, width=width)
    theirs = nx.line_graph(nx.DiGraph(edges.T.tolist()))
    assert sorted(pairs(graph)) == sorted(theirs.edges)
    assert np.array_equal(np.stack([graph.tail, graph.head]), edges)
    depth = {edge: d for d, g in enumerate(nx.topological_generations(theirs)) for edge in g}
    assert [depth[edge] for edge in map(tuple, edges.T.tolist())] == graph.level.tolist()
    holds_a_topological_order(graph)


def holds_a_topological_order(graph):
    P = graph.before.size
    assert sorted(graph.blocks[graph.blocks < P].tolist()) == list(range(P))
    read = set()
    for block in graph.blocks:
        lines = block[block < P]
        read.update(graph.before[lines].tolist())
        assert not read & set(graph.after[lines].tolist())


@given(st.lists(st.integers(0, 5), max_size=40), st.sampled_from([None, 1, 4, 64]))
@settings(max_examples=60, deadline=None)
def test_blocks_waste_less_than_one_block_a_level(levels, width):
    level = np.asarray(levels, np.int32)
    blocks = in_blocks(level, width)
    assert blocks.size <= level.size + len(set(levels)) * blocks.shape[1]
    assert blocks.size <= 3 * level.size or width is not None
    lines = blocks[blocks < level.size]
    assert sorted(lines.tolist()) == list(range(level.size))
    assert np.all(np.diff(level[lines]) >= 0)


def test_slots_are_ranks_among_the_edges_of_a_node():
    graph = line_graph([[0, 0, 1, 0], [2, 1, 2, 3]], 4)
    assert graph.out_slot.tolist() == [0, 1, 0, 2]
    assert graph.in_slot.tolist() == [0, 0, 1, 0]
    assert graph.node.tolist() == [1]


def test_parallel_edges_are_two_edges():
    assert pairs(line_graph([[0, 0, 1], [1, 1, 2]], 3)) == [((0, 1), (1, 2))] * 2


def test_is_a_pytree_of_integers():
    graph = line_graph(random_edges(8, 12), 8)
    assert isinstance(jax.tree.map(lambda x: x, graph), LineGraph)
    assert {x.dtype.name for x in jax.tree.leaves(graph)} == {"int32"}


def test_both_modes_keep_every_line_and_mark_those_of_a_multitree():
    edges = random_edges(9, 20, seed=1)
    every, both, pruned = (line_graph(edges, 9, mode=mode) for mode in ("P", "PD", "D"))
    assert every.multitree is None
    assert pairs(both) == pairs(every)
    kept = both.multitree == 1
    assert 0 < kept.sum() < kept.size
    assert [line for line, keep in zip(pairs(both), kept, strict=True) if keep] == pairs(pruned)
    assert pruned.multitree.all()


def test_several_graphs_side_by_side_are_their_union():
    parts = [(random_edges(n, n, seed=n), n) for n in (6, 4)]
    edges = np.concatenate([parts[0][0], parts[1][0] + 6], axis=1)
    both = line_graph(edges, 10, graph=[0] * 6 + [1] * 4, mode="PD")
    other = union([line_graph(*part, mode="PD") for part in parts])
    assert all(np.array_equal(a, b) for a, b in zip(both, other, strict=True))


def test_reversal_keeps_places():
    graph = line_graph(random_edges(8, 12), 8)
    back = reverse(graph)
    assert pairs(back) == [((w, v), (v, u)) for (u, v), (_, w) in pairs(graph)]
    assert np.array_equal(back.out_slot, graph.in_slot)
    holds_a_topological_order(back)


@pytest.mark.parametrize(
    ("edges", "nodes", "options", "message"),
    [
        (
            [[0, 1, 2, 3], [1, 2, 1, 0]],
            4,
            {},
            "cycle (1 -> 2 -> 1|2 -> 1 -> 2), expected a directed",
        ),
        ([[0, 1], [1, 1]], 2, {}, "cycle 1 -> 1, expected a directed"),
        ([[0, 1], [1, 4]], 4, {}, r"edge 1: got \(1, 4\), expected nodes 0 to 3"),
        ([[0, -1], [1, 1]], 4, {}, r"edge 1: got \(-1, 1\), expected nodes 0 to 3"),
        ([[], []], 0, {}, "nodes: got 0, expected at least 1"),
        ([[], []], -1, {"graph": []}, "nodes: got -1, expected"),
        ([[], []], 2, {"graph": [0, 7]}, "graph: got 7, expected graphs counted without gaps"),
        ([[0, 1, 2]], 3, {}, r"edge_index: got shape \(1, 3\) .* integers \[2, n\]"),
        ([[0.0], [1.0]], 3, {}, "type float64, expected integers"),
        ([[0, 1], [1, 2]], 3, {"mode": "M"}, "mode: got 'M', expected one of"),
        (
            [[0, 1], [1, 2]],
            3,
            {"lines": [[0], [2]]},
            r"line 0: got \(0, 2\), expected edges 0 to 1",
        ),
        ([[0, 1], [1, 2]], 3, {"lines": [[1], [0]]}, "line 0 joins edge 1 into node 2 to edge 0"),
        ([[0], [1]], 3, {"graph": [0, 0]}, r"graph: got shape \(2,\) .* integers \[3\]"),
        ([[0], [1]], 3, {"graph": [0, 0, 2]}, "no node of graph 1,"),
        ([[0], [1]], 3, {"graph": [0, 0, -1]}, "graph: got -1, expected graphs counted from 0"),
        ([[0], [1]], 3, {"graph": [0, 1, 1]}, "edge 0 joins node 0 of graph 0 to node 1 of graph"),
    ],
)
def test_what_is_no_graph_is_refused(edges, nodes, options, message):
    with pytest.raises(ValueError, match=message):
        line_graph(edges, nodes, **options)
