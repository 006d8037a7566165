"""GCN, GIN, GAT and MPNN against their formulas, written as plain loops over nodes in numpy."""

import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from golden import relative_error
from op_dag import random_edges
from random_parameters import randomised
from tolerances import AGREEMENT

from plstm_seq.graphs import line_graph
from plstm_seq.layers.dag import (
    GATConfig,
    GCNConfig,
    GINConfig,
    MPNNConfig,
    make_graph_mixer,
)
from plstm_seq.layers.dag.message_passing import Messages

N, D, J, H = 6, 4, 2, 2
EDGES = random_edges(N, 8)
GRAPH = line_graph(EDGES, N + 1)  # one node has no edge
X = np.random.default_rng(0).normal(size=(N + 1, D))
FEATURES = np.random.default_rng(1).normal(size=(EDGES.shape[1], J))


def make(config, edge_features=0):
    return randomised(
        lambda: make_graph_mixer(
            D,
            config,
            "P",
            "forward",
            edge_features=edge_features,
            dtype=None,
            param_dtype=jnp.float64,
            rngs=nnx.Rngs(0),
        )
    )


@fast_jit
def run(mixer, x, edges):
    return mixer(x, GRAPH, edges)


def heard(config, edges):
    """For every node, the neighbours it hears and the features of the edges between."""
    lists = [[] for _ in range(N + 1)]
    for e, (u, v) in enumerate(EDGES.T.tolist()):
        feature = None if edges is None else edges[e]
        if config.neighbours in ("both", "forward"):
            lists[v].append((u, feature))
        if config.neighbours in ("both", "reverse"):
            lists[u].append((v, feature))
    return lists


def linear(module, x):
    y = x @ np.asarray(module.kernel[...])
    return y if module.bias is None else y + np.asarray(module.bias[...])


def edge(mixer, feature):
    return 0 if feature is None else linear(mixer.of_edge, feature)


def relu(x):
    return np.maximum(x, 0)


def gcn(mixer, lists):
    hears = np.asarray([1 + len(near) for near in lists])
    tells = 1 + np.bincount([u for near in lists for u, _ in near], minlength=len(lists))
    h = linear(mixer.linear, X)
    return [
        h[v] / np.sqrt(hears[v] * tells[v])
        + sum((h[u] + edge(mixer, f)) / np.sqrt(hears[v] * tells[u]) for u, f in near)
        for v, near in enumerate(lists)
    ]


def gin(mixer, lists):
    eps = float(mixer.eps[...])
    sums = [
        (1 + eps) * X[v] + sum(X[u] if f is None else relu(X[u] + edge(mixer, f)) for u, f in near)
        for v, near in enumerate(lists)
    ]
    return linear(mixer.down, relu(linear(mixer.up, np.asarray(sums))))


def gat(mixer, lists):
    h = linear(mixer.linear, X)
    to, by = linear(mixer.of_receiver, h), linear(mixer.of_sender, h)
    rows = []
    for v, near in enumerate(lists):
        scores = np.asarray([to[v] + by[u] + edge(mixer, f) for u, f in [(v, None), *near]])
        weights = np.exp(np.where(scores > 0, scores, 0.2 * scores))
        weights = weights / weights.sum(0)
        values = h[[v, *(u for u, _ in near)]].reshape(-1, H, D // H)
        rows.append((weights[..., None] * values).sum(0).reshape(D))
    return linear(mixer.out, np.asarray(rows))


def mpnn(mixer, lists):
    to, by = linear(mixer.of_receiver, X), linear(mixer.of_sender, X)
    sums = [
        np.sum([relu(to[v] + by[u] + edge(mixer, f)) for u, f in near], axis=0)
        if near
        else np.zeros(to.shape[1])
        for v, near in enumerate(lists)
    ]
    return linear(mixer.out, np.concatenate([X, np.asarray(sums)], axis=1))


@pytest.mark.parametrize("features", [None, FEATURES], ids=["nodes", "nodes and edges"])
@pytest.mark.parametrize(
    ("config", "formula"),
    [
        (GCNConfig(), gcn),
        (GCNConfig(neighbours="forward"), gcn),
        (GINConfig(hidden_dim=3), gin),
        (GATConfig(num_heads=H), gat),
        (MPNNConfig(hidden_dim=3, neighbours="reverse"), mpnn),
    ],
    ids=["gcn", "gcn forward", "gin", "gat", "mpnn reverse"],
)
def test_is_its_formula(config, formula, features):
    mixer = make(config, 0 if features is None else J)
    expected = np.asarray(formula(mixer, heard(config, features)))
    assert relative_error(run(mixer, X, features), expected) < AGREEMENT["float64"]


def test_a_hub_hears_all_in_16_bits():
    leaves = 1000
    messages = Messages(jnp.arange(1, leaves + 1), jnp.zeros(leaves, int), None, leaves + 1)
    total = messages.summed(jnp.ones((leaves, 1), jnp.bfloat16))
    assert float(total[0, 0]) == leaves


@pytest.mark.parametrize(
    ("make_it", "error", "message"),
    [
        (lambda: GCNConfig(neighbours="all"), ValueError, "neighbours: got 'all', expected one of"),
        (lambda: GATConfig(num_heads=0), ValueError, "num_heads: got 0, expected at least 1"),
        (lambda: make(GATConfig(num_heads=3)), ValueError, "features: got 4, expected a multiple"),
        (lambda: make(nnx.Linear), TypeError, "mixer: got .*, expected one of PLSTMDAGConfig, GCN"),
        (lambda: make(GCNConfig(), J)(X, GRAPH), ValueError, r"edges: got None, expected \[E, 2\]"),
    ],
)
def test_what_does_not_fit_is_refused(make_it, error, message):
    with pytest.raises(error, match=message):
        make_it()
