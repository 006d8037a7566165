"""Pruning to a multitree: the published results, the property itself, and speed."""

import time

import networkx as nx
import numpy as np
import pytest
from golden import golden_files, load
from op_dag import random_edges

from plstm_seq.graphs import line_graph, multitree


@pytest.mark.parametrize("path", golden_files("prune_"), ids=lambda path: path.stem)
def test_keeps_the_published_edges(path):
    golden = load(path)
    edges = golden.inputs["edges"]
    with np.load(path) as arrays:
        kept = multitree(*edges.T, int(arrays["graph__num_nodes"]))
        published = arrays["out__edges"]
    assert sorted(edges[kept].tolist()) == sorted(published.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_leaves_one_path_at_most_and_no_edge_can_be_added(seed):
    edges = random_edges(12, 30, seed=seed)
    kept = multitree(*edges, 12)
    tree = nx.DiGraph(edges[:, kept].T.tolist())
    tree.add_nodes_from(range(12))
    assert most_paths(tree) == 1
    for tail, head in edges[:, ~kept].T.tolist():
        more = tree.copy()
        more.add_edge(tail, head)
        assert most_paths(more) > 1


def most_paths(graph):
    """Between any two nodes: powers of the adjacency matrix, summed."""
    adjacency = nx.to_numpy_array(graph)
    return np.linalg.inv(np.eye(len(adjacency)) - adjacency).round().max()


def test_a_cycle_is_refused():
    with pytest.raises(ValueError, match="got a cycle, expected an acyclic graph"):
        multitree(np.asarray([0, 1]), np.asarray([1, 0]), 2)


def test_a_graph_of_ten_thousand_edges_takes_seconds():
    edges = random_edges(4_000, 10_000)
    before = time.process_time()
    graph = line_graph(edges, 4_000, mode="D")
    assert time.process_time() - before < 5
    assert 0 < graph.before.size < line_graph(edges, 4_000).before.size
