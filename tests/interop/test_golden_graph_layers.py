"""The published graph layers' arrays: outputs and all gradients, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from golden import golden_files, load, record, relative_error
from tolerances import GRADIENT_AGREEMENT

from plstm_seq.graphs import Sizes, line_graph, padded
from plstm_seq.interop.published import load_parameters, read_config

FILES = golden_files("graphlayer_")

# Every file's graph is padded to these, so that few programs serve all.
SIZES = Sizes(graphs=1, nodes=16, edges=24, lines=34, steps=16, width=8)


def published_graph(path, mode):
    """Our line graph of the published directed edges, and where each edge was in the input."""
    with np.load(path) as arrays:
        edges = arrays["graph__dag_edges"]
        graph = line_graph(edges.T, int(arrays["graph__num_nodes"]), mode=mode)
        return padded(graph, SIZES), arrays["graph__dag_edge_orig_idx"]


def rows(array, count):
    """In float64, with rows of zeros up to `count`."""
    filled = np.zeros((count, *array.shape[1:]))
    filled[: len(array)] = array
    return filled


@functools.partial(fast_jit, static_argnums=0)
def run(definition, parameters, graph, x, edges, cotangent):
    """The output, and the gradients of parameters, nodes and edges."""

    def function(parameters, x, edges):
        return nnx.merge(definition, parameters)(x, graph, edges)

    y, pull_back = jax.vjp(function, parameters, x, edges)
    return y, *pull_back(cotangent)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_agrees_with_the_published_layer(path):
    golden = load(path)
    graph, order = published_graph(path, golden.meta["mode"])
    arguments = read_config(golden.meta["config"])
    layer = nnx.eval_shape(lambda: arguments.build(param_dtype=jnp.float64, rngs=nnx.Rngs(0)))
    load_parameters(layer, golden.params)
    definition, parameters = nnx.split(layer)
    edges = golden.inputs.get("edge_features")
    y, of_parameters, of_x, of_edges = run(
        definition,
        parameters,
        graph,
        rows(golden.inputs["x"], SIZES.nodes),
        None if edges is None else rows(edges[order], SIZES.edges),
        rows(golden.cotangents["y"], SIZES.nodes),
    )
    N = len(golden.inputs["x"])
    errors = {"y": relative_error(y[:N], golden.outputs64["y"])}
    errors["gradient of x"] = relative_error(of_x[:N], golden.grads64["x"])
    if edges is not None:
        expected = golden.grads64["edge_features"][order]
        errors["gradient of edges"] = relative_error(of_edges[: len(order)], expected)
    # The published gradients of parameters, laid out as ours.
    theirs = nnx.merge(definition, jax.tree.map(jnp.zeros_like, parameters))
    load_parameters(theirs, golden.param_grads64)
    ours = nnx.to_flat_state(nnx.state(of_parameters, nnx.Param))
    expected = nnx.to_flat_state(nnx.state(theirs, nnx.Param))
    for (place, gradient), (_, array) in zip(ours, expected, strict=True):
        name = ".".join(map(str, place))
        errors[f"gradient of parameter {name}"] = relative_error(gradient[...], array[...])
    record(golden.name, "published graph options", errors)
    tolerance = GRADIENT_AGREEMENT["float64"]
    assert {name: error for name, error in errors.items() if not error < tolerance} == {}


def test_unknown_fields_are_refused():
    (path,) = golden_files("graphlayer_node_rand2_P")
    config = load(path).meta["config"]
    with pytest.raises(ValueError, match="mystery = 1"):
        read_config(config | {"mystery": 1})
