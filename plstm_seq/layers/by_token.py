"""Values that depend on a token alone: they are computed once per vocabulary entry.

The first block of a model reads embeddings. Up to its mixer's op it treats every position by
itself, so that with a small vocabulary a table of all entries is cheaper than a value for each
position: two rows instead of 2,560 for a batch of 64 bit strings of length 40.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

_MOST_ENTRIES = 256
"""With more, the backward pass's one-hot product takes longer than a table saves on a CPU."""


def pays(entries: int, positions: int) -> bool:
    """Whether a table of `entries` rows is worth making for this number of positions.

    It is not if the number is not known yet, as in an exported program for any batch size.
    """
    known = isinstance(positions, int)
    return known and entries <= _MOST_ENTRIES and 2 * entries <= positions


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ByToken:
    """A table, and the number of the row that stands at each position.

    Attributes:
        table: [V, ...], one row for each vocabulary entry. After a `map` by a function that returns
            a tree, it is a tree of such arrays.
        tokens: the row at each position, below V: [B, T], or [B] for a single step.
        names: [V], the token of each row; None: row v is that of token v.
    """

    table: Any
    tokens: Int[Array, "*B"]
    names: Int[Array, " V"] | None = None

    @property
    def token_of_row(self) -> Int[Array, " V"]:
        """The token of each row."""
        return jnp.arange(len(self.table)) if self.names is None else self.names

    @property
    def token_at_position(self) -> Int[Array, "*B"]:
        """The token at each position, in the shape of `tokens`."""
        return self.tokens if self.names is None else self.names[self.tokens]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values at the positions, [B, T, ...]."""
        return (*self.tokens.shape, *self.table.shape[1:])

    @property
    def dtype(self) -> DTypeLike:
        """The type of the values."""
        return self.table.dtype

    def map(self, function: Callable[[Any], Any]) -> "ByToken":
        """Apply a function of single vectors, which maps [..., D] to arrays [..., other axes]."""
        return ByToken(function(self.table), self.tokens, self.names)

    def astype(self, dtype: DTypeLike) -> "ByToken":
        """Convert the table."""
        return self.map(lambda rows: rows.astype(dtype))

    def expand(self) -> Any:
        """Return the values at the positions, [B, T, ...]."""
        return jax.tree.map(lambda rows: rows_at(rows, self.tokens), self.table)


def apply(function: Callable[[Array], Array], x: Array | ByToken) -> Any:
    """Apply a function of single vectors to an array or to a table."""
    return x.map(function) if isinstance(x, ByToken) else function(x)


def at_positions(x: Array | ByToken) -> Array:
    """Return the values at the positions, [B, T, ...], of an array or of a table."""
    return x.expand() if isinstance(x, ByToken) else x


@jax.custom_jvp
def rows_at(table: Float[Array, "V *D"], tokens: Int[Array, "*B"]) -> Float[Array, "..."]:
    """Return the rows of a table at tokens; they are NaN for tokens outside of the table.

    The backward pass is a product with one-hot rows. A scatter would be slow, because all positions
    would write to very few places.
    """
    return jnp.take(table, tokens, axis=0)


@rows_at.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Any]) -> tuple[Array, Array]:
    (table, tokens), (change, _) = primals, tangents
    places = jax.nn.one_hot(tokens, table.shape[0], dtype=table.dtype)
    rows = jnp.tensordot(places, change, axes=1, precision=jax.lax.Precision.HIGHEST)
    return rows_at(table, tokens), rows
