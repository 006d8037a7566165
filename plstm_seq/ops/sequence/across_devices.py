"""Sequence parallelism: time sharded over a mesh axis, the states handed on in a few messages.

What a device does to the state is affine: `C -> P C + F`, with `P` the product of its transitions
and `F` its last state from a zero one. These pairs combine associatively, so that D devices need
no ring of D messages, one waiting for another: after ceil(log2 D) exchanges with the device 1, 2,
4, ... places before, every device has the state at its end, and a last exchange makes it the next
device's initial state. A device sends ceil(log2 D) + 1 summaries of JT * (JT + DK * DV) numbers,
whatever T is; gathering all summaries would be one collective, but D - 1 summaries a device.

Work: the sequence is gone through twice, first for `F` alone. The first pass reads nothing (one
query, one mark, no direct term), so that a kernel has little to do beyond moving the state on, and
XLA drops what its outputs would take. Differentiated, it is gone through twice as well.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.products import einsum, small_matmul
from plstm_seq.ops.sequence.inputs import Inputs


def across_devices(
    run: Callable[[Inputs, Array], tuple[Array, Array]],
    inputs: Inputs,
    initial_state: Array,
    axis: str,
) -> tuple[Array, Array]:
    """The op over the sequence that the mesh axis `axis` shards, inside `jax.shard_map`.

    Args:
        run: an implementation, given all but inputs and initial state.
        inputs: this device's part, [*B, T / D, ...].
        initial_state: before the whole sequence, [*B, DK, DV, JT], the same on all devices.
        axis: name of the mesh axis.

    Returns:
        This device's part of the output, and the state after the whole sequence on every device.

    Raises:
        ValueError: there is no such axis here.
    """
    try:
        devices = jax.lax.axis_size(axis)
    except NameError:
        raise ValueError(
            f"sequence_axis is {axis!r}, but no axis of that name is bound here: call plstm_1d "
            "inside jax.shard_map over a mesh with that axis, which shards T"
        ) from None
    index = jax.lax.axis_index(axis)
    before = jnp.where(index == 0, initial_state, 0)
    moved = product(inputs.transition.astype(initial_state.dtype))
    _, written = run(_reading_nothing(inputs), jnp.zeros_like(before))
    after = _states_after(moved, _move(moved, before) + written, axis, devices)
    output, last = run(inputs, before + _from_before(after, 1, axis, devices))
    return output, jax.lax.psum(jnp.where(index == devices - 1, last, 0), axis)


def product(transition: Array) -> Array:
    """[*B, T, JT, JT] -> the product over time [*B, JT, JT], as a tree."""
    while (length := transition.shape[-3]) > 1:
        even = length // 2 * 2
        pairs = small_matmul(transition[..., 1:even:2, :, :], transition[..., 0:even:2, :, :])
        transition = jnp.concatenate([pairs, transition[..., even:, :, :]], axis=-3)
    return transition[..., 0, :, :]


def _states_after(moved: Array, state: Array, axis: str, devices: int) -> Array:
    """The state at the end of every device's part.

    A device less than `distance` places from the first has its state already, and receives zeros:
    its state stays, and no other device needs its product any more.

    Args:
        moved: product of this device's transitions, [*B, JT, JT].
        state: its last state from zero; on the first device, from the initial state.
        axis: name of the mesh axis.
        devices: its size.
    """
    distance = 1
    while distance < devices:
        state = state + _move(moved, _from_before(state, distance, axis, devices))
        if 2 * distance < devices:
            moved = small_matmul(moved, _from_before(moved, distance, axis, devices))
        distance *= 2
    return state


def _from_before(array: Array, distance: int, axis: str, devices: int) -> Array:
    """What the device `distance` places before has; zeros where there is none."""
    pairs = [(i, i + distance) for i in range(devices - distance)]
    return jax.lax.ppermute(array, axis, pairs)


def _move(moved: Array, state: Array) -> Array:
    return einsum("...ij,...kvj->...kvi", moved, state)


def _reading_nothing(inputs: Inputs) -> Inputs:
    """The same states with as little of outputs as there can be."""
    return inputs._replace(
        query=jnp.zeros_like(inputs.query[..., :1]),
        mark=jnp.zeros_like(inputs.mark[..., :1, :1, :]),
        direct=None,
    )
