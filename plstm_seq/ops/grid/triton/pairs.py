"""Gates between all pairs of cells of a grid, and their derivative, as Pallas kernels (Triton).

A program computes the gates to some of the cells, its lanes, and visits the columns that these
cells read from. A matrix has a row for each row of the grid and a column for each lane. README.md,
section 7, explains it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from plstm_seq.ops import varying
from plstm_seq.ops.device import Home
from plstm_seq.ops.grid.triton import walk
from plstm_seq.ops.grid.triton.walk import Block, Grid
from plstm_seq.ops.leading_axes import once, over_leading_axes

Arrays = tuple[Array, ...]
Precision = jax.lax.Precision | jax.lax.DotAlgorithmPreset


class Gates(NamedTuple):
    """The gates of a column, [rows, 1] each, in the order of `inputs.GATES`, then `direct`."""

    source_right: Array
    source_down: Array
    transition_rl: Array
    transition_du: Array
    transition_dl: Array
    transition_ru: Array
    mark_left: Array
    mark_up: Array
    direct: Array


KINDS = len(Gates._fields)
_DOWN = Gates._fields.index("transition_du")
_OWN = Gates._fields.index("mark_left")
"""From this index on, gates lead only to cells of their own column."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def pairs(
    gates: Array, grid: Grid, precision: Precision, interpret: bool, home: Home | None
) -> Array:
    """Returns the gates from every cell to every other, summed over orientations.

    Args:
        gates: [*B, O, 9, X, rows], in the order of `Gates`, zero in padding.
        grid: the size of the grid, and the orientations of the axis O.
        precision: the precision of products of matrices.
        interpret: whether to run interpreted on the CPU.
        home: the platforms that the kernel is compiled for; None: all.

    Returns:
        [*B, X * Y, X * Y], gates from the cell of the second to last axis to that of the last axis.
    """
    return _pairs(gates, grid, precision, interpret, home)[0]


def _pairs(
    gates: Array, grid: Grid, precision: Precision, interpret: bool, home: Home | None
) -> tuple[Array, Array]:
    return _pass(_forward(grid, precision, interpret), home, gates), gates


def _pairs_bar(
    grid: Grid,
    precision: Precision,
    interpret: bool,
    home: Home | None,
    gates: Array,
    found_bar: Array,
) -> tuple[Array]:
    return (_pass(_backward(grid, precision, interpret), home, gates, found_bar),)


pairs.defvjp(_pairs, _pairs_bar)


def _pass(function: Callable, home: Home | None, gates: Array, *arguments: Array) -> Array:
    over_axes = over_leading_axes(function, gates.ndim - 4, home)
    return once(over_axes, "plstm_2d")(gates, *arguments)


@functools.cache
def _forward(grid: Grid, precision: Precision, interpret: bool) -> Callable:
    """Returns a function from gates [N, O, 9, X, rows] to their pairs [N, X * Y, X * Y]."""
    both = all(grid.indices(leftward) for leftward in (False, True))

    def kernel(gates: Any, ways: Any, found: Any) -> None:
        block = Block(grid, pl.program_id(1))
        valid = block.valid
        zero = jnp.zeros(valid.shape, gates.dtype)
        if not both:
            # A single direction does not reach all columns, so the result begins as zeros.
            jax.lax.fori_loop(
                0,
                grid.X,
                lambda x, _: plgpu.store(found.at[block.cells(x), :], zero, mask=valid),
                None,
            )
        for leftward in (False, True):
            indices = grid.indices(leftward)

            def visit(
                x: Array,
                states: Arrays,
                own: bool,
                leftward: bool = leftward,
                indices: list[int] = indices,
            ) -> Arrays:
                total, before = zero, []
                if own and leftward and both:
                    total = plgpu.load(found.at[block.cells(x), :], mask=valid, other=0)
                for i, state in zip(indices, states, strict=True):
                    column = _Column(gates, ways, i, x, block.at(x) if own else None, precision)
                    down = column.down(state)
                    total += column.between(state, down)
                    before.append(column.before(state, down))
                plgpu.store(found.at[block.cells(x), :], total, mask=valid)
                return tuple(before)

            if indices:
                _barrier(interpret)
                block.go(leftward, visit, tuple(zero for _ in indices))

    def run(gates: Array) -> Array:
        N, *_ = gates.shape
        cells = grid.cells + _beyond(grid, interpret)
        found = jax.ShapeDtypeStruct((N, cells, grid.cells), gates.dtype)
        arguments = [(x, _whole(x)) for x in (gates, _ways_between(gates, grid))]
        outputs = [(found, _of_lanes(found))]
        return _call("pairs", kernel, grid, arguments, outputs, interpret)[0][:, : grid.cells]

    return run


@functools.cache
def _backward(grid: Grid, precision: Precision, interpret: bool) -> Callable:
    """Returns a function from gates [N, O, 9, X, rows] and the pairs' cotangents to the gates'."""
    count = len(grid.orientations)
    leftward_bits = sum(walk.is_leftward(o) << i for i, o in enumerate(grid.orientations))

    def kernel(gates: Any, ways: Any, found_bar: Any, gates_bar: Any, kept: Any) -> None:
        block = Block(grid, pl.program_id(1))
        valid = block.valid
        zero = jnp.zeros(valid.shape, gates.dtype)

        def of_orientation(i: Array, _: None) -> None:
            leftward = (jnp.int32(leftward_bits) >> i & 1) == 1

            def column_of(x: Array, own: bool) -> _Column:
                return _Column(gates, ways, i, x, block.at(x) if own else None, precision)

            def keep(x: Array, state: Array, own: bool) -> Array:
                kept[x] = state
                column = column_of(x, own)
                return column.before(state, column.down(state))

            def visit(x: Array, before_bar: Array, own: bool) -> Array:
                state = kept[x]
                between_bar = plgpu.load(found_bar.at[block.cells(x), :], mask=valid, other=0)
                column = column_of(x, own)
                down = column.down(state)
                state_bar, terms = column.bar(state, down, before_bar, between_bar)
                for kind, term in enumerate(terms):
                    gates_bar[i, kind, x] = term.sum(1)
                return state_bar

            # Threads read states that other threads have kept. The barriers make sure that the last
            # orientation's states were read before new ones replace them, and that all states are
            # kept before any of them is read.
            _barrier(interpret)
            block.go(leftward, keep, zero)
            _barrier(interpret)
            block.go(leftward, visit, zero, returning=True)

        jax.lax.fori_loop(0, count, of_orientation, None)

    def run(gates: Array, found_bar: Array) -> Array:
        def of_program(*shape: int) -> tuple[jax.ShapeDtypeStruct, pl.BlockSpec]:
            spec = pl.BlockSpec((None, None, *shape), lambda n, b: (n, b, *(0 for _ in shape)))
            return jax.ShapeDtypeStruct((N, grid.blocks, *shape), gates.dtype), spec

        N, *each = gates.shape
        arguments = [(x, _whole(x)) for x in (gates, _ways_between(gates, grid))]
        beyond = _beyond(grid, interpret)
        found_bar = jnp.pad(found_bar, ((0, 0), (0, beyond), (0, 0))) if beyond else found_bar
        arguments.append((found_bar, _of_lanes(found_bar)))
        outputs = [of_program(*each), of_program(grid.X, grid.rows, walk.LANES)]
        gates_bar, _ = _call("pairs_bar", kernel, grid, arguments, outputs, interpret)
        return jnp.where(_written(grid), gates_bar, 0).sum(1)

    return run


class _Column:
    """A column of an orientation: it maps gates from the border after it to the border before it.

    A *state* has the gates from the border after a column to the lanes, [rows, lanes].
    """

    def __init__(
        self,
        gates: Any,
        ways: Any,
        i: int | Array,
        x: Array,
        at: Array | None,
        precision: Precision,
    ):
        """Loads the gates of the column.

        Args:
            gates: [O, 9, X, rows].
            ways: products of transitions between rows, [O, X, rows, rows].
            i: the index of the orientation.
            x: the index of the column.
            at: [rows, lanes], true for lanes that are cells of the column; None: there are none.
            precision: the precision of products.
        """
        self._gates = Gates(*(gates[i, kind, x][:, None] for kind in range(KINDS)))
        self._ways = ways[i, x]
        self._at, self._precision = at, precision

    def down(self, state: Array) -> Array:
        """Returns the gates from the state that enters each row from above to the lanes."""
        up = state * self._gates.transition_ru
        if self._at is not None:
            up += jnp.where(self._at, self._gates.mark_up, 0)
        return self._dot(up, 0)

    def between(self, state: Array, down: Array) -> Array:
        """Returns the gates from the cells of the column to the lanes."""
        between = state * self._gates.source_right + down * self._gates.source_down
        return between if self._at is None else between + jnp.where(self._at, self._gates.direct, 0)

    def before(self, state: Array, down: Array) -> Array:
        """Returns the gates from the border before the column to the lanes."""
        before = state * self._gates.transition_rl + down * self._gates.transition_dl
        if self._at is None:
            return before
        return before + jnp.where(self._at, self._gates.mark_left, 0)

    def bar(
        self, state: Array, down: Array, before_bar: Array, between_bar: Array
    ) -> tuple[Array, Arrays]:
        """Computes the cotangents of the state and of the gates.

        Args:
            state: the state of the forward pass.
            down: the result of `down(state)`.
            before_bar: the cotangent of `before(state, down)`.
            between_bar: the cotangent of `between(state, down)`.

        Returns:
            The cotangent of the state, and those of the gates before they are summed over lanes.
            If the column has no lanes, the gates from `_OWN` on are left out.
        """
        gates = self._gates
        down_bar = between_bar * gates.source_down + before_bar * gates.transition_dl
        up_bar = self._dot(down_bar, 1)
        state_bar = (
            between_bar * gates.source_right
            + before_bar * gates.transition_rl
            + up_bar * gates.transition_ru
        )
        terms = (
            state * between_bar,
            down * between_bar,
            state * before_bar,
            down * up_bar,
            down * before_bar,
            state * up_bar,
        )
        if self._at is not None:
            terms += tuple(jnp.where(self._at, x, 0) for x in (before_bar, up_bar, between_bar))
        return state_bar, terms

    def _dot(self, matrix: Array, axis: int) -> Array:
        """Multiplies the ways by a matrix, summing over one axis of the ways."""
        contracted = ((axis,), (0,)), ((), ())
        return jax.lax.dot_general(self._ways, matrix, contracted, precision=self._precision)


def _barrier(interpret: bool) -> None:
    if not interpret:
        plgpu.debug_barrier()


def _ways_between(gates: Array, grid: Grid) -> Array:
    """Multiplies transitions between two rows, [N, O, 9, X, rows] -> [N, O, X, rows, rows].

    The way leads from the row of the last axis to the row of the axis before it. It is zero unless
    the second row is below the first one in the orientation.
    """
    to, origin = jnp.arange(grid.rows)[:, None], jnp.arange(grid.rows)
    ahead = jnp.stack(
        [to < origin if walk.is_upward(o) else to > origin for o in grid.orientations]
    )
    downs = gates[:, :, _DOWN, :, :, None, None]
    ways = jnp.where(ahead[:, None], jnp.ones_like(downs[:, :, :, 0]), 0)
    for row in range(1, grid.Y - 1):
        inside = (jnp.minimum(to, origin) < row) & (row < jnp.maximum(to, origin))
        ways = jnp.where(inside, ways * downs[:, :, :, row], ways)
    return ways


def _written(grid: Grid) -> Array:
    """Returns [blocks, O, 9, X, 1], true for cotangents of gates that a program computes."""
    block, x = jnp.arange(grid.blocks)[:, None], jnp.arange(grid.X)
    first = block * walk.LANES // grid.Y
    last = (jnp.minimum(block * walk.LANES + walk.LANES, grid.cells) - 1) // grid.Y
    own = (first <= x) & (x <= last)
    of_orientation = [x >= first if walk.is_leftward(o) else x <= last for o in grid.orientations]
    kinds = [[own if k >= _OWN else reached for k in range(KINDS)] for reached in of_orientation]
    return jnp.moveaxis(jnp.array(kinds), 2, 0)[..., None]


def _beyond(grid: Grid, interpret: bool) -> int:
    """Returns how many cells to append, since a matrix may have more rows than the last column.

    The kernels mask these cells. Without them the interpreter would move a slice that reaches
    beyond the end.
    """
    return grid.rows - grid.Y if interpret else 0


def _of_lanes(array: Any) -> pl.BlockSpec:
    """Returns the blocks of an array [N, cells, X * Y], with one group of lanes in each."""
    return pl.BlockSpec((None, array.shape[1], walk.LANES), lambda n, b: (n, 0, b))


def _whole(array: Any) -> pl.BlockSpec:
    shape = array.shape[1:]
    return pl.BlockSpec((None, *shape), lambda n, b: (n, *(0 for _ in shape)))  # noqa: ARG005


def _call(
    name: str,
    kernel: Callable[..., None],
    grid: Grid,
    arguments: list[tuple[Array, pl.BlockSpec]],
    outputs: list[tuple[jax.ShapeDtypeStruct, pl.BlockSpec]],
    interpret: bool,
) -> Arrays:
    """Runs a program per block and grid; it has one warp, so that sums need no barrier."""
    arrays = [array for array, _ in arguments]
    return pl.pallas_call(
        kernel,
        out_shape=[varying.result(x.shape, x.dtype, *arrays) for x, _ in outputs],
        grid=(arrays[0].shape[0], grid.blocks),
        in_specs=[spec for _, spec in arguments],
        out_specs=[spec for _, spec in outputs],
        compiler_params=plgpu.CompilerParams(num_warps=1, num_stages=1),
        interpret=interpret,
        name=f"plstm_2d_{name}",
    )(*arrays)
