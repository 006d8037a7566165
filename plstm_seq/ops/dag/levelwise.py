"""The DAG op, one level of the line graph after another, with its own derivative (README.md).

The states of edges are rows of an array that is in memory once, and so are their cotangents. A step
computes one block of line-graph edges. The host makes the blocks such that the states of the edges
that a block comes from are complete.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops import varying
from plstm_seq.ops.choice import Implementation
from plstm_seq.ops.dag.inputs import Indices, Inputs
from plstm_seq.ops.dag.recurrent import at, at_nodes
from plstm_seq.ops.device import default_device
from plstm_seq.ops.products import einsum, small_matmul

# Multiplies batches of small matrices as they lie in memory; an einsum may copy all of them first.
matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

CPU_CACHE = 2**19  # bytes of states that a step computes on a CPU


class Ends(NamedTuple):
    """The arrays that write and read the states of edges, one row per edge, [E, *B, ...].

    Attributes:
        query: the query of the edge's head.
        key: the key of the edge's tail.
        value: the value of the edge's tail.
        source: the source of the edge.
        mark: the mark of the edge.
    """

    query: Array
    key: Array
    value: Array
    source: Array
    mark: Array


class Lines(NamedTuple):
    """Line-graph edges in blocks, [steps, width, ...].

    Attributes:
        transition: [steps, width, *B, JT, JT].
        before: the edge that a line comes from, as a row of the states; E at an empty place.
        after: the edge that a line leads to, likewise.
    """

    transition: Array
    before: Array
    after: Array


def levelwise(
    inputs: Inputs, state: None, *, graph: Indices, dtype: jnp.dtype
) -> tuple[Array, None]:
    """Return the output [*B, N, DV, JO], in the type of accumulation, and None.

    Args:
        inputs: [*B, N, E or P, ...].
        state: None; the op returns no states.
        graph: the index arrays of the graph.
        dtype: the type of accumulation.
    """
    del state
    rows = inputs.leading(dtype)
    ends = Ends(
        query=at(rows.query, graph.head),
        key=at(rows.key, graph.tail),
        value=at(rows.value, graph.tail),
        source=rows.source,
        mark=rows.mark,
    )
    # If there are no edges, all lines are padding.
    joined = graph.before.size and graph.tail.size
    lines = _in_blocks(rows, graph) if joined else None
    reads = edges(*varying.alike((ends, lines)))
    return jnp.moveaxis(at_nodes(rows, graph, reads), 0, inputs.query.ndim - 3), None


LEVELWISE = Implementation("levelwise", levelwise)


def _in_blocks(rows: Inputs, graph: Indices) -> Lines:
    """Arranges lines in the graph's blocks; on a CPU, these are cut into parts that fit its cache.

    The lines of a block are independent, so its parts are blocks, too. On a GPU fewer steps are
    faster.
    """
    width = graph.blocks.shape[1]
    if default_device().platform == "cpu":
        numbers = math.prod(rows.value.shape[1:-1]) * rows.key.shape[-2] * rows.mark.shape[-1]
        state_bytes = numbers * rows.value.dtype.itemsize
        while width % 2 == 0 and width * state_bytes > CPU_CACHE:
            width //= 2
    blocks = graph.blocks.reshape(-1, width)
    before, after = (
        index.at[blocks].get(mode="fill", fill_value=graph.tail.size)
        for index in (graph.before, graph.after)
    )
    return Lines(at(rows.transition, blocks), before, after)


@jax.custom_vjp
def edges(ends: Ends, lines: Lines | None) -> Array:
    """Returns `mark . query . state` of every edge, [E, *B, DV, JO]; a graph may have no lines."""
    return _forward(ends, lines)[0]


def _forward(ends: Ends, lines: Lines | None) -> tuple[Array, tuple]:
    states = small_matmul(_writing(ends), ends.value.mT[..., None, :, :])
    shape = states.shape

    def step(states: Array, block: Lines) -> tuple[Array, None]:
        moved = _turned(block.transition, _rows(states, block.before))
        return _add(states, block.after, moved), None

    # Rows are flat, since with axes of length one the compiler may choose another order, and copy.
    states = states.reshape(*shape[:-3], math.prod(shape[-3:]))
    if lines is not None:
        states, _ = jax.lax.scan(step, states, lines)
    asked = matmul(ends.query.mT[..., None, :, :], states.reshape(shape))
    return einsum("...oqi,...iqv->...vo", ends.mark, asked), (ends, lines, states)


def _backward(residuals: tuple, cotangent: Array) -> tuple[Ends, Lines | None]:
    ends, lines, states = residuals
    query, key, value, source, mark = ends
    JT, DK, DV = source.shape[-3], key.shape[-2], value.shape[-2]
    shape = (*states.shape[:-1], JT, DK, DV)

    def step(cotangents: Array, block: Lines) -> tuple[Array, Array]:
        arriving, left = _rows(cotangents, block.after), _rows(states, block.before)
        of_transition = matmul(_split(arriving, JT), _split(left, JT).mT)
        moved = _turned(block.transition.mT, arriving)
        return _add(cotangents, block.before, moved), of_transition

    reading = einsum("...oqi,...kq->...iko", mark, query)
    of_reading = matmul(states.reshape(shape), cotangent[..., None, :, :])
    cotangents = small_matmul(reading, cotangent.mT[..., None, :, :]).reshape(states.shape)
    of_lines = None
    if lines is not None:
        cotangents, of_transition = jax.lax.scan(step, cotangents, lines, reverse=True)
        of_lines = lines._replace(transition=of_transition, before=None, after=None)
    writing, cotangents = _writing(ends), cotangents.reshape(shape)
    of_writing = matmul(cotangents, value[..., None, :, :])
    return Ends(
        query=einsum("...iko,...oqi->...kq", of_reading, mark),
        key=einsum("...ikw,...iaw->...ka", of_writing, source),
        value=matmul(_folded(writing).mT, _folded(cotangents)).mT,
        source=einsum("...ikw,...ka->...iaw", of_writing, key),
        mark=einsum("...iko,...kq->...oqi", of_reading, query),
    ), of_lines


edges.defvjp(_forward, _backward)


def _writing(ends: Ends) -> Array:
    """Returns `source . key`, by which an edge's tail multiplies its value: [E, *B, JT, DK, JV]."""
    return einsum("...iaw,...ka->...ikw", ends.source, ends.key)


def _turned(transition: Array, rows: Array) -> Array:
    """Multiplies rows [width, *B, JT * DK * DV] by transitions [width, *B, JT, JT]."""
    return small_matmul(transition, _split(rows, transition.shape[-1])).reshape(rows.shape)


def _split(rows: Array, JT: int) -> Array:
    return rows.reshape(*rows.shape[:-1], JT, -1)


def _folded(array: Array) -> Array:
    """Reshapes [..., JT, DK, n] to [..., JT * DK, n]."""
    *lead, JT, DK, last = array.shape
    return array.reshape(*lead, JT * DK, last)


def _rows(states: Array, index: Array) -> Array:
    """Returns the rows at an index; past the end it is the last row, which `_add` drops later."""
    return states.at[index].get(mode="clip")


def _add(states: Array, index: Array, rows: Array) -> Array:
    return states.at[index].add(rows, mode="drop")
