"""The order in which a program of the kernels visits the columns of a grid.

Each program computes the gates to some of the cells; the columns of these cells are the program's
*own* columns. The cells read from their own and from earlier columns. A program therefore goes from
its last own column back to the first column of the grid, and then returns.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl

Carry = TypeVar("Carry")
LANES = 16
"""The number of cells of a program."""


def is_leftward(orientation: int) -> bool:
    """Returns whether the orientation's first column is the grid's last."""
    return bool(orientation & 1)


def is_upward(orientation: int) -> bool:
    """Returns whether the orientation's first row is the grid's last."""
    return bool(orientation & 2)


@dataclass(frozen=True)
class Grid:
    """A grid as the kernels see it.

    Attributes:
        X: number of columns.
        Y: number of rows.
        orientations: the orientations that are summed.
        least_rows: the smallest number of rows of a matrix; smaller grids are padded.
    """

    X: int
    Y: int
    orientations: tuple[int, ...]
    least_rows: int

    @functools.cached_property
    def rows(self) -> int:
        """Number of rows of a matrix, a power of two."""
        return max(self.least_rows, 1 << (self.Y - 1).bit_length())

    @property
    def cells(self) -> int:
        """Number of cells of the grid."""
        return self.X * self.Y

    @property
    def blocks(self) -> int:
        """Number of programs of a grid."""
        return -(-self.cells // LANES)

    def indices(self, leftward: bool) -> list[int]:
        """Returns the indices of the orientations on the axis O that go this way."""
        return [i for i, o in enumerate(self.orientations) if is_leftward(o) == leftward]


class Block:
    """The cells of a program, which are its lanes."""

    def __init__(self, grid: Grid, number: Array):
        self._grid = grid
        self.lanes = number * LANES + jnp.arange(LANES, dtype=jnp.int32)
        self._first = number * LANES // grid.Y
        last = jnp.minimum(number * LANES + LANES, grid.cells) - 1
        self._end = last // grid.Y + 1

    @property
    def valid(self) -> Array:
        """[rows, lanes], true if both the row and the lane are in the grid."""
        rows = jnp.arange(self._grid.rows, dtype=jnp.int32)
        return (rows < self._grid.Y)[:, None] & (self.lanes < self._grid.cells)[None, :]

    def cells(self, x: Array) -> Any:
        """Returns the slice of a column's cells on an axis X * Y; it has `rows` cells."""
        # All slices of an array need the same integer type.
        return pl.ds((x * self._grid.Y).astype(int), self._grid.rows)

    def at(self, x: Array) -> Array:
        """Returns [rows, lanes], true if the lane is the cell of column `x` in that row."""
        cells = x * self._grid.Y + jnp.arange(self._grid.rows, dtype=jnp.int32)
        return (self.lanes[None, :] == cells[:, None]) & self.valid

    def go(
        self,
        leftward: bool | Array,
        visit: Callable[[Array, Carry, bool], Carry],
        carry: Carry,
        *,
        returning: bool = False,
    ) -> Carry:
        """Visits columns from the last own one back to the first of the grid, or in reverse.

        Args:
            leftward: whether the orientation's first column is the grid's last.
            visit: takes a column, the carry, and whether it is an own column; returns the carry.
            carry: the first carry.
            returning: whether to go from the first column to the last own one.
        """
        leftward = jnp.asarray(leftward)
        before = jnp.where(leftward, self._end, 0), jnp.where(leftward, self._grid.X, self._first)
        parts = [(True, self._first, self._end), (False, *before)]
        ascending = leftward != returning
        for own, low, high in reversed(parts) if returning else parts:

            def step(
                i: Array, carry: Carry, own: bool = own, low: Array = low, high: Array = high
            ) -> Carry:
                return visit(jnp.where(ascending, i, low + high - 1 - i), carry, own)

            carry = jax.lax.fori_loop(low.astype(jnp.int32), high.astype(jnp.int32), step, carry)
        return carry
