"""The DAG recurrence, one line-graph edge after another; the other form is compared with it.

`write` computes what nodes write into the states of their outgoing edges, and `read` computes what
they read from the states of their incoming edges.
"""

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops import varying
from plstm_seq.ops.choice import Implementation
from plstm_seq.ops.dag.inputs import Indices, Inputs
from plstm_seq.ops.products import direct_term, einsum


def recurrent(
    inputs: Inputs, state: None, *, graph: Indices, dtype: jnp.dtype
) -> tuple[Array, None]:
    """Scans over the line-graph edges in the order of the blocks; differentiable in every mode.

    Every state begins with what its edge's tail writes. A line-graph edge adds to the state of the
    edge that it leads to. In a topological order no state is read before it is complete.

    Args:
        inputs: [*B, N, E or P, ...].
        state: None; the op returns no states.
        graph: the index arrays; `blocks` may be any topological order of the line-graph edges.
        dtype: the type of accumulation.

    Returns:
        The output [*B, N, DV, JO], in the type of accumulation, and None.
    """
    del state
    batch = inputs.query.ndim - 3
    rows = inputs.leading(dtype)

    def step(states: Array, line: tuple[Array, Array, Array]) -> tuple[Array, None]:
        transition, before, after = line
        moved = einsum("...ij,...kvj->...kvi", transition, at(states, before))
        return states.at[after].add(moved, mode="drop"), None

    states = write(rows, graph)
    if graph.before.size and graph.tail.size:
        order = graph.blocks.reshape(-1)
        before, after = (
            index.at[order].get(mode="fill", fill_value=graph.tail.size)
            for index in (graph.before, graph.after)
        )
        states, lines = varying.alike((states, (at(rows.transition, order), before, after)))
        states, _ = jax.lax.scan(step, states, lines)
    return jnp.moveaxis(read(rows, graph, states), 0, batch), None


RECURRENT = Implementation("recurrent", recurrent, forward_mode=True)


def write(inputs: Inputs, graph: Indices) -> Array:
    """Returns `source . key . value` of every edge's tail, [E, *B, DK, DV, JT]."""
    key, value = (at(x, graph.tail) for x in (inputs.key, inputs.value))
    return einsum("...iaw,...ka,...vw->...kvi", inputs.source, key, value)


def read(inputs: Inputs, graph: Indices, states: Array) -> Array:
    """Returns the output before scaling: `mark . query . state` of entering edges plus direct term.

    Args:
        inputs: the arrays as rows, [N, E or P, *B, ...].
        graph: the index arrays.
        states: the states of the edges, [E, *B, DK, DV, JT].

    Returns:
        [N, *B, DV, JO].
    """
    query = at(inputs.query, graph.head)
    reads = einsum("...oqi,...kq,...kvi->...vo", inputs.mark, query, states)
    return at_nodes(inputs, graph, reads)


def at_nodes(inputs: Inputs, graph: Indices, reads: Array) -> Array:
    """Sums `reads` [E, *B, DV, JO] over the edges that enter each node; adds the direct term."""
    output = jax.ops.segment_sum(reads, graph.head, inputs.query.shape[0], mode="drop")
    if inputs.direct is None:
        return output
    return output + direct_term(inputs.query, inputs.key, inputs.value, inputs.direct)


def at(rows: Array, index: Array) -> Array:
    """Returns the rows at an index; an index past the end gives zeros."""
    return rows.at[index].get(mode="fill", fill_value=0)
