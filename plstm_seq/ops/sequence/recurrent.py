"""The 1D recurrence, one step after another; every other form is compared with it."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.choice import Implementation
from plstm_seq.ops.products import direct_term, einsum, fused_einsum
from plstm_seq.ops.sequence.inputs import Inputs

SMALL_STATE = 256
"""If a state has at most this many numbers, DK DV JT, products are computed as loops, not dots."""


def recurrent(
    inputs: Inputs, initial_state: Array, *, chunk_size: int | None = None
) -> tuple[Array, Array]:
    """Scans `step` over time. Every mode can differentiate it; reverse mode keeps O(T) states.

    Args:
        inputs: [*B, T, ...].
        initial_state: [*B, DK, DV, JT], in the type of accumulation.
        chunk_size: None, since this form has no chunks.

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
    """Declines every chunk size but None.

    Raises:
        NotImplementedError: the caller named a chunk size.
    """
    del inputs, state
    if chunk_size is not None:
        raise NotImplementedError(f"there are no chunks: chunk_size is {chunk_size}, not None")


def _rank(inputs: Inputs, platform: str) -> int:
    """Ranks it late on other devices than a CPU, where one step after another is slow."""
    del inputs
    return int(platform != "cpu")


RECURRENT = Implementation("recurrent", recurrent, check_no_chunks, _rank, forward_mode=True)


def step(inputs: Inputs, state: Array) -> tuple[Array, Array]:
    """Computes one step: it reads the state, then updates it (README.md, section 1).

    Args:
        inputs: the inputs of one step, without the time axis, all in the type of the state.
        state: [*B, DK, DV, JT].

    Returns:
        The output [*B, DV, JO] before scaling, and the next state.
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
