"""The pLSTM layer over graphs: against the 1D layer, its modes, directions, places and edges."""

import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from golden import relative_error
from op_dag import path_edges, random_edges
from random_parameters import randomised
from tolerances import AGREEMENT

from plstm_seq.graphs import line_graph, reverse
from plstm_seq.layers import GateConfig, PLSTM1DConfig, PLSTM1DLayer
from plstm_seq.layers.dag import PLSTMDAGConfig, PLSTMDAGLayer
from plstm_seq.layers.dag.gates import shared_out
from plstm_seq.layers.transition import Diagonal, Orthogonal

EXACT = AGREEMENT["float64"]
GATE = GateConfig(weight=True, activation="identity")
WIDTH, NODES = 8, 7
EDGES = random_edges(NODES, 14, seed=2)
GRAPH = line_graph(EDGES, NODES, mode="PD")
X = np.random.default_rng(0).normal(size=(NODES, WIDTH))
FEATURES = np.random.default_rng(1).normal(size=(EDGES.shape[1], 2))


def make(config=None, *, seed=0, **options) -> PLSTMDAGLayer:
    config = PLSTMDAGConfig(**{"num_heads": 2, **(config or {})})
    options = {"param_dtype": jnp.float64, **options}
    return randomised(lambda: PLSTMDAGLayer(WIDTH, config, **options, rngs=nnx.Rngs(0)), seed)


@fast_jit
def run(layer, x, graph, edges=None):
    return layer(x, graph, edges)


def test_on_a_path_it_is_the_1d_layer():
    """The state of the edge from t to t + 1 is that of the sequence after step t."""
    transition, length = Orthogonal(dim=2), 6
    sizes = {"num_heads": 2, "DK": 3, "DV": 2}
    ours = make(
        {**sizes, "source": GATE, "mark": GATE, "direct": GATE}
        | {"transition": transition, "outprojection_bias": False},
        mode="D",
    )
    config = PLSTM1DConfig(
        **sizes,
        source=GATE,
        mark=GATE,
        direct=GATE,
        transition=transition,
        sub_heads=1,
        convolution=None,
        passthrough=False,
        implementation="recurrent",
    )
    theirs = nnx.eval_shape(
        lambda: PLSTM1DLayer(WIDTH, config, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    )
    values = {
        ".".join(part for part in map(str, path) if part != "nodes"): variable
        for path, variable in nnx.to_flat_state(nnx.state(ours, nnx.Param))
    }
    filled = [
        (path, variable.replace(values[".".join(map(str, path))][...].reshape(variable.shape)))
        for path, variable in nnx.to_flat_state(nnx.state(theirs, nnx.Param))
    ]
    assert len(filled) == len(values)
    nnx.update(theirs, nnx.from_flat_state(filled))
    x = np.random.default_rng(0).normal(size=(length, WIDTH))
    graph = line_graph(path_edges(length), length, mode="D")
    expected = fast_jit(lambda layer, x: layer(x[None])[0])(theirs, x)
    assert relative_error(run(ours, x, graph), expected) < EXACT


def test_what_leaves_an_edge_is_less_than_one():
    draws = np.random.default_rng(0)
    numbers = draws.normal(size=(9, 2)) * 100
    edge = np.asarray([0, 0, 1, 1, 1, 2, 0, 4, 4])
    shares = np.asarray(shared_out(jnp.asarray(numbers), jnp.asarray(edge), 4, 0.5))
    for e in range(4):
        mine = edge == e
        total = np.abs(numbers[mine]).sum(0)
        np.testing.assert_allclose(shares[mine], numbers[mine] / (0.5 + total), rtol=1e-12)
        assert np.all(np.abs(shares[mine]).sum(0) < 1)


@pytest.mark.parametrize("mode", ["P", "D"])
def test_backwards_is_forwards_on_the_reversed_graph(mode):
    """Edge features and places included; the reversed graph is also built on the host."""
    options = {"max_edges": 2, "transition": Diagonal(dim=2), "mark_reads": "after"}
    back = make(options, mode=mode, direction="reverse", edge_features=2)
    forth = make(options, mode=mode, edge_features=2)
    expected = run(forth, X, reverse(GRAPH), FEATURES)
    assert relative_error(run(back, X, GRAPH, FEATURES), expected) < EXACT


def test_d_mode_goes_along_the_multitree_alone():
    layer = make(mode="D")
    pruned = line_graph(EDGES, NODES, mode="D")
    assert pruned.before.size < GRAPH.before.size
    assert relative_error(run(layer, X, GRAPH), run(layer, X, pruned)) < EXACT
    assert relative_error(run(make(mode="P"), X, GRAPH), run(layer, X, GRAPH)) > 1e-3
    with pytest.raises(ValueError, match=r"multitree: got None, expected .* mode 'D' or 'PD'"):
        layer(X, line_graph(EDGES, NODES))


@pytest.mark.parametrize(("max_edges", "equal"), [(1, True), (3, False)])
def test_places_tell_edges_apart(max_edges, equal):
    order = np.random.default_rng(0).permutation(EDGES.shape[1])
    other = line_graph(EDGES[:, order], NODES)
    layer = make({"max_edges": max_edges})
    same = relative_error(run(layer, X, other), run(layer, X, GRAPH._replace(multitree=None)))
    assert (same < EXACT) == equal
    assert equal or same > 1e-3


def test_edges_beyond_the_places_share_the_last():
    layer, graph = make({"max_edges": 2}), GRAPH._replace(multitree=None)
    assert graph.in_slot.max() > 1
    cut = {name: np.minimum(getattr(graph, name), 1) for name in ("in_slot", "out_slot")}
    assert relative_error(run(layer, X, graph), run(layer, X, graph._replace(**cut))) < EXACT


def test_features_of_an_edge_reach_what_lies_behind_it():
    layer = make({"transition": Diagonal(dim=2)}, edge_features=2)
    tail, head = EDGES[:, 7].tolist()
    changed = FEATURES.copy()
    changed[7] += 1
    moved = np.abs(run(layer, X, GRAPH, changed) - run(layer, X, GRAPH, FEATURES)).max(1) > 1e-9
    # Through what the edges before it share out, the other edges of its tail as well.
    behind = nx.descendants(nx.DiGraph(EDGES.T.tolist()), tail)
    assert head in np.flatnonzero(moved)
    assert 1 < moved.sum() < NODES
    assert set(np.flatnonzero(moved).tolist()) <= behind


def test_reading_after_the_identity_is_reading_before():
    options = {"transition": Orthogonal(dim=2)}
    before, after = make(options), make({**options, "mark_reads": "after"})
    reading = after.reading.nodes
    for name in ("generator_bias", "generator_weight"):
        setattr(reading, name, nnx.Param(jnp.zeros_like(getattr(reading, name)[...])))
    values = dict(nnx.to_flat_state(nnx.state(after, nnx.Param)))
    same = [(p, values[p]) for p, _ in nnx.to_flat_state(nnx.state(before, nnx.Param))]
    nnx.update(before, nnx.from_flat_state(same))
    assert relative_error(run(after, X, GRAPH), run(before, X, GRAPH)) < EXACT
    reading.generator_bias = nnx.Param(reading.generator_bias[...] + 1)
    assert relative_error(run(after, X, GRAPH), run(before, X, GRAPH)) > 1e-3


@pytest.mark.parametrize(
    "config",
    [
        {"transition": Orthogonal(dim=1, determinant="fixed"), "max_edges": 2},
        {"transition": Orthogonal(dim=2, weight=False), "max_edges": 2},
        {"tie_query_key": True, "direct": None, "norm": None, "outprojection": False},
    ],
    ids=["constant", "biases", "bare"],
)
def test_low_precision_and_fewer_parts(config):
    layer = make(config)
    output = run(layer, X.astype(jnp.bfloat16), GRAPH)
    assert output.dtype == jnp.float64
    assert output.shape == (NODES, WIDTH)
    config = PLSTMDAGConfig(num_heads=2, **config)
    low = nnx.eval_shape(lambda: PLSTMDAGLayer(WIDTH, config, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    assert nnx.eval_shape(lambda layer: layer(X, GRAPH), low).dtype == jnp.bfloat16


@pytest.mark.parametrize("edges", [np.zeros((2, 0), int), np.asarray([[0, 1], [2, 2]])])
def test_graphs_without_edges_or_lines(edges):
    graph = line_graph(edges, 3, mode="PD")
    for mode in ("P", "D"):
        assert np.isfinite(run(make(mode=mode), X[:3], graph)).all()


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: PLSTMDAGConfig(share_offset=0.0), "share_offset: got 0.0, expected above 0"),
        (lambda: PLSTMDAGConfig(published="both"), "published: got 'both', expected one of"),
        (lambda: PLSTMDAGConfig(mark_reads="after"), "mark_reads: got 'after', expected 'before'"),
        (lambda: PLSTMDAGConfig(max_edges=0), "max_edges: got 0, expected at least 1"),
        (lambda: PLSTMDAGConfig(tie_query_key=True, JQ=2), "tie_query_key: got JQ = 2"),
        (lambda: make(mode="M"), "mode: got 'M', expected one of"),
        (lambda: make(direction="up"), "direction: got 'up', expected one of"),
        (lambda: make({"published": "node"}, edge_features=2), "edge_features: got 2, expected 0"),
        (lambda: make({"outprojection": False}, output_dim=3), r"H \* DV \* JO = 8 without"),
        (lambda: make(edge_features=2)(X, GRAPH), r"edges: got None, expected \[E, 2\]"),
        (lambda: make()(X, GRAPH, FEATURES), r"edges: got shape \(14, 2\), expected \[14, 0\]"),
        (lambda: make()(X[:, :3], GRAPH), r"x: got shape \(7, 3\), expected \[N, 8\]"),
    ],
)
def test_what_does_not_fit_is_refused(make_it, message):
    with pytest.raises(ValueError, match=message):
        make_it()
