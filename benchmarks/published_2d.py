"""The published parallel form of the 2D op, rebuilt from its formulas for benchmarks.

It computes a gate for every pair of cells and every orientation: it joins blocks of cells two by
two, alternately along X and along Y, until one block is left. It then sums the gates of the four
orientations and multiplies once. Like the published form it needs a square grid whose side is a
power of two, so other grids are padded. Gradients come from automatic differentiation. Source:
arXiv 2506.11997, appendix A.7, and the formulas of the published code
(https://github.com/ml-jku/plstm), which is not used here.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from plstm_seq.ops.grid.inputs import Inputs
from plstm_seq.ops.products import direct_term, einsum


class Block(NamedTuple):
    """The linear map of a block of cells.

    It maps what enters the block and what its cells write to what leaves it and what they read.
    """

    rl: Array
    du: Array
    dl: Array
    ru: Array
    source_right: Array
    source_down: Array
    mark_left: Array
    mark_up: Array
    gate: Array

    def turned(self) -> "Block":
        """Return the block with x and y exchanged."""
        return Block(
            self.du,
            self.rl,
            self.ru,
            self.dl,
            self.source_down,
            self.source_right,
            self.mark_up,
            self.mark_left,
            self.gate,
        )


def published(inputs: Inputs) -> Array:
    """Compute the sum over four orientations, [N, X, Y, DV, JO].

    Args:
        inputs: The query, key, value and direct arrays [N, X, Y, ...] and the gates
            [N, 4, X, Y, ...]. Orientation o flips x if bit 0 is set and y if bit 1 is set, but its
            gates are given in coordinates that are not flipped.
    """
    X, Y = inputs.query.shape[1:3]
    side = 1 << (max(X, Y) - 1).bit_length()

    def pad(array: Array, axis: int) -> Array:
        widths = [(0, 0)] * array.ndim
        widths[axis : axis + 2] = [(0, side - X), (0, side - Y)]
        return jnp.pad(array, widths)

    vectors = jax.tree.map(lambda a: pad(a, 1), inputs[:3])
    padded = jax.tree.map(lambda a: pad(a, 2), inputs[3:11])
    x = Inputs(*vectors, *padded)
    gates = functools.reduce(jnp.add, (_orientation(x, o) for o in range(4)))
    N, cells = x.query.shape[0], side * side
    query, key, value = (a.reshape(N, cells, *a.shape[3:]) for a in x[:3])
    JQ, JK, JV = query.shape[-1], key.shape[-1], value.shape[-1]
    gates = gates.reshape(N, cells, -1, JQ, cells, JK, JV)
    scores = einsum("nlkq,ncka->nlqca", query, key)
    matrix = (gates * scores[:, :, None, :, :, :, None]).sum((3, 5))
    output = einsum("nlocw,ncvw->nlvo", matrix, value)
    output = output.reshape(N, side, side, *output.shape[2:])[:, :X, :Y]
    return output if inputs.direct is None else output + direct_term(*inputs[:3], inputs.direct)


def _orientation(x: Inputs, orientation: int) -> Array:
    """Compute the gates between all cells, [N, X * Y, JO * JQ, X * Y, JK * JV]."""
    axes = tuple(axis for bit, axis in ((1, 1), (2, 2)) if orientation & bit)

    def flip(gate: Array | None) -> Array:
        assert gate is not None
        return jnp.flip(gate[:, orientation], axes)

    rl, du, dl, ru, right, down, left, up = (
        flip(g)
        for g in (
            x.transition_rl,
            x.transition_du,
            x.transition_dl,
            x.transition_ru,
            x.source_right,
            x.source_down,
            x.mark_left,
            x.mark_up,
        )
    )
    N, side, _, JT, _ = rl.shape
    right, down = (g.reshape(N, side, side, JT, -1) for g in (right, down))
    left, up = (g.reshape(N, side, side, -1, JT) for g in (left, up))
    nothing = jnp.zeros((N, side, side, left.shape[3], right.shape[4]), rl.dtype)
    block = Block(rl, du, dl, ru, right, down, left, up, nothing)
    order = np.arange(side * side).reshape(side, side, 1)
    while order.shape[0] > 1:
        block, order = _join_x(block, order)
        block, order = _join_x(_swap(block), order.swapaxes(0, 1))
        block, order = _swap(block), order.swapaxes(0, 1)
    place = np.argsort(order.reshape(-1))
    gate = block.gate.reshape(N, place.size, left.shape[3], place.size, right.shape[4])
    gate = gate[:, place][:, :, :, place].reshape(N, side, side, -1, side, side, right.shape[4])
    gate = jnp.flip(gate, (*axes, *(axis + 3 for axis in axes)))
    return gate.reshape(N, place.size, -1, place.size, right.shape[4])


def _swap(block: Block) -> Block:
    """Exchange x and y, both in the grid of blocks and at the borders of each block."""
    return jax.tree.map(lambda a: a.swapaxes(1, 2), block).turned()


def _join_x(block: Block, order: np.ndarray) -> tuple[Block, np.ndarray]:
    """Join neighbours along x into one block, in which the cells of the left one come first."""
    a, b = (jax.tree.map(lambda g, i=i: g[:, i::2], block) for i in (0, 1))

    def corner(upper: Array, lower: Array, last: Array) -> Array:
        above = jnp.zeros((*upper.shape[:-1], last.shape[-1]), upper.dtype)
        rows = jnp.concatenate([upper, above], -1), jnp.concatenate([lower, last], -1)
        return jnp.concatenate(rows, -2)

    def times(left: Array, right: Array) -> Array:
        return einsum("...ij,...jk->...ik", left, right)

    joined = Block(
        rl=times(b.rl, a.rl),
        ru=jnp.concatenate([times(b.rl, a.ru), b.ru], -1),
        source_right=jnp.concatenate([times(b.rl, a.source_right), b.source_right], -1),
        dl=jnp.concatenate([a.dl, times(b.dl, a.rl)], -2),
        du=corner(a.du, times(b.dl, a.ru), b.du),
        source_down=corner(a.source_down, times(b.dl, a.source_right), b.source_down),
        mark_left=jnp.concatenate([a.mark_left, times(b.mark_left, a.rl)], -2),
        mark_up=corner(a.mark_up, times(b.mark_left, a.ru), b.mark_up),
        gate=corner(a.gate, times(b.mark_left, a.source_right), b.gate),
    )
    return joined, np.concatenate([order[0::2], order[1::2]], -1)
