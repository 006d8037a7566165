"""Gates between all pairs of cells of a grid, and their derivative, as Pallas kernels (Triton).

A program goes over the cells of one orientation of one grid, for some of the cells that are written
at: its lanes. Left of a cell and above it each lane has a number, the gate from its own cell to
that edge. The derivative goes the same way once more, keeps these, and goes back.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from plstm_seq.ops import varying
from plstm_seq.ops.grid.inputs import GATES
from plstm_seq.ops.leading_axes import once, over_leading_axes

LANES = 128
_SOURCE_RIGHT, _SOURCE_DOWN, _RL, _DU, _DL, _RU, _LEFT, _UP = range(len(GATES))

Vectors = tuple[Array, ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def pairs(gates: Array, orientations: tuple[int, ...], interpret: bool) -> Array:
    """The gate from every cell to every other, for each orientation.

    Args:
        gates: [*B, O, 8, X, Y], in the order of `inputs.GATES`.
        orientations: of the axis O; those of a cell stand at the cell, whatever the orientation.
        interpret: whether to run on the CPU, interpreted.

    Returns:
        [*B, O, X * Y, X * Y], from the last axis to the one before it.
    """
    return _pairs(gates, orientations, interpret)[0]


def _pairs(gates: Array, orientations: tuple[int, ...], interpret: bool) -> tuple[Array, Array]:
    function = _forward(gates.shape[-2:], orientations, interpret)
    return _over_leading_axes(function, gates)(gates), gates


def _pairs_bar(
    orientations: tuple[int, ...], interpret: bool, gates: Array, pairs_bar: Array
) -> tuple[Array]:
    function = _backward(gates.shape[-2:], orientations, interpret)
    return (_over_leading_axes(function, gates)(gates, pairs_bar),)


def _over_leading_axes(function: Callable, gates: Array) -> Callable:
    return once(over_leading_axes(function, gates.ndim - 4), "plstm_2d")


pairs.defvjp(_pairs, _pairs_bar)


@functools.cache
def _forward(grid: tuple[int, int], orientations: tuple[int, ...], interpret: bool) -> Callable:
    """[N, O, 8, X, Y] -> [N, O, cells, cells]."""
    cells = grid[0] * grid[1]

    def kernel(gates: Any, found: Any) -> None:
        lanes = _lanes()

        def keep(cell: Array, left: Array, up: Array) -> None:
            read = gates[_LEFT, cell] * left + gates[_UP, cell] * up
            plgpu.store(found.at[cell, :], read, mask=lanes < cells)

        _go(gates, grid, orientations, lanes, keep)

    def run(gates: Array) -> Array:
        return _call("pairs", kernel, gates, outputs=[_between(gates, cells)], interpret=interpret)

    return run


@functools.cache
def _backward(grid: tuple[int, int], orientations: tuple[int, ...], interpret: bool) -> Callable:
    """[N, O, 8, X, Y] and [N, O, cells, cells] -> [N, O, 8, X, Y]."""
    cells = grid[0] * grid[1]

    def kernel(gates: Any, pairs_bar: Any, gates_bar: Any, lefts: Any, ups: Any) -> None:
        lanes = _lanes()
        inside = lanes < cells

        def keep(cell: Array, left: Array, up: Array) -> None:
            plgpu.store(lefts.at[cell, :], left, mask=inside)
            plgpu.store(ups.at[cell, :], up, mask=inside)

        _go(gates, grid, orientations, lanes, keep)

        def cell_back(cell: Array, right_bar: Array, down_bar: Array) -> tuple[Array, Array]:
            left, up, read_bar = (
                plgpu.load(x.at[cell, :], mask=inside, other=0) for x in (lefts, ups, pairs_bar)
            )
            here = lanes == cell
            terms = {
                _SOURCE_RIGHT: jnp.where(here, right_bar, 0),
                _SOURCE_DOWN: jnp.where(here, down_bar, 0),
                _RL: right_bar * left,
                _DU: down_bar * up,
                _DL: down_bar * left,
                _RU: right_bar * up,
                _LEFT: read_bar * left,
                _UP: read_bar * up,
            }
            for gate, term in terms.items():
                gates_bar[gate, cell] = jnp.sum(term)
            gate = functools.partial(_gate, gates, cell)
            return (
                gate(_RL) * right_bar + gate(_DL) * down_bar + gate(_LEFT) * read_bar,
                gate(_RU) * right_bar + gate(_DU) * down_bar + gate(_UP) * read_bar,
            )

        _go_back(gates.dtype, grid, orientations, cell_back)

    def run(gates: Array, pairs_bar: Array) -> Array:
        N, O, *_ = gates.shape  # noqa: E741
        between = _between(gates, cells)
        blocks = pl.cdiv(cells, LANES)
        bars = (N, O, blocks, len(GATES), cells)
        spec = pl.BlockSpec((None, None, None, *bars[3:]), lambda n, o, b: (n, o, b, 0, 0))
        outputs = [(bars, spec), between, between]
        found = _call("pairs_bar", kernel, gates, pairs_bar, outputs=outputs, interpret=interpret)
        return found[0].sum(2).reshape(gates.shape)

    return run


def _lanes() -> Array:
    """The numbers of the cells that a program is for."""
    return pl.program_id(2) * LANES + jnp.arange(LANES)


def _gate(gates: Any, cell: Array, gate: int) -> Array:
    return gates[gate, cell]


def _go(
    gates: Any,
    grid: tuple[int, int],
    orientations: tuple[int, ...],
    lanes: Array,
    visit: Callable[[Array, Array, Array], None],
) -> None:
    """Goes over all cells in an order of the orientation; `visit` is told what enters each."""
    X, Y = grid
    cell_of = _cell_of(grid, orientations)
    zero = jnp.zeros(LANES, gates.dtype)

    def column(x: Array, lefts: Vectors) -> Vectors:
        up, rights = zero, []
        for y, left in enumerate(lefts):
            cell = cell_of(x, y)
            visit(cell, left, up)
            gate = functools.partial(_gate, gates, cell)
            here = lanes == cell
            written = jnp.where(here, gate(_SOURCE_RIGHT), 0)
            rights.append(gate(_RL) * left + gate(_RU) * up + written)
            up = gate(_DU) * up + gate(_DL) * left + jnp.where(here, gate(_SOURCE_DOWN), 0)
        return tuple(rights)

    jax.lax.fori_loop(0, X, column, (zero,) * Y)


def _go_back(
    dtype: jnp.dtype,
    grid: tuple[int, int],
    orientations: tuple[int, ...],
    visit: Callable[[Array, Array, Array], tuple[Array, Array]],
) -> None:
    """Goes the other way; `visit` turns cotangents of what leaves into those of what enters."""
    X, Y = grid
    cell_of = _cell_of(grid, orientations)
    zero = jnp.zeros(LANES, dtype)

    def column(i: Array, rights_bar: Vectors) -> Vectors:
        down_bar, lefts_bar = zero, []
        for y in reversed(range(Y)):
            left_bar, down_bar = visit(cell_of(X - 1 - i, y), rights_bar[y], down_bar)
            lefts_bar.append(left_bar)
        return tuple(reversed(lefts_bar))

    jax.lax.fori_loop(0, X, column, (zero,) * Y)


def _cell_of(grid: tuple[int, int], orientations: tuple[int, ...]) -> Callable[[Array, int], Array]:
    """The number of the cell at (x, y) as the program's orientation counts."""
    X, Y = grid
    flips = (sum((o >> bit & 1) << i for i, o in enumerate(orientations)) for bit in (0, 1))
    flip_x, flip_y = (jnp.int32(bits) >> pl.program_id(1) & 1 for bits in flips)

    def cell_of(x: Array, y: int) -> Array:
        cell = (x + flip_x * (X - 1 - 2 * x)) * Y + y + flip_y * (Y - 1 - 2 * y)
        return cell.astype(int)  # as the slices of an index are; they have to agree

    return cell_of


def _between(gates: Array, cells: int) -> tuple[tuple[int, ...], pl.BlockSpec]:
    """Shape and blocks of what each pair of cells has."""
    spec = pl.BlockSpec((None, None, cells, LANES), lambda n, o, b: (n, o, 0, b))
    return (*gates.shape[:2], cells, cells), spec


def _call(
    name: str,
    kernel: Callable[..., None],
    gates: Array,
    *arguments: Array,
    outputs: list[tuple[tuple[int, ...], pl.BlockSpec]],
    interpret: bool,
) -> Any:
    """Runs a program for every grid, orientation and block of lanes; one warp each."""
    N, O, kinds, X, Y = gates.shape  # noqa: E741
    gates = gates.reshape(N, O, kinds, X * Y)
    between = _between(gates, X * Y)[1]
    gates_spec = pl.BlockSpec((None, None, kinds, X * Y), lambda n, o, b: (n, o, 0, 0))  # noqa: ARG005
    shapes = [varying.result(shape, gates.dtype, gates, *arguments) for shape, _ in outputs]
    found = pl.pallas_call(
        kernel,
        out_shape=shapes,
        grid=(N, O, pl.cdiv(X * Y, LANES)),
        in_specs=[gates_spec, *[between for _ in arguments]],
        out_specs=[spec for _, spec in outputs],
        compiler_params=plgpu.CompilerParams(num_warps=1, num_stages=1),
        interpret=interpret,
        name=f"plstm_2d_{name}",
    )(gates, *arguments)
    return found if len(found) > 1 else found[0]
