"""Time in the lanes: how the kernels hold a call's arrays, and how many sequences at once.

A register of a TPU is [8, 128], and the last two axes of an array in memory are padded to that: a
trailing 4 x 4 matrix would fill a hundredth of it. So time comes last everywhere. Gates have
`R` sequences before it (a group), the features of queries, keys and values stand before it there.
"""

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.sequence.inputs import Inputs

Tree = TypeVar("Tree")

GROUP = 8  # sublanes of a register


class Lanes(NamedTuple):
    """The core form with time last; N = groups * R, the gates in float32. Also blocks, or memory.

    Attributes:
        query: [N, DK, T].
        key: [N, DK, T].
        value: [N, JV, DV, T].
        source: [groups, JT, JV, R, T].
        transition: [groups, JT, JT, R, T].
        mark: transposed, [groups, JT, JO, R, T].
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
    """R: as many sequences as fill the sublanes and fit, with little padding."""
    most = max(1, min(GROUP, budget // bytes_each))
    groups = -(-sequences // most)
    return -(-sequences // groups)


def pad(tree: Tree, group: int) -> Tree:
    """Zero sequences behind, N -> a multiple of `group`."""

    def one(array: Array) -> Array:
        missing = -array.shape[0] % group
        return jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing else array

    return jax.tree.map(one, tree)


def to_lanes(core: Inputs, group: int) -> Lanes:
    """[N, T, ...], N a multiple of `group`, as the kernels read it."""
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
    """The inverse, for cotangents: shapes and types of `core`, padding cut off."""
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
    """[N, DK, DV, JT] -> [N, JT * DV, DK]."""
    N, DK = state.shape[:2]
    return state.transpose(0, 3, 2, 1).reshape(N, -1, DK)


def from_columns(state: Array, JT: int) -> Array:
    """The inverse of `columns`."""
    N, _, DK = state.shape
    return state.reshape(N, JT, -1, DK).transpose(0, 3, 2, 1)
