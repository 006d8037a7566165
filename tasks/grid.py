"""What a task over images or over grids of symbols is, beside the sequences of `tasks.base`."""

from __future__ import annotations

import abc
import functools
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from tasks.base import Labelled, check_at_least, check_choice, shown

Size = int | tuple[int, int]
"""Rows and columns, X and Y; one number for a square."""


class ImageBatch(NamedTuple):
    """Images and one label each.

    Attributes:
        images: uint8 `[B, X, Y, 3]`, rows downwards; models see them divided by 255.
        targets: int32 `[B]`, label ids.
    """

    images: Array
    targets: Array


class GridBatch(NamedTuple):
    """Grids of symbols.

    Attributes:
        inputs: int32 `[B, X, Y]`, symbol ids.
        targets: int32 `[B, X, Y]`, label ids.
        mask: bool `[B, X, Y]`, the cells that are scored.
    """

    inputs: Array
    targets: Array
    mask: Array


@runtime_checkable
class ImageTask(Labelled, Protocol):
    """Images that are drawn, and the one label that a rule gives each.

    `chance` is the accuracy of always answering the most frequent label.
    """

    def sample(self, key: Array, batch: int, size: Size) -> ImageBatch:
        """Draw a batch, a pure function of the arguments."""
        ...


@runtime_checkable
class GridTask(Labelled, Protocol):
    """Grids of symbols, and the labels that a rule gives their cells.

    A label depends only on the cells above and to the left of its own, this one included.
    `chance` is the accuracy of always answering the most frequent label.
    """

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Input symbols; the index of a symbol is its token id."""
        ...

    def sample(self, key: Array, batch: int, size: Size) -> GridBatch:
        """Draw a batch, a pure function of the arguments."""
        ...

    def targets(self, inputs: ArrayLike) -> Array:
        """Label given inputs `[B, X, Y]`; the function that `sample` itself uses."""
        ...

    def scored(self, inputs: ArrayLike) -> Array:
        """The scored cells of given inputs `[B, X, Y]`, bool; as `sample` itself has them."""
        ...


@dataclass(frozen=True)
class SymbolGridTask(abc.ABC):
    """Uniform symbols on a grid and a label at every cell: what the grid tasks share.

    Args:
        labels_at: Score "every" cell or the "last" one of each grid, at the lower right.
    """

    labels_at: str = "every"

    def __post_init__(self) -> None:
        check_choice("labels_at", self.labels_at, ("every", "last"))

    @property
    @abc.abstractmethod
    def vocabulary(self) -> tuple[str, ...]:
        """Input symbols; the index of a symbol is its token id."""

    @property
    @abc.abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Target symbols; the index of a symbol is its label id."""

    @abc.abstractmethod
    def _label(self, tokens: Array) -> Array:
        """Labels of int32 `[B, X, Y]` symbols."""

    @property
    def chance(self) -> float:
        """Every label is as frequent as any other."""
        return 1 / len(self.labels)

    def sample(self, key: Array, batch: int, size: Size) -> GridBatch:
        """Draw a batch of uniform symbols.

        The batch is a pure function of the arguments; under `jax.jit`, `batch` and `size` are
        static.

        Args:
            key: Typed random key.
            batch: Number of grids, at least 1.
            size: Rows and columns, each at least 1; one number for a square.

        Returns:
            Inputs, targets and mask, each `[batch, X, Y]`.

        Raises:
            ValueError: If a size is below 1.
            TypeError: If one is no integer.
        """
        check_at_least("batch", batch, 1)
        shape = (batch, *resolve_size(size))
        inputs = jax.random.randint(key, shape, 0, len(self.vocabulary), jnp.int32)
        return GridBatch(inputs, self.targets(inputs), self.scored(inputs))

    def targets(self, inputs: ArrayLike) -> Array:
        """Label given inputs: the function that `sample` itself uses.

        Args:
            inputs: Integer `[B, X, Y]`, symbol ids.

        Returns:
            int32 `[B, X, Y]`, label ids.

        Raises:
            ValueError: If the shape is wrong.
            TypeError: If `inputs` aren't integers.
        """
        return _label(self, symbol_grids(inputs))

    def scored(self, inputs: ArrayLike) -> Array:
        """The cells of given inputs that are scored: the mask that `sample` returns.

        Args:
            inputs: Integer `[B, X, Y]`, symbol ids.

        Returns:
            bool `[B, X, Y]`.

        Raises:
            ValueError: If the shape is wrong.
            TypeError: If `inputs` aren't integers.
        """
        shape = symbol_grids(inputs).shape
        if self.labels_at == "every":
            return jnp.ones(shape, bool)
        return jnp.zeros(shape, bool).at[:, -1, -1].set(True)


@functools.partial(jax.jit, static_argnums=0)
def _label(task: SymbolGridTask, tokens: Array) -> Array:
    return task._label(tokens)


def symbol_grids(inputs: ArrayLike) -> Array:
    """Symbol ids as int32 `[B, X, Y]`.

    Raises:
        ValueError: If the inputs don't have three axes.
        TypeError: If they aren't integers.
    """
    array = jnp.asarray(inputs)
    if array.ndim != 3:
        raise ValueError(f"inputs must have shape [B, X, Y], got {array.shape}")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"inputs must be integer symbol ids, got {array.dtype}")
    return array.astype(jnp.int32)


def resolve_size(size: Size, minimum: int = 1) -> tuple[int, int]:
    """Rows and columns of a grid or an image.

    Raises:
        TypeError: If the size is neither an integer nor two of them.
        ValueError: If one is below the minimum.
    """
    if isinstance(size, int | np.integer):
        size = (int(size), int(size))
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise TypeError(f"size must be an integer or (rows, columns), got {shown(size)}")
    for name, value in zip(("rows", "columns"), size, strict=True):
        check_at_least(name, value, minimum)
    return int(size[0]), int(size[1])
