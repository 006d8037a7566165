"""Graph models: padding and unions, pooling, dropout, and what is refused."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from golden import relative_error
from op_dag import random_edges
from random_parameters import randomised
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.graphs import line_graph, padded, sizes_of, union
from plstm_seq.layers.dag import GATConfig, GCNConfig, GINConfig, MPNNConfig, PLSTMDAGConfig
from plstm_seq.layers.transition import Diagonal
from plstm_seq.models import PostUpConfig, PreUpConfig
from plstm_seq.models.graph import GraphInputs, GraphModel, GraphModelConfig

PLSTM = PLSTMDAGConfig(num_heads=2, transition=Diagonal(dim=2), max_edges=2)
CONFIG = GraphModelConfig(
    width=8,
    num_blocks=3,
    directions=("forward", "reverse"),
    block=PostUpConfig(projection_round=8, projection_scaling=1.0),
    mixer=PLSTM,
)
EXACT = AGREEMENT["float64"]


def example(nodes, edges, seed):
    """A graph with three symbols and two features an edge."""
    draws = np.random.default_rng(seed)
    graph = line_graph(random_edges(nodes, edges, seed=seed), nodes, mode="PD")
    return GraphInputs(graph, draws.integers(0, 3, nodes), draws.normal(size=(edges, 2)))


EXAMPLES = [example(5, 7, 0), example(4, 3, 1)]
GRAPH = union([x.graph for x in EXAMPLES])
BOTH = GraphInputs(GRAPH, *(np.concatenate(x) for x in list(zip(*EXAMPLES, strict=True))[1:]))


def make(config=CONFIG, **options) -> GraphModel:
    named = {"vocab_size": 3, "edge_features": 2, "output_size": 4, "param_dtype": jnp.float64}
    named |= options
    return randomised(lambda: GraphModel(config=config, rngs=nnx.Rngs(0), **named))


@fast_jit
def run(model, inputs, key=None):
    return model(inputs, dropout_key=key)


def enlarged(inputs):
    """Padded to more than both graphs need, with nonsense in what is added."""
    have = sizes_of(GRAPH)
    size = have._replace(graphs=3, nodes=12, edges=14, lines=have.lines + 4, steps=have.steps + 2)
    nodes = np.pad(inputs.nodes, (0, size.nodes - len(inputs.nodes)), constant_values=2)
    more = size.edges - len(inputs.edges)
    edges = np.pad(inputs.edges, ((0, more), (0, 0)), constant_values=1e3)
    return GraphInputs(padded(inputs.graph, size), nodes, edges)


@pytest.mark.parametrize(
    ("mixer", "pooling", "blocks"),
    [
        (PLSTM, "mean", 2),
        (GCNConfig(), "max", 1),
        (GINConfig(), "sum", 1),
        (GATConfig(num_heads=2), "mean", 1),
        (MPNNConfig(), "node", 1),
    ],
    ids=["plstm", "gcn", "gin", "gat", "mpnn"],
)
def test_neither_neighbours_nor_padding_change_a_result(mixer, pooling, blocks):
    """Side by side, the same padded, and each graph alone; also the gradients of the parameters."""
    model = make(dataclasses.replace(CONFIG, mixer=mixer, pooling=pooling, num_blocks=blocks))
    definition, state = nnx.split(model)

    @fast_jit
    def with_gradients(state, inputs, cotangent):
        def loss(state):
            logits = nnx.merge(definition, state)(inputs)
            return jnp.vdot(logits, cotangent), logits

        return jax.grad(loss, has_aux=True)(state)

    def both(inputs, real):
        rows = inputs.graph.graph.size if pooling == "node" else inputs.graph.sizes.size
        cotangent = np.where(np.arange(rows)[:, None] < real, np.arange(1.0, 5), 0)
        gradient, logits = with_gradients(state, inputs, cotangent)
        return jax.tree.leaves(gradient), logits[:real]

    counts = [x.graph.graph.size if pooling == "node" else 1 for x in EXAMPLES]
    gradient, logits = both(BOTH, sum(counts))
    assert logits.shape == (sum(counts), 4)
    padded_gradient, padded_logits = both(enlarged(BOTH), sum(counts))
    alone = [both(enlarged(x), count) for x, count in zip(EXAMPLES, counts, strict=True)]
    assert relative_error(padded_logits, logits) < EXACT
    assert relative_error(np.concatenate([y for _, y in alone]), logits) < EXACT
    for whole, larger, *parts in zip(
        gradient, padded_gradient, *(g for g, _ in alone), strict=True
    ):
        assert relative_error(larger, whole) < GRADIENT_AGREEMENT["float64"]
        assert relative_error(sum(parts), whole) < GRADIENT_AGREEMENT["float64"]


def test_modes_and_directions_of_the_blocks():
    config = GraphModelConfig(num_blocks=5, mode="PD", directions=("forward", "reverse"))
    assert config.ways == (
        ("P", "forward"),
        ("D", "forward"),
        ("P", "reverse"),
        ("D", "reverse"),
        ("P", "forward"),
    )
    model = make(dataclasses.replace(CONFIG, num_blocks=2, mode="D"))
    assert [(block.mixer.mode, block.mixer.direction) for block in model.blocks] == [
        ("D", "forward"),
        ("D", "reverse"),
    ]


def test_features_in_a_pre_up_block_and_half_precision():
    block = PreUpConfig(projection_round=8)
    config = dataclasses.replace(CONFIG, block=block, num_blocks=1, logit_soft_cap=1.0)
    model = make(config, vocab_size=None, node_features=5, edge_features=0)
    inputs = GraphInputs(GRAPH, np.random.default_rng(0).normal(size=(9, 5)))
    logits = run(model, inputs)
    assert logits.dtype == jnp.float64
    assert np.all(np.abs(logits) < 1)
    low = nnx.eval_shape(lambda: GraphModel(3, output_size=2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    inputs = GraphInputs(GRAPH, np.zeros((9, 3), np.float32))
    assert nnx.eval_shape(lambda model: model(inputs), low).dtype == jnp.float32


def test_dropout_is_a_leaf_and_acts_with_a_key_alone():
    blocks = [dataclasses.replace(CONFIG.block, dropout=rate) for rate in (None, 0.0, 0.5)]
    config = dataclasses.replace(CONFIG, mixer=GCNConfig(), num_blocks=1)
    models = [make(dataclasses.replace(config, block=block)) for block in blocks]
    key = jax.random.key(0)
    plain, zero, half = models
    assert (plain.uses_dropout, half.uses_dropout) == (False, True)
    assert nnx.graphdef(zero) == nnx.graphdef(half) != nnx.graphdef(plain)
    expected = run(plain, BOTH)
    assert relative_error(run(half, BOTH), expected) < EXACT
    assert relative_error(run(zero, BOTH, key), expected) < EXACT
    assert relative_error(run(half, BOTH, key), expected) > 1e-2


@pytest.mark.parametrize(
    ("make_it", "error", "message"),
    [
        (lambda: GraphModelConfig(mode="PX"), ValueError, "mode: got 'PX', expected letters"),
        (lambda: GraphModelConfig(directions=()), ValueError, r"directions: got \(\), expected"),
        (lambda: GraphModelConfig(pooling="first"), ValueError, "pooling: got 'first', expected"),
        (
            lambda: GraphModelConfig(block=PostUpConfig(drop_path=0.1)),
            ValueError,
            "block.drop_path: got 0.1, expected None",
        ),
        (lambda: make(node_features=2), ValueError, "node_features, vocab_size: got 2 and 3"),
        (lambda: make()(BOTH._replace(nodes=BOTH.nodes * 1.0)), TypeError, "nodes: got float64"),
        (lambda: make()(BOTH._replace(nodes=BOTH.nodes[1:])), ValueError, r"nodes: got shape \(8,"),
        (lambda: make()(BOTH._replace(edges=None)), ValueError, r"edges: got None, expected \[E"),
        (
            lambda: make(edge_features=0)(BOTH),
            ValueError,
            r"edges: got shape \(10, 2\), expected \[10, 0\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make_it, error, message):
    with pytest.raises(error, match=message):
        make_it()


def test_needs_no_package_of_an_experiment():
    """Nor networkx, which builds graphs on the host."""
    code = (
        "import sys; import plstm_seq.models.graph; "
        "print([m for m in ('pydantic', 'polars', 'networkx', 'beartype') if m in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"
