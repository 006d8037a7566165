"""Parity of the ones above and to the left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from tasks.grid import SymbolGridTask


@dataclass(frozen=True)
class GridParity(SymbolGridTask):
    """Is the number of ones in the rectangle above and to the left odd?

    *Rule.* The label at row x, column y is the sum of all cells with `x' <= x` and `y' <= y`,
    modulo 2.

    *Alphabet.* 0 and 1, drawn uniformly; labels 0 and 1.

    *Example.*

        input   1 0 1 / 0 1 1 / 1 0 0
        label   1 1 0 / 1 0 0 / 0 1 1

    *Chance.* 1/2.

    *Source.* Parity on a grid instead of a sequence; the group Z2 in `GridWordProblem`.

    Args:
        labels_at: Score "every" cell or the "last" one of each grid, at the lower right.
    """

    name: ClassVar[str] = "grid_parity"

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Bits."""
        return ("0", "1")

    @property
    def labels(self) -> tuple[str, ...]:
        """Even, odd."""
        return ("0", "1")

    def _label(self, tokens: Array) -> Array:
        return jnp.cumsum(jnp.cumsum(tokens, axis=1), axis=2).astype(jnp.int32) % 2
