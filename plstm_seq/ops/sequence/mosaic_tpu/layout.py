"""The layout of a call's arrays, with time in the lanes, and the number of sequences in a group.

A register of a TPU is [8, 128], and the last two axes of an array in memory are padded to this
size: a 4 x 4 matrix in the last axes would fill a hundredth of it. Time is therefore always the
last axis. The axis before it has the `R` sequences of a group for gates, and the features for
queries, keys and values.
"""

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.sequence.inputs import Inputs

Tree = TypeVar("Tree")

GROUP = 8  # the number of sublanes of a register


class Lanes(NamedTuple):
    """The core form with time last; N = groups * R, and gates are float32.

    The fields are arrays, blocks of a kernel's grid, or references to memory.

    Attributes:
        query: [N, DK, T].
        key: [N, DK, T].
        value: [N, JV, DV, T].
        source: [groups, JT, JV, R, T].
        transition: [groups, JT, JT, R, T].
        mark: the transposed mark, [groups, JT, JO, R, T].
        direct: [groups, JO, JV, R, T] or None.
    """

    query: Any
    key: Any
    value: Any
    source: Any
    transition: Any
    mark: Any
    direct: Any


def group_size(sequences: int, bytes_each: int, budget: int) -> int:
    """Returns R, the number of sequences that fill the sublanes and fit, with little padding."""
    most = max(1, min(GROUP, budget // bytes_each))
    groups = -(-sequences // most)
    return -(-sequences // groups)


def pad(tree: Tree, group: int) -> Tree:
    """Appends sequences of zeros, so that N becomes a multiple of `group`."""

    def one(array: Array) -> Array:
        missing = -array.shape[0] % group
        return jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing else array

    return jax.tree.map(one, tree)


def to_lanes(core: Inputs, group: int) -> Lanes:
    """Rearranges [N, T, ...], with N a multiple of `group`, as the kernels read it."""
    query, key, value, source, transition, mark, direct = core

    def gate(array: Array, *axes: int) -> Array:
        array = array.astype(jnp.float32).reshape(-1, group, *array.shape[1:])
        return array.transpose(0, *(2 + axis for axis in axes), 1, 2)

    return Lanes(
        query=query[..., 0].swapaxes(1, 2),
        key=key[..., 0].swapaxes(1, 2),
        value=value.transpose(0, 3, 2, 1),
        source=gate(source[:, :, :, 0], 1, 2),
        transition=gate(transition, 1, 2),
        mark=gate(mark[:, :, :, 0], 2, 1),
        direct=None if direct is None else gate(direct[:, :, :, 0, 0], 1, 2),
    )


def from_lanes(lanes: Lanes, core: Inputs) -> Inputs:
    """Inverts `to_lanes` for cotangents, in the shapes and types of `core`, without padding."""
    query, key, value, source, transition, mark, direct = lanes

    def gate(array: Array, row: int = 1) -> Array:
        array = array.transpose(0, 3, 4, row, 3 - row)
        return array.reshape(-1, *array.shape[2:])

    bars = Inputs(
        query=query.swapaxes(1, 2),
        key=key.swapaxes(1, 2),
        value=value.transpose(0, 3, 2, 1),
        source=gate(source),
        transition=gate(transition),
        mark=gate(mark, 2),
        direct=None if direct is None else gate(direct),
    )
    N = core.query.shape[0]
    return jax.tree.map(lambda bar, x: bar[:N].reshape(x.shape).astype(x.dtype), bars, core)


def columns(state: Array) -> Array:
    """Rearranges [N, DK, DV, JT] to [N, JT * DV, DK]."""
    N, DK = state.shape[:2]
    return state.transpose(0, 3, 2, 1).reshape(N, -1, DK)


def from_columns(state: Array, JT: int) -> Array:
    """Inverts `columns`."""
    N, _, DK = state.shape
    return state.reshape(N, JT, -1, DK).transpose(0, 3, 2, 1)
