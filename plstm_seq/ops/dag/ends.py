"""What nodes write into the states of the edges they leave, and read from those that enter them.

Rows are nodes or edges, [n, *B, ...]; a row past the last node reads zero and is written nowhere.
"""

import jax
from jax import Array

from plstm_seq.ops.dag.inputs import Indices, Inputs
from plstm_seq.ops.products import direct_term, einsum


def write(inputs: Inputs, graph: Indices) -> Array:
    """`source . key . value` of every edge's tail, [E, *B, DK, DV, JT]."""
    key, value = (at(x, graph.tail) for x in (inputs.key, inputs.value))
    return einsum("...iaw,...ka,...vw->...kvi", inputs.source, key, value)


def read(inputs: Inputs, graph: Indices, states: Array) -> Array:
    """The output before scaling: `mark . query . state` over entering edges, and the direct term.

    Args:
        inputs: rows.
        graph: index arrays.
        states: [E, *B, DK, DV, JT].

    Returns:
        [N, *B, DV, JO].
    """
    query = at(inputs.query, graph.head)
    reads = einsum("...oqi,...kq,...kvi->...vo", inputs.mark, query, states)
    return at_nodes(inputs, graph, reads)


def at_nodes(inputs: Inputs, graph: Indices, reads: Array) -> Array:
    """Sums what entering edges [E, *B, DV, JO] bring to each node, and adds the direct term."""
    output = jax.ops.segment_sum(reads, graph.head, inputs.query.shape[0], mode="drop")
    if inputs.direct is None:
        return output
    return output + direct_term(inputs.query, inputs.key, inputs.value, inputs.direct)


def at(rows: Array, index: Array) -> Array:
    """The rows of an index; zero behind the last."""
    return rows.at[index].get(mode="fill", fill_value=0)
