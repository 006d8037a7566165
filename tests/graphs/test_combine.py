"""Unions and padding of index arrays; that results stay the same is tested with the op."""

import jax
import numpy as np
import pytest
from op_dag import random_edges

from plstm_seq.graphs import Sizes, bucket, line_graph, padded, reverse, sizes_of, union

GRAPHS = [line_graph(random_edges(n, 2 * n, seed=n), n) for n in (6, 9)]


def test_a_union_is_the_graph_of_all_edges():
    edges = np.concatenate([random_edges(6, 12, seed=6), random_edges(9, 18, seed=9) + 6], axis=1)
    both, direct = union(GRAPHS), line_graph(edges, 15)
    assert both.graph.tolist() == [0] * 6 + [1] * 9
    assert both.sizes.tolist() == [6, 9]
    for name in set(both._fields) - {"graph", "sizes"}:
        assert np.array_equal(getattr(both, name), getattr(direct, name)), name
    again = union([both, GRAPHS[0]])
    assert again.sizes.tolist() == [6, 9, 6]
    assert again.graph.max() == 2


def test_padding_points_behind_the_last():
    graph = GRAPHS[0]
    N, E, P = graph.graph.size, graph.tail.size, graph.before.size
    larger = padded(graph, Sizes(2, N + 1, E + 2, P + 3, 99, 4))
    assert sizes_of(larger) == (2, N + 1, E + 2, P + 3, 99, 4)
    assert larger.tail[E:].tolist() == larger.head[E:].tolist() == [N + 1] * 2
    assert larger.before[P:].tolist() == [E + 2] * 3
    assert larger.graph[N:].tolist() == [2]
    assert larger.sizes.tolist() == [N, 0]
    assert sorted(larger.blocks[larger.blocks < P + 3].tolist()) == list(range(P))
    same = padded(graph, sizes_of(graph))
    for ours, theirs in zip(*map(jax.tree.leaves, (same, graph)), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100, 4097])
def test_a_bucket_is_less_than_a_quarter_larger(size):
    sizes = bucket(Sizes(size, size, size, size, size, 16))
    assert size <= sizes.nodes <= 1.25 * size
    assert bucket(sizes) == sizes
    assert sizes.width == 16


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: union([]), "expected at least one"),
        (lambda: union([GRAPHS[0], larger()]), "the union to be padded"),
        (
            lambda: union([GRAPHS[0], line_graph([[0], [1]], 2, mode="D")]),
            "all to be built in one mode",
        ),
        (lambda: reverse(larger()), "before padding"),
        (lambda: padded(larger(), sizes_of(larger())), "expected one without padding"),
        (lambda: padded(GRAPHS[1], sizes_of(GRAPHS[0])), "sizes: got nodes = 6 for 9, edges"),
    ],
    ids=["none", "padded", "modes", "reversed", "twice", "small"],
)
def test_what_cannot_be_combined_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        function()


def larger():
    sizes = sizes_of(GRAPHS[0])
    return padded(GRAPHS[0], sizes._replace(nodes=sizes.nodes + 1))
