"""The 2D op in tiles: each tile is computed as in `parallel`, and passes its states on (README.md).

Tiles that lie above each other form a band; bands are computed one after another. The backward pass
keeps the arguments and the states between bands, and computes everything else again.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.grid.inputs import GridImplementation, Inputs, States, zero_states
from plstm_seq.ops.grid.not_finite import finite_inside
from plstm_seq.ops.grid.tile import (
    from_border,
    inside,
    make_tile,
    moving,
    reading,
    to_border,
    writing,
)
from plstm_seq.ops.products import direct_term

# Cells on a tile's side, the fastest number or near it on a CPU (`benchmarks/ops_2d.py --tiles`).
SIDE = 8


class Plan(NamedTuple):
    """A division of a grid into `bands` by `tiles` tiles of `X` by `Y` cells."""

    X: int
    Y: int
    bands: int
    tiles: int


@finite_inside
def chunkwise(
    inputs: Inputs,
    initial: States,
    *,
    dtype: jnp.dtype,
    leaving: bool = True,
    side: int | None = None,
) -> tuple[Array, States]:
    """Returns the output [*B, X, Y, DV, JO] and the last states, in the type of accumulation.

    Args:
        inputs: [*B, X, Y, ...].
        initial: the states on the left and top edge; None: zero.
        dtype: the type of accumulation.
        leaving: whether to return the states that leave; if not, they are None.
        side: the largest number of cells on the longer side of a tile; None: `SIDE`.
    """
    plan = make_plan(inputs.grid, side or SIDE)
    X, Y = inputs.grid
    function = functools.partial(_grid, plan)
    for _ in inputs.batch:
        function = jax.vmap(function)
    larger = inputs._replace(direct=None).enlarged(plan.X * plan.bands, plan.Y * plan.tiles)
    axis = len(inputs.batch)
    across, down = (
        _pad(state, axis, size)
        for state, size in zip(
            zero_states(inputs, initial, dtype), reversed(larger.grid), strict=True
        )
    )
    output, (right, bottom) = function(larger.astype(dtype), (across, down))
    output = output[..., :X, :Y, :, :]
    x = inputs.astype(dtype)
    if x.direct is not None:
        output += direct_term(x.query, x.key, x.value, x.direct)
    if not leaving:
        return output, States(None, None)
    return output, States(right[..., :Y, :, :, :], bottom[..., :X, :, :, :])


CHUNKWISE = GridImplementation("chunkwise", chunkwise)


def make_plan(grid: tuple[int, int], side: int) -> Plan:
    """Cuts a grid into tiles as equal as possible, padded by less than a row or column per tile."""
    bands, tiles = (-(-size // side) for size in grid)
    return Plan(-(-grid[0] // bands), -(-grid[1] // tiles), bands, tiles)


def _pad(state: Array, axis: int, size: int) -> Array:
    widths = [(0, 0)] * state.ndim
    widths[axis] = (0, size - state.shape[axis])
    return jnp.pad(state, widths)


def _grid(plan: Plan, inputs: Inputs, edges: tuple[Array, Array]) -> tuple[Array, tuple]:
    """Computes one grid [X, Y, ...] whose sides are whole numbers of tiles."""

    def split(array: Array) -> Array:
        """Cuts [X, Y, ...] into tiles, [bands, tiles, X, Y, ...]."""
        array = array.reshape(plan.bands, plan.X, plan.tiles, plan.Y, *array.shape[2:])
        return array.swapaxes(1, 2)

    _, _, JT = inputs.state_shape
    across, down = edges
    across = jax.vmap(to_border)(across.reshape(plan.tiles, plan.Y, *across.shape[1:]))
    down = jax.vmap(to_border)(down.reshape(plan.bands, plan.X, *down.shape[1:]))
    bands = jax.tree.map(split, inputs), down
    body = functools.partial(_band, plan)
    across, (output, down) = jax.lax.scan(jax.checkpoint(body), across, bands)
    output = output.swapaxes(1, 2)
    output = output.reshape(plan.bands * plan.X, plan.tiles * plan.Y, *output.shape[4:])
    across, down = (
        jnp.concatenate([from_border(border, JT) for border in borders])
        for borders in (across, down)
    )
    return output, (across, down)


def _band(
    plan: Plan, across: Array, band: tuple[Inputs, Array]
) -> tuple[Array, tuple[Array, Array]]:
    """Computes a band of tiles; only the states that move down wait for the tile above.

    Args:
        plan: the division of the grid.
        across: the states that enter at the left, [tiles, DK, Y * JT, DV].
        band: inputs [tiles, X, Y, ...], and the states that enter at the top, [DK, X * JT, DV].

    Returns:
        The states that leave to the right, the output [tiles, X, Y, DV, JO], and the states that
        leave at the bottom.
    """
    inputs, top = band
    query, key, value = (x.reshape(plan.tiles, plan.X * plan.Y, *x.shape[3:]) for x in inputs[:3])
    tiles = jax.vmap(make_tile)(inputs)
    output = jax.vmap(inside)(query, key, value, tiles.strips)
    written = jax.vmap(writing)(key, value, tiles.write)
    border = across.shape[2]

    def move(top: Array, now: tuple[Array, Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        gates, written, left = now
        entering = jnp.concatenate([left, top], axis=1)
        leaving = moving(gates, entering) + written
        return leaving[:, border:], (leaving[:, :border], entering)

    bottom, (right, entering) = jax.lax.scan(move, top, (tiles.move, written, across))
    output += jax.vmap(reading)(query, tiles.read, entering)
    return right, (output.reshape(plan.tiles, plan.X, plan.Y, *output.shape[2:]), bottom)
