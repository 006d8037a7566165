"""Products of group elements along paths over a grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import Array

from tasks.base import check_choice
from tasks.grid import SymbolGridTask
from tasks.groups import Group, group
from tasks.prefix import prefix_products

_FROM = ("left", "up")


@dataclass(frozen=True)
class GridWordProblem(SymbolGridTask):
    """The product of the group elements that a path over the grid collects.

    *Rule.* With `path="arrows"` each cell holds an element g and the word left or up, the
    neighbour it comes from; its label is that neighbour's label times g, and g alone where the
    neighbour would be outside of the grid. One path leads to each cell, and where it turns is
    part of the input. With `path="rows"` each cell holds an element; the label is the product of
    all cells in the rectangle above and to the left, row by row as one reads.

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

    @property
    def labels(self) -> tuple[str, ...]:
        """All elements of the group."""
        return self._group.elements

    @property
    def _group(self) -> Group:
        return group(self.group)

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
