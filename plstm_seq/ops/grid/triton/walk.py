"""How a program of the kernels goes over the columns of a grid, for some cells that read.

The columns of these cells are the program's *own*. They read from their own columns and those
before: a program goes from its last own column back to the first of all, and returns.
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
"""Cells of a program."""


def is_leftward(orientation: int) -> bool:
    """Whether its first column is the grid's last."""
    return bool(orientation & 1)


def is_upward(orientation: int) -> bool:
    """Whether its first row is the grid's last."""
    return bool(orientation & 2)


@dataclass(frozen=True)
class Grid:
    """A grid as the kernels have it.

    Attributes:
        X: columns.
        Y: rows.
        orientations: what is summed over.
        least_rows: of a matrix; those that the grid lacks are filled up.
    """

    X: int
    Y: int
    orientations: tuple[int, ...]
    least_rows: int

    @functools.cached_property
    def rows(self) -> int:
        """Rows of a matrix, a power of two."""
        return max(self.least_rows, 1 << (self.Y - 1).bit_length())

    @property
    def cells(self) -> int:
        """Cells of the grid."""
        return self.X * self.Y

    @property
    def blocks(self) -> int:
        """Programs of a grid."""
        return -(-self.cells // LANES)

    def indices(self, leftward: bool) -> list[int]:
        """Which orientations of the axis O go one way."""
        return [i for i, o in enumerate(self.orientations) if is_leftward(o) == leftward]


class Block:
    """The lanes of a program."""

    def __init__(self, grid: Grid, number: Array):
        self._grid = grid
        self.lanes = number * LANES + jnp.arange(LANES, dtype=jnp.int32)
        self._first = number * LANES // grid.Y
        last = jnp.minimum(number * LANES + LANES, grid.cells) - 1
        self._end = last // grid.Y + 1

    @property
    def valid(self) -> Array:
        """[rows, lanes]: whether row and lane are both of the grid."""
        rows = jnp.arange(self._grid.rows, dtype=jnp.int32)
        return (rows < self._grid.Y)[:, None] & (self.lanes < self._grid.cells)[None, :]

    def cells(self, x: Array) -> Any:
        """Those of a column, as many as there are rows; of an array's axis X * Y."""
        # Of the type that slices beside it have; they have to agree.
        return pl.ds((x * self._grid.Y).astype(int), self._grid.rows)

    def at(self, x: Array) -> Array:
        """[rows, lanes]: whether a lane is the cell of that row, in one column."""
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
        """Goes from the own columns back to the first, or returns from there.

        Args:
            leftward: whether the orientation's first column is the last.
            visit: of a column, the carry and whether the column is an own one.
            carry: to begin with.
            returning: the other way.
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
