"""The 1D recurrence, one step after another: the truth that every other form is held against."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.choice import Implementation
from plstm_seq.ops.products import direct_term, einsum, fused_einsum
from plstm_seq.ops.sequence.inputs import Inputs

SMALL_STATE = 256
"""Up to so many numbers a state, DK DV JT, its products are loops rather than dots."""


def recurrent(
    inputs: Inputs, initial_state: Array, *, chunk_size: int | None = None
) -> tuple[Array, Array]:
    """Scans `step` over time; differentiable in every mode, O(T) states when differentiated.

    Args:
        inputs: [*B, T, ...].
        initial_state: [*B, DK, DV, JT], in the type of accumulation.
        chunk_size: None; there are no chunks.

    Returns:
        The output [*B, T, DV, JO] and the last state, in the type of the state.
    """
    check_no_chunks(inputs, initial_state, chunk_size=chunk_size)
    axis = initial_state.ndim - 3

    def body(state: Array, now: Inputs) -> tuple[Array, Array]:
        output, state = step(now, state)
        return state, output

    inputs = inputs.astype(initial_state.dtype)
    state, output = jax.lax.scan(
        body, initial_state, jax.tree.map(lambda x: jnp.moveaxis(x, axis, 0), inputs)
    )
    return jnp.moveaxis(output, 0, axis), state


def check_no_chunks(inputs: Inputs, state: Array, *, chunk_size: int | None) -> None:
    """Declines a chunk size.

    Raises:
        NotImplementedError: one was asked for.
    """
    del inputs, state
    if chunk_size is not None:
        raise NotImplementedError(f"there are no chunks: chunk_size is {chunk_size}, not None")


def _rank(inputs: Inputs, platform: str) -> int:
    """Off a CPU, one step after another is slow."""
    del inputs
    return int(platform != "cpu")


RECURRENT = Implementation("recurrent", recurrent, check_no_chunks, _rank, forward_mode=True)


def step(inputs: Inputs, state: Array) -> tuple[Array, Array]:
    """One step: reads the state, then moves it on (README.md, section 1).

    Args:
        inputs: one time step, without the time axis; all in the type of the state.
        state: [*B, DK, DV, JT].

    Returns:
        The output [*B, DV, JO] without its factor, and the next state.
    """
    query, key, value, source, transition, mark, direct = inputs
    product = fused_einsum if math.prod(state.shape[-3:]) <= SMALL_STATE else einsum
    readings = product("...kq,...kvi->...qvi", query, state)
    output = product("...oqi,...qvi->...vo", mark, readings)
    if direct is not None:
        output += direct_term(query, key, value, direct, product)
    writings = product("...iaw,...vw->...vai", source, value)
    state = product("...ij,...kvj->...kvi", transition, state)
    state += product("...ka,...vai->...kvi", key, writings)
    return output, state
