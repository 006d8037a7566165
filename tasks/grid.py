"""Tasks over images and over grids of symbols: what they are, and those over grids.

Images are those of `tasks.arrow_pointing`.
"""

from __future__ import annotations

import abc
import functools
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from tasks.base import Batch, Bits, Labelled, LabelledSymbols, Numbers, OverSymbols, symbol_ids
from tasks.groups import OfGroup, group
from tasks.options import check_at_least, check_choice, shown
from tasks.prefix import prefix_products

Size = int | tuple[int, int]
"""Rows and columns, X and Y; one number for a square."""

_FROM = ("left", "up")


class ImageBatch(NamedTuple, Generic[Numbers]):
    """Images of one size and their labels, on the device or on the host.

    Attributes:
        images: uint8 `[B, X, Y, 3]`, rows from top to bottom; models read them divided by 255.
        targets: int32 `[B]`, label ids; float32 `[B, classes]` where labels are mixed.
    """

    images: Numbers
    targets: Numbers


@runtime_checkable
class ImageTask(Labelled, Protocol):
    """A task over images: how they are drawn, and the rule that gives each image one label.

    `chance` is the accuracy of always answering the most frequent label.

    Example:
        >>> import tasks
        >>> task: tasks.ImageTask = tasks.get_grid("arrow_pointing")
        >>> task.labels, task.chance
        (('misses', 'hits'), 0.5)
    """

    def sample(self, key: Array, batch: int, size: Size) -> ImageBatch[Array]:
        """Draw a batch, a pure function of the arguments."""
        ...


@runtime_checkable
class GridTask(OverSymbols, Protocol):
    """A task over grids of symbols: how they are drawn, and the rule that labels their cells.

    The label of a cell depends only on that cell and on those above it and to its left.
    `chance` is the accuracy of always answering the most frequent label.

    Example:
        >>> import jax
        >>> import tasks
        >>> task: tasks.GridTask = tasks.get_grid("grid_parity")
        >>> batch = task.sample(jax.random.key(0), batch=2, size=(3, 4))
        >>> batch.inputs.shape, bool((task.targets(batch.inputs) == batch.targets).all())
        ((2, 3, 4), True)
    """

    def sample(self, key: Array, batch: int, size: Size) -> Batch:
        """Draw a batch, a pure function of the arguments."""
        ...

    def targets(self, inputs: ArrayLike) -> Array:
        """Label given inputs `[B, X, Y]`; the function that `sample` itself uses."""
        ...

    def scored(self, inputs: ArrayLike) -> Array:
        """The scored cells of given inputs `[B, X, Y]`, bool; as `sample` itself has them."""
        ...


@dataclass(frozen=True)
class SymbolGridTask(LabelledSymbols):
    """Uniform symbols on a grid and a label at every cell: what the grid tasks share.

    Args:
        labels_at: Score "every" cell or the "last" one of each grid, at the lower right.
    """

    labels_at: str = "every"

    def __post_init__(self) -> None:
        check_choice("labels_at", self.labels_at, ("every", "last"))

    @abc.abstractmethod
    def _label(self, tokens: Array) -> Array:
        """Labels of int32 `[B, X, Y]` symbols."""

    def sample(self, key: Array, batch: int, size: Size) -> Batch:
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
        return Batch(inputs, self.targets(inputs), self.scored(inputs))

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
        return _label(self, symbol_ids(inputs, "B, X, Y"))

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
        shape = symbol_ids(inputs, "B, X, Y").shape
        if self.labels_at == "every":
            return jnp.ones(shape, bool)
        return jnp.zeros(shape, bool).at[:, -1, -1].set(True)


@functools.partial(jax.jit, static_argnums=0)
def _label(task: SymbolGridTask, tokens: Array) -> Array:
    return task._label(tokens)


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


@dataclass(frozen=True)
class GridParity(Bits, SymbolGridTask):
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

    Example:
        >>> import tasks
        >>> tasks.GridParity().targets([[[1, 0, 1], [0, 1, 1], [1, 0, 0]]]).tolist()
        [[[1, 1, 0], [1, 0, 0], [0, 1, 1]]]
    """

    name: ClassVar[str] = "grid_parity"

    def _label(self, tokens: Array) -> Array:
        return jnp.cumsum(jnp.cumsum(tokens, axis=1), axis=2).astype(jnp.int32) % 2


@dataclass(frozen=True)
class GridWordProblem(OfGroup, SymbolGridTask):
    """The product of the group elements that a path over the grid collects.

    *Rule.* With `path="arrows"` each cell holds an element g and the word left or up, which names
    the neighbour before it on the path. The label is that neighbour's label times g, or g alone
    where the neighbour would be outside of the grid. So one path leads to each cell, and the input
    says where it turns. With `path="rows"` each cell holds an element, and its label is the product
    of all cells in the rectangle above and to the left, row by row in the order of reading.

    *Alphabet.* All elements of the group, `left:` or `up:` before them with `path="arrows"`,
    drawn uniformly; labels are all elements. A product `a b` is `table[a, b]` of
    `tasks.groups`: b acts first.

    *Example.* The group S3.

        input   left:(12) left:(23) / up:(13) up:(12) / left:(23) up:e
        label   (12) (123) / (132) (13) / (23) (13)

    *Chance.* One over the number of elements.

    *Source.* The word problem of Merrill et al., The Illusion of State in State-Space Models,
    arXiv 2404.08819, over a grid; the paths are those of the signals in pLSTM, arXiv 2506.11997.

    Args:
        labels_at: Score "every" cell or the "last" one of each grid, at the lower right.
        group: Any that `tasks.groups.group` knows.
        path: "arrows" or "rows", as above.

    Example:
        >>> import tasks
        >>> task = tasks.GridWordProblem(group="Z3", path="rows")
        >>> task.targets([[[1, 2], [0, 1]]]).tolist()
        [[[1, 0], [1, 1]]]
    """

    group: str = "S3"
    path: Literal["arrows", "rows"] = "arrows"

    name: ClassVar[str] = "grid_word_problem"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("path", self.path, ("arrows", "rows"))
        object.__setattr__(self, "group", group(self.group).name)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The elements; each of them first from the left, then from above, if arrows count."""
        if self.path == "rows":
            return self.labels
        return tuple(f"{source}:{element}" for source in _FROM for element in self.labels)

    def _label(self, tokens: Array) -> Array:
        if self.path == "rows":
            rows = self._products(tokens)
            return self._products(rows.swapaxes(1, 2)).swapaxes(1, 2)
        return self._along_arrows(tokens)

    def _products(self, elements: Array) -> Array:
        """Products of the prefixes of each row `[B, X, Y]`."""
        flat = elements.reshape(-1, elements.shape[2])
        return prefix_products(self._group.table, flat).reshape(elements.shape)

    def _along_arrows(self, tokens: Array) -> Array:
        table = jnp.asarray(self._group.table, jnp.int32)
        from_above, element = tokens // self._group.order == 1, tokens % self._group.order

        def then(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
            # A cell that comes from above forgets what is to its left.
            (lost, left), (forgets, right) = first, second
            return lost | forgets, jnp.where(forgets, right, table[left, right])

        def row(above: Array, cells: tuple[Array, Array]) -> tuple[Array, Array]:
            up, own = cells
            entering = jnp.where(up, table[above, own], own)
            labels = jax.lax.associative_scan(then, (up, entering), axis=1)[1]
            return labels, labels

        rows = (from_above.swapaxes(0, 1), element.swapaxes(0, 1))
        above = jnp.zeros_like(element[:, 0])
        return jax.lax.scan(row, above, rows)[1].swapaxes(0, 1)
