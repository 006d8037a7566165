"""From networkx and undirected edges."""

import networkx as nx
import numpy as np
import pytest

from plstm_seq.graphs import from_networkx, orient


def edges(graph):
    return list(zip(graph.tail.tolist(), graph.head.tolist(), strict=True))


def test_a_directed_graph_keeps_its_directions():
    """The published code turns (2, 0), (0, 1) into (0, 2), (0, 1): defect 30."""
    graph = nx.DiGraph([(2, 0), (0, 1)])
    graph.add_node("alone")
    ours = from_networkx(graph)
    assert edges(ours) == [(0, 1), (1, 2)]
    assert ours.graph.size == 4
    assert (ours.before.tolist(), ours.after.tolist()) == ([0], [1])


def test_an_undirected_graph_is_directed_by_the_order_of_its_nodes():
    graph = nx.Graph([("b", "a"), ("a", (0, 1)), ((0, 1), "b")])
    assert edges(from_networkx(graph)) == [(0, 1), (0, 2), (1, 2)]
    assert edges(from_networkx(graph, order=[(0, 1), "a", "b"])) == [(1, 0), (2, 0), (2, 1)]


def test_prunes_in_d_mode():
    graph = nx.DiGraph([(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)])
    assert from_networkx(graph).before.size == 4
    assert from_networkx(graph, mode="D").before.size == 4
    graph.add_edge("root", 0)
    assert (from_networkx(graph).before.size, from_networkx(graph, mode="D").before.size) == (6, 5)


def test_undirected_edges_are_named_once():
    given = np.asarray([[2, 0, 1, 0, 1], [0, 2, 2, 1, 0]])
    ours, first = orient(given)
    assert ours.T.tolist() == [[0, 2], [1, 2], [0, 1]]
    assert first.tolist() == [0, 2, 3]
    assert orient(given, [2, 1, 0])[0].T.tolist() == [[2, 0], [2, 1], [1, 0]]
    assert orient(np.zeros((2, 0), int))[0].shape == (2, 0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: from_networkx(nx.DiGraph([(0, 1)]), order=[0, 1]), "keeps its directions"),
        (lambda: from_networkx(nx.Graph([(0, 1)]), order=[0]), "expected every node once"),
        (lambda: from_networkx(nx.Graph([(0, 1), (1, 1)])), "edge 1 from node 1 to itself"),
        (lambda: from_networkx(nx.DiGraph([(0, 1), (1, 0)])), "cycle"),
        (lambda: from_networkx(nx.Graph()), "nodes: got 0, expected"),
        (lambda: orient([[0, 3], [1, 3]]), "edge 1 from node 3 to itself"),
        (lambda: orient([[0], [3]], [0, 1, 2]), "each once"),
        (lambda: orient([[0, 1], [1, 2], [2, 3]]), r"expected integers \[2, n\]"),
        (lambda: orient([[0.0, 1.7], [1.2, 2.9]]), "integers"),
        (lambda: orient([[-1, 0], [1, 2]]), "edge_index: got node -1"),
    ],
    ids=[
        "order_of_directed",
        "short_order",
        "loop",
        "cycle",
        "empty",
        "loop_of_array",
        "unknown",
        "rows_of_pairs",
        "floats",
        "negative",
    ],
)
def test_what_cannot_be_converted_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        function()
