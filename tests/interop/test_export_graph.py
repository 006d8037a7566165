"""Programs of graph models: run without us on graphs padded to their sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from op_dag import random_edges
from processes import run_script
from random_parameters import randomised

from plstm_seq.graphs import line_graph, sizes_of, union
from plstm_seq.interop.export import save_program
from plstm_seq.interop.export_graph import export_graph_program, graph_arrays
from plstm_seq.layers.dag import PLSTMDAGConfig
from plstm_seq.layers.transition import Diagonal
from plstm_seq.models import GraphInputs, GraphModel, GraphModelConfig, PostUpConfig

# The process imports no library of ours, nor flax.
RUN = """
import pathlib, sys
import jax, jax.export, numpy as np
program = jax.export.deserialize(bytearray(pathlib.Path({path!r}).read_bytes()))
with np.load({inputs!r}) as arrays:
    np.save({outputs!r}, program.call(dict(arrays)))
assert not any(name.split(".")[0] in ("plstm_seq", "flax") for name in sys.modules)
"""
PLSTM = PLSTMDAGConfig(num_heads=2, transition=Diagonal(dim=2), max_edges=2)
CONFIG = GraphModelConfig(
    width=8,
    num_blocks=2,
    block=PostUpConfig(projection_round=8, projection_scaling=1.0),
    mixer=PLSTM,
)


def example(nodes, edges, seed, mode="PD"):
    draws = np.random.default_rng(seed)
    graph = line_graph(random_edges(nodes, edges, seed=seed), nodes, mode=mode)
    return GraphInputs(graph, draws.normal(size=(nodes, 3)), draws.normal(size=(edges, 2)))


EXAMPLES = [example(5, 7, 0), example(4, 3, 1)]
BOTH = GraphInputs(
    union([x.graph for x in EXAMPLES]),
    *(np.concatenate(x) for x in list(zip(*EXAMPLES, strict=True))[1:]),
)
SIZES = sizes_of(BOTH.graph)._replace(graphs=3, nodes=12, edges=14, lines=30, steps=20)


def make(**options) -> GraphModel:
    named = {"node_features": 3, "edge_features": 2, "config": CONFIG, "output_size": 2} | options
    return randomised(lambda: GraphModel(rngs=nnx.Rngs(0), **named))


def test_a_fresh_process_runs_padded_graphs(tmp_path):
    model = make()
    program = export_graph_program(model, SIZES, factor=[2.0, 0.5], offset=[0.0, 3.0])
    path, inputs, outputs = (str(tmp_path / name) for name in ("model.bin", "in.npz", "out.npy"))
    save_program(program, path)
    arrays = graph_arrays(program, BOTH)
    assert arrays["nodes"].shape == (12, 3)
    np.savez(inputs, **arrays)
    run_script(RUN.format(path=path, inputs=inputs, outputs=outputs))
    given = jax.tree.map(lambda x: jnp.asarray(x, jnp.int32), BOTH.graph)
    features = (jnp.asarray(x, jnp.float32) for x in BOTH[1:])
    expected = fast_jit(lambda x: model(x))(GraphInputs(given, *features))
    found = np.load(outputs)
    assert found.shape == (3, 2)
    np.testing.assert_allclose(
        found[:2], np.asarray(expected) * [2, 0.5] + [0, 3], rtol=1e-4, atol=1e-5
    )


@pytest.fixture(scope="module")
def program():
    return export_graph_program(make(), SIZES)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (BOTH._replace(edges=None), ValueError, r"edges: got None, expected \(14, 2\)"),
        (BOTH._replace(nodes=BOTH.nodes[:8]), ValueError, "nodes: got 8 rows, expected 9"),
        (BOTH._replace(nodes=BOTH.nodes[:, :2]), ValueError, r"nodes: got \(12, 2\)"),
        (BOTH._replace(nodes=BOTH.nodes + 1j), TypeError, "complex128"),
        (example(5, 7, 0, mode="P"), ValueError, "multitree: got None"),
        (example(14, 15, 0), ValueError, "sizes: got nodes = 12 for 14"),
    ],
    ids=lambda value: "" if isinstance(value, GraphInputs) else None,
)
def test_graphs_that_do_not_fit_are_refused(inputs, error, message, program):
    with pytest.raises(error, match=message):
        graph_arrays(program, inputs)


def test_symbols_at_nodes_in_p_mode_need_neither_features_nor_a_multitree():
    config = GraphModelConfig(width=8, num_blocks=1, mode="P", mixer=PLSTM, pooling="node")
    model = make(node_features=None, vocab_size=3, edge_features=0, config=config)
    program = export_graph_program(model, SIZES)
    inputs = GraphInputs(example(5, 7, 0, mode="P").graph, np.arange(5) % 3)
    arrays = graph_arrays(program, inputs)
    assert not {"edges", "multitree"} & set(arrays)
    assert program.out_avals[0].shape == (12, 2)
    with pytest.raises(TypeError, match="float64"):
        graph_arrays(program, inputs._replace(nodes=np.ones(5)))
