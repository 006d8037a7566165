"""The 2D op in parallel over the whole grid: gates between all cells, then one product.

Nothing is kept for the backward pass but the arguments. Time and memory grow with the square of
the number of cells: `chunkwise` is for large grids.
"""

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.grid.inputs import Inputs, States, zero_states
from plstm_seq.ops.grid.not_finite import finite_inside
from plstm_seq.ops.grid.tile import (
    from_border,
    inside,
    make_strips,
    make_tile,
    moving,
    reading,
    to_border,
    writing,
)
from plstm_seq.ops.products import direct_term


@finite_inside
def parallel(
    inputs: Inputs, initial: States, scale: float | Array, *, dtype: jnp.dtype, leaving: bool = True
) -> tuple[Array, States]:
    """Output [*B, X, Y, DV, JO] and last states, in the type of accumulation.

    Args:
        inputs: [*B, X, Y, ...].
        initial: on the left and top edge; None is zero.
        scale: factor of the output.
        dtype: of accumulation.
        leaving: whether the states that leave are returned; else they are None.
    """
    with_states = leaving or initial != (None, None)
    edges = zero_states(inputs, initial, dtype) if with_states else None
    x = inputs.astype(dtype)
    function = jax.checkpoint(_grid)
    for _ in inputs.batch:
        function = jax.vmap(function)
    output, states = function(x._replace(direct=None), edges)
    if x.direct is not None:
        output += direct_term(x.query, x.key, x.value, x.direct)
    return scale * output, states if leaving else States(None, None)


def _grid(inputs: Inputs, edges: tuple[Array, Array] | None) -> tuple[Array, States]:
    """Compute one grid [X, Y, ...] as a single tile."""
    X, Y = inputs.grid
    _, _, JT = inputs.state_shape
    query, key, value = (x.reshape(X * Y, *x.shape[2:]) for x in inputs[:3])
    if edges is None:
        output = inside(query, key, value, make_strips(inputs))
        return output.reshape(X, Y, *output.shape[1:]), States(None, None)
    tile = make_tile(inputs)
    state = jnp.concatenate([to_border(edge) for edge in edges], axis=1)
    output = inside(query, key, value, tile.strips) + reading(query, tile.read, state)
    state = moving(tile.move, state) + writing(key, value, tile.write)
    right, down = state[:, : Y * JT], state[:, Y * JT :]
    return output.reshape(X, Y, *output.shape[1:]), States(
        from_border(right, JT), from_border(down, JT)
    )
