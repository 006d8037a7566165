"""The DAG op one level of the line graph after another, with its own derivative (README.md).

States of edges are rows, in memory once. A step moves one block of line-graph edges; blocks are
made on the host so that the edges a block comes from are complete.
"""

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops import varying
from plstm_seq.ops.dag.ends import at, at_nodes
from plstm_seq.ops.dag.inputs import Indices, Inputs
from plstm_seq.ops.products import einsum, small_matmul


def levelwise(inputs: Inputs, graph: Indices, scale: float | Array, *, dtype: jnp.dtype) -> Array:
    """Output [*B, N, DV, JO], in the type of accumulation.

    Args:
        inputs: [*B, N, E or P, ...].
        graph: index arrays.
        scale: factor of the output.
        dtype: of accumulation.
    """
    batch = inputs.query.ndim - 3
    rows = inputs.leading(dtype)
    states = _write(rows, graph)
    if graph.before.size:
        transition = at(rows.transition, graph.blocks)
        before, after = (
            index.at[graph.blocks].get(mode="fill", fill_value=states.shape[0])
            for index in (graph.before, graph.after)
        )
        states = propagate(*varying.alike((states, transition, before, after)))
    return scale * jnp.moveaxis(_read(rows, graph, states), 0, batch)


@jax.custom_vjp
def propagate(states: Array, transition: Array, before: Array, after: Array) -> Array:
    """Adds to every state what reaches its edge through the line graph.

    Args:
        states: what the edges' tails write, [E, *B, JT, D].
        transition: [steps, width, *B, JT, JT].
        before: [steps, width], rows of states; E where a place of a block is empty.
        after: likewise.

    Returns:
        The states [E, *B, JT, D].
    """

    def step(states: Array, block: tuple[Array, Array, Array]) -> tuple[Array, None]:
        transition, before, after = block
        return _add(states, after, small_matmul(transition, _rows(states, before))), None

    states, _ = jax.lax.scan(step, _with_spare(states), (transition, before, after))
    return states[:-1]


def _forward(states: Array, transition: Array, before: Array, after: Array) -> tuple:
    states = propagate(states, transition, before, after)
    return states, (states, transition, before, after)


def _backward(residuals: tuple, cotangent: Array) -> tuple[Array, Array, None, None]:
    states, transition, before, after = residuals
    states = _with_spare(states)

    def step(cotangents: Array, block: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        transition, before, after = block
        arriving, left = _rows(cotangents, after), _rows(states, before)
        # Not as products and a sum, as in `small_matmul`: many terms, few results.
        of_transition = einsum("...id,...jd->...ij", arriving, left)
        return _add(cotangents, before, small_matmul(transition.mT, arriving)), of_transition

    cotangents, of_transition = jax.lax.scan(
        step, _with_spare(cotangent), (transition, before, after), reverse=True
    )
    return cotangents[:-1], of_transition, None, None


propagate.defvjp(_forward, _backward)


def _with_spare(states: Array) -> Array:
    """One row of zeros behind the last, which the empty places of blocks read and write."""
    return jnp.concatenate([states, jnp.zeros_like(states, shape=(1, *states.shape[1:]))])


def _rows(states: Array, index: Array) -> Array:
    return states.at[index].get(mode="promise_in_bounds")


def _add(states: Array, index: Array, rows: Array) -> Array:
    return states.at[index].add(rows, mode="promise_in_bounds")


def _write(rows: Inputs, graph: Indices) -> Array:
    """`source . key . value` of every edge's tail, [E, *B, JT, DK * DV]."""
    key, value = (at(x, graph.tail) for x in (rows.key, rows.value))
    written = einsum("...iaw,...ka,...vw->...ikv", rows.source, key, value)
    *lead, DK, DV = written.shape
    return written.reshape(*lead, DK * DV)


def _read(rows: Inputs, graph: Indices, states: Array) -> Array:
    """As `ends.read`, from [E, *B, JT, DK * DV]."""
    query = at(rows.query, graph.head)
    states = states.reshape(*states.shape[:-1], rows.query.shape[-2], rows.value.shape[-2])
    reads = einsum("...oqi,...kq,...ikv->...vo", rows.mark, query, states)
    return at_nodes(rows, graph, reads)
