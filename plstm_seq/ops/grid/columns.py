"""The gate algebra of a grid: a column of cells is one step, whose state is a whole border.

README.md, sections 2 and 3, derive it. The functions take one grid, without *B; the letters are
those of `plstm_seq.notation`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.grid.inputs import Inputs
from plstm_seq.ops.products import einsum, small_matmul


class Columns(NamedTuple):
    """P blocks of neighbouring columns; each block is a linear map in four parts.

    A block maps two inputs, the state that enters at its left border and what its columns are
    given, to two outputs, the state that leaves at its right border and what its columns give. A
    border has `Y * JT` entries. A column is given `Y * JK * JV` products of keys and values,
    followed by the JT entries that enter at its top; it gives `Y * JO * JQ` readings, followed by
    the JT entries that leave at its bottom. The entries at top and bottom are left out if no state
    enters or leaves there.

    mark: [P, gives, border]; source: [P, border, given]; transition: [P, border, border];
    gate: [P, gives, given].
    """

    mark: Array
    source: Array
    transition: Array
    gate: Array


def columns(inputs: Inputs, *, ends: bool) -> Columns:
    """Returns each column as a block by itself: P = X.

    Args:
        inputs: [X, Y, ...].
        ends: whether states enter at the top and leave at the bottom.
    """
    x = inputs
    X, Y, JT, _ = x.transition_rl.shape
    mark_left, mark_up = (m.reshape(X, Y, -1, JT) for m in (x.mark_left, x.mark_up))
    source_right, source_down = (s.reshape(X, Y, JT, -1) for s in (x.source_right, x.source_down))
    zero = jnp.zeros_like(x.transition_rl)
    turn_right = zero if x.transition_ru is None else x.transition_ru
    turn_down = zero if x.transition_dl is None else x.transition_dl
    # A cell maps (left, given) to (right, gives); `reads` and `writes` belong to the way down.
    reads = jnp.concatenate([turn_right, mark_up], axis=2)
    writes = jnp.concatenate([turn_down, source_down], axis=3)
    nothing = jnp.zeros((X, Y, mark_left.shape[2], source_right.shape[3]), mark_left.dtype)
    own = _blocks([[x.transition_rl, source_right], [mark_left, nothing]])

    down = ways_down(x.transition_du)
    cells = small_matmul(small_matmul(reads[:, :, None], down[:, :Y, 1:]), writes[:, None])
    cells += jnp.eye(Y, dtype=cells.dtype)[:, :, None, None] * own[:, :, None]
    # A split, not slices: the gradients of its parts are joined, while those of slices are added.
    right, gives = jnp.split(cells.transpose(0, 1, 3, 2, 4), [JT], axis=2)
    (transition, source), (mark, gate) = (jnp.split(x, [JT], axis=4) for x in (right, gives))
    gate = gate.reshape(X, Y * mark_left.shape[2], -1)
    source = source.reshape(X, Y * JT, -1)
    mark = mark.reshape(X, -1, Y * JT)
    if ends:
        entering = small_matmul(reads, down[:, :Y, 0])
        source = jnp.concatenate([source, entering[:, :, :JT].reshape(X, -1, JT)], axis=2)
        gate = jnp.concatenate([gate, entering[:, :, JT:].reshape(X, -1, JT)], axis=2)
        leaving = small_matmul(down[:, Y, 1:], writes).transpose(0, 2, 1, 3)
        mark = jnp.concatenate([mark, leaving[..., :JT].reshape(X, JT, -1)], axis=1)
        through = [leaving[..., JT:].reshape(X, JT, -1), down[:, Y, 0]]
        gate = jnp.concatenate([gate, jnp.concatenate(through, axis=2)], axis=1)
    return Columns(mark, source, transition.reshape(X, Y * JT, -1), gate)


def ways_down(transition: Array) -> Array:
    """Multiplies transitions down a column, [X, Y, JT, JT] -> [X, Y + 1, Y + 1, JT, JT].

    Entry (a, b) is `T_{a-1} ... T_b`, from above row b to above row a: the identity for a = b, and
    zero for a < b. Blocks of 1, 2, 4, ... rows are joined in a tree; nothing is inverted.
    """
    _, Y, JT, _ = transition.shape
    rows = 1 << (Y - 1).bit_length()
    transition = jnp.pad(transition, ((0, 0), (0, rows - Y), (0, 0), (0, 0)))[:, :, None, None]
    identity = jnp.broadcast_to(jnp.eye(JT, dtype=transition.dtype), transition.shape)
    ways = _blocks([[identity, jnp.zeros_like(identity)], [transition, identity]], axes=(2, 3))
    while ways.shape[1] > 1:
        upper, lower = _pairs(ways, axis=1)
        through = small_matmul(lower[:, :, 1:, :1], upper[:, :, -1:])
        above = jnp.zeros_like(lower[:, :, :, 1:])
        ways = _blocks([[upper, above], [through, lower[:, :, 1:, 1:]]], axes=(2, 3))
    return ways[:, 0, : Y + 1, : Y + 1]


def join(blocks: Columns) -> Columns:
    """Joins neighbouring columns into P strips: one strip if X is up to 4, else 3 or 4 strips.

    The number of columns in a strip is a power of two. X is padded at the end with columns that
    pass every state on.
    """
    X = blocks.transition.shape[0]
    width = 1 << (-(-X // (1 if X <= 4 else 4)) - 1).bit_length()
    count = -(-X // width)
    blocks = _lengthened(blocks, count * width)
    while blocks.transition.shape[0] > count:
        left, right = map(Columns._make, zip(*map(_pairs, blocks), strict=True))
        crossing = einsum("pab,pbc->pac", right.mark, left.source)
        mark = einsum("pab,pbc->pac", right.mark, left.transition)
        source = einsum("pab,pbc->pac", right.transition, left.source)
        above = jnp.zeros((*left.gate.shape[:2], right.gate.shape[2]), crossing.dtype)
        blocks = Columns(
            jnp.concatenate([left.mark, mark], axis=1),
            jnp.concatenate([source, right.source], axis=2),
            einsum("pab,pbc->pac", right.transition, left.transition),
            _blocks([[left.gate, above], [crossing, right.gate]], axes=(1, 2)),
        )
    return blocks


def _lengthened(blocks: Columns, X: int) -> Columns:
    """Pads to X columns at the end."""
    missing = X - blocks.transition.shape[0]
    if not missing:
        return blocks
    padded = Columns(*(jnp.pad(x, ((0, missing), (0, 0), (0, 0))) for x in blocks))
    border = blocks.transition.shape[1]
    identity = jnp.broadcast_to(jnp.eye(border, dtype=padded.mark.dtype), (missing, border, border))
    return padded._replace(transition=jnp.concatenate([blocks.transition, identity]))


def _pairs(x: Array, axis: int = 0) -> tuple[Array, Array]:
    """Returns the entries 0, 2, ... and the entries 1, 3, ... along an axis."""
    pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    first, second = jnp.split(pairs, 2, axis + 1)
    return first.squeeze(axis + 1), second.squeeze(axis + 1)


def _blocks(rows: list[list[Array]], axes: tuple[int, int] = (2, 3)) -> Array:
    """Joins blocks to a matrix."""
    return jnp.concatenate([jnp.concatenate(row, axis=axes[1]) for row in rows], axis=axes[0])
