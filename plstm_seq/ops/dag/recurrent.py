"""The DAG recurrence, one line-graph edge after another: what the other form is held against."""

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops import varying
from plstm_seq.ops.choice import Implementation
from plstm_seq.ops.dag.ends import at, read, write
from plstm_seq.ops.dag.inputs import Indices, Inputs
from plstm_seq.ops.products import einsum


def recurrent(
    inputs: Inputs, state: None, *, graph: Indices, dtype: jnp.dtype
) -> tuple[Array, None]:
    """Scans over the line-graph edges in the order of the blocks; differentiable in every mode.

    Every state begins with what its edge's tail writes; a line-graph edge adds to the state of the
    edge it leads to. In a topological order no state is read before it is complete.

    Args:
        inputs: [*B, N, E or P, ...].
        state: None; the op returns no states.
        graph: index arrays; `blocks` may be any topological order of the line-graph edges.
        dtype: of accumulation.

    Returns:
        The output [*B, N, DV, JO], in that type, and None.
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
