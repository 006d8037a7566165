"""What the DAG op says about arguments that do not fit."""

import jax.numpy as jnp
import numpy as np
import pytest
from op_dag import NAMES, build, make

from plstm_seq.graphs import padded, sizes_of
from plstm_seq.ops import plstm_dag

GRAPH = build("wide")
INPUTS = make(GRAPH)
names = pytest.mark.parametrize("implementation", NAMES)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"source": None},
            TypeError,
            r"source: got None, expected an array \[\*B, E, JT, JK, JV\]",
        ),
        ({"mark": INPUTS.mark[:, :-1]}, ValueError, r"mark: got shape .* E = 26 from source"),
        ({"query": jnp.zeros((2, 12, 3, 1), int)}, TypeError, "query: got int64"),
        ({"key": INPUTS.key[:, :0]}, ValueError, r"key: got shape .* N = 12 from query"),
    ],
    ids=["missing", "edges", "integers", "nodes"],
)
def test_arrays_that_do_not_fit(change, error, message):
    with pytest.raises(error, match=message):
        plstm_dag(*INPUTS._replace(**change), graph=GRAPH)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tail": GRAPH.tail[:-1]}, ValueError, r"graph.tail: got shape \(25,\), expected E = 26"),
        (
            {"before": GRAPH.before * 1.0},
            TypeError,
            "graph.before: got float64, expected .* integers",
        ),
        (
            {"blocks": GRAPH.after},
            ValueError,
            r"graph.blocks: got shape .*, expected \[steps, width\]",
        ),
        ({"head": None}, TypeError, "graph.head: got NoneType, expected an array"),
    ],
    ids=["edges", "floats", "flat_blocks", "missing"],
)
def test_graphs_that_do_not_fit(change, error, message):
    with pytest.raises(error, match=message):
        plstm_dag(*INPUTS, graph=GRAPH._replace(**change))


def test_an_unknown_implementation():
    with pytest.raises(ValueError, match="implementation: got 'eager', expected one of"):
        plstm_dag(*INPUTS, graph=GRAPH, implementation="eager")


def test_an_empty_axis_of_a_gate_is_refused():
    inputs = INPUTS._replace(source=jnp.zeros((2, 26, 1, 0, 1)))
    with pytest.raises(ValueError, match="JK = 1 from key"):
        plstm_dag(*inputs, graph=GRAPH)


@names
@pytest.mark.parametrize("lines", [0, 3], ids=["no_lines", "padded_lines"])
def test_a_graph_without_edges_has_the_direct_term_alone(lines, implementation):
    size = sizes_of(build("no_edges"))
    graph = padded(build("no_edges"), size._replace(lines=lines, steps=lines))
    inputs = make(graph)
    scores = np.einsum("...kq,...ka->...", inputs.query, inputs.key)[..., None, None]
    expected = scores * inputs.direct[..., 0, 0] * inputs.value
    output = plstm_dag(*inputs, graph=graph, scale=1.0, implementation=implementation)
    assert np.allclose(output, expected, rtol=1e-12)
