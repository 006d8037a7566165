"""The 2D op in parallel over the whole grid: gates between all cells, then one product.

The backward pass keeps only the arguments. Time and memory grow with the square of the number of
cells; use `chunkwise` for large grids.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.grid.inputs import GATES, GridImplementation, Inputs, States, flip, zero_states
from plstm_seq.ops.grid.not_finite import finite_inside, sum_finite_inside
from plstm_seq.ops.grid.tile import (
    from_border,
    gated,
    inside,
    make_gates,
    make_strips,
    make_tile,
    moving,
    reading,
    to_border,
    writing,
)
from plstm_seq.ops.products import direct_term

# Up to this number of cells, `parallel` was faster than `chunkwise` on a CPU
# (`benchmarks/ops_2d.py`).
FEW_CELLS = 1024


@finite_inside
def parallel(
    inputs: Inputs, initial: States, *, dtype: jnp.dtype, leaving: bool = True
) -> tuple[Array, States]:
    """Returns the output [*B, X, Y, DV, JO] and the last states, in the type of accumulation.

    Args:
        inputs: [*B, X, Y, ...].
        initial: the states on the left and top edge; None: zero.
        dtype: the type of accumulation.
        leaving: whether to return the states that leave; if not, they are None.
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
    return output, states if leaving else States(None, None)


def _grid(inputs: Inputs, edges: tuple[Array, Array] | None) -> tuple[Array, States]:
    """Computes one grid [X, Y, ...] as a single tile."""
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


def summed(inputs: Inputs, orientations: tuple[int, ...], *, dtype: jnp.dtype, half: bool) -> Array:
    """Returns the sum over orientations, computed with the sum of all orientations' gates.

    Args:
        inputs: the inputs; gates other than the direct term are [*B, O, X, Y, ...].
        orientations: the orientations of the axis O.
        dtype: the type of accumulation.
        half: whether query, key and value have 16 bits.
    """
    inputs = inputs.astype(dtype)
    without = inputs._replace(direct=None)
    precision = jax.lax.Precision.DEFAULT if half else jax.lax.Precision.HIGHEST
    function = functools.partial(_summed_gates, orientations, precision)
    for _ in inputs.batch:
        function = jax.vmap(function)
    # With all four, every cell reads from every other, and flags of bad numbers cost a CPU much.
    marked = len(set(orientations)) < 4
    output = sum_finite_inside(function, without, orientations) if marked else function(without)
    if inputs.direct is not None:
        output += direct_term(inputs.query, inputs.key, inputs.value, inputs.direct)
    return output


@functools.partial(jax.checkpoint, static_argnums=(0, 1))
def _summed_gates(
    orientations: tuple[int, ...], precision: jax.lax.Precision, inputs: Inputs
) -> Array:
    """Computes one grid with query, key and value [X, Y, ...] and gates [O, X, Y, ...]."""
    X, Y = inputs.query.shape[:2]
    query, key, value = (x.reshape(X * Y, *x.shape[2:]) for x in inputs[:3])

    def gates_of(gates: dict[str, Array | None]) -> Array:
        return make_gates(inputs._replace(**gates))

    gates = {name: getattr(inputs, name) for name in GATES}
    gates = jax.tree.map(lambda x: flip(x, orientations, 0), gates)
    pairs = jax.vmap(gates_of)(gates)
    gives, given = pairs.shape[2] // Y, pairs.shape[4] // Y
    pairs = flip(pairs.reshape(-1, X, Y, gives, X, Y, given), orientations, 0, step=3).sum(0)
    gates = pairs.reshape(X * Y, gives, X * Y, given)
    return gated(query, key, value, gates, precision).reshape(X, Y, value.shape[1], -1)


def _rank(inputs: Inputs, platform: str) -> int:
    del platform
    X, Y = inputs.grid
    return int(X * Y > FEW_CELLS)


PARALLEL = GridImplementation("parallel", parallel, rank=_rank, summed=summed)
