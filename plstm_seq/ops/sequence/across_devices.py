"""Sequence parallelism: time is sharded over a mesh axis, and few messages carry the states.

A device changes the state by an affine map `C -> P C + F`, where `P` is the product of its
transitions and `F` is its last state after a zero initial state. These pairs combine associatively,
so that D devices need no ring of D messages in which each waits for the one before. After
ceil(log2 D) exchanges with the device 1, 2, 4, ... places before, every device has the state at its
end, and a last exchange makes it the next device's initial state. A device sends ceil(log2 D) + 1
summaries of JT * (JT + DK * DV) numbers, whatever T is. Gathering all summaries would be a single
collective, but each device would send D - 1 summaries.

Each device computes its part of the sequence twice, the first time for `F` alone. This first pass
reads almost nothing (one query, one mark, no direct term), so that a kernel does little more than
update the state, and XLA drops the computation of the outputs. The backward pass, too, goes through
the sequence twice.
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
    """Computes the op inside `jax.shard_map` for a sequence that the mesh axis `axis` shards.

    Args:
        run: an implementation with its options already given.
        inputs: this device's part of the inputs, [*B, T / D, ...].
        initial_state: the state before the whole sequence, [*B, DK, DV, JT], the same on all
            devices.
        axis: name of the mesh axis.

    Returns:
        This device's part of the output, and the state after the whole sequence on every device.

    Raises:
        ValueError: the axis is not bound here.
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
    """Multiplies transitions [*B, T, JT, JT] over time in a tree; returns [*B, JT, JT]."""
    while (length := transition.shape[-3]) > 1:
        even = length // 2 * 2
        pairs = small_matmul(transition[..., 1:even:2, :, :], transition[..., 0:even:2, :, :])
        transition = jnp.concatenate([pairs, transition[..., even:, :, :]], axis=-3)
    return transition[..., 0, :, :]


def _states_after(moved: Array, state: Array, axis: str, devices: int) -> Array:
    """Returns the state at the end of this device's part.

    A device less than `distance` places after the first one already has its state and receives
    zeros. Its state therefore stays the same, and no other device needs its product any more.

    Args:
        moved: product of this device's transitions, [*B, JT, JT].
        state: this device's last state after a zero state; on the first device, the last state
            after the initial state.
        axis: name of the mesh axis.
        devices: size of the mesh axis.
    """
    distance = 1
    while distance < devices:
        state = state + _move(moved, _from_before(state, distance, axis, devices))
        if 2 * distance < devices:
            moved = small_matmul(moved, _from_before(moved, distance, axis, devices))
        distance *= 2
    return state


def _from_before(array: Array, distance: int, axis: str, devices: int) -> Array:
    """Returns the array of the device `distance` places before, zeros if there is none."""
    pairs = [(i, i + distance) for i in range(devices - distance)]
    return jax.lax.ppermute(array, axis, pairs)


def _move(moved: Array, state: Array) -> Array:
    return einsum("...ij,...kvj->...kvi", moved, state)


def _reading_nothing(inputs: Inputs) -> Inputs:
    """Returns inputs that give the same states, and outputs as small as possible."""
    return inputs._replace(
        query=jnp.zeros_like(inputs.query[..., :1]),
        mark=jnp.zeros_like(inputs.mark[..., :1, :1, :]),
        direct=None,
    )
