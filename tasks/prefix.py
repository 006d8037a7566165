"""Tasks that label every prefix, whole or in chunks, and the products of prefixes they rest on."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from tasks.base import (
    State,
    SymbolTask,
    at_end,
    check_at_least,
    check_choice,
    inside,
)


@dataclass(frozen=True)
class PrefixTask(SymbolTask):
    """A task in which every position is labelled, and the label depends on the prefix only.

    Args:
        labels_at: Which positions are scored: "every" one, or the "last" of each row as in the
            benchmarks with a single final label. The labels themselves are the same.
    """

    labels_at: str = field(default="every", kw_only=True)

    _places: ClassVar[tuple[str, ...]] = ("every", "last")

    def __post_init__(self) -> None:
        check_choice("labels_at", self.labels_at, self._places)

    @property
    def per_token(self) -> bool:
        """Whether one pass over a long input measures every length."""
        return True

    @property
    def period(self) -> int:
        """`draw` makes chunks whose length is a multiple of this."""
        return 1

    @abc.abstractmethod
    def start(self, batch: int) -> State:
        """State before the first symbol, for `batch` rows: a pytree of arrays `[batch, ...]`."""

    @abc.abstractmethod
    def advance(self, inputs: ArrayLike, state: State) -> tuple[Array, State]:
        """Label the next chunk of a stream.

        Args:
            inputs: Integer `[B, T]`, token ids that follow those the state has seen.
            state: What `start` or the call before returned.

        Returns:
            Labels, int32 `[B, T]`, and the state behind the chunk.
        """

    @abc.abstractmethod
    def _symbols(self, key: Array, batch: int, length: int) -> Array:
        """Inputs `[batch, length]` from the start of a stream."""

    def draw(self, key: Array, batch: int, length: int) -> Array:
        """Draw the inputs of one chunk of a stream.

        Args:
            key: Typed random key, another one for each chunk.
            batch: Number of rows.
            length: Number of symbols, a multiple of `period`.

        Returns:
            int32 `[batch, length]`, token ids.

        Raises:
            ValueError: If a size is below 1 or the length not a multiple of `period`.
        """
        check_at_least("batch", batch, 1)
        check_at_least("length", length, 1)
        if length % self.period:
            raise ValueError(
                f"chunks of this task must have a multiple of {self.period} symbols, got {length}"
            )
        return self._symbols(key, batch, length)

    def _label(self, tokens: Array, lengths: Array) -> tuple[Array, Array]:
        labels, _ = self.advance(tokens, self.start(tokens.shape[0]))
        length = tokens.shape[1]
        return jnp.where(inside(lengths, length), labels, 0), self._scored(lengths, length)

    def _draw(self, key: Array, lengths: Array, width: int) -> Array:
        return self._symbols(key, lengths.shape[0], width)

    def _scored(self, lengths: Array, length: int) -> Array:
        """The scored positions, bool `[B, length]`."""
        return (at_end if self.labels_at == "last" else inside)(lengths, length)


def prefix_products(table: np.ndarray, elements: Array) -> Array:
    """Products of all prefixes in a finite monoid.

    One associative scan over gathers from the table: logarithmic depth where that counts (GPU),
    and on a CPU as fast as a loop over time.

    Args:
        table: Integer `[N, N]`; `table[a, b]` is the product `a b`.
        elements: int32 `[B, T]`, element ids.

    Returns:
        int32 `[B, T]`, ids of `elements[:, 0] ... elements[:, t]`.
    """
    products = jnp.asarray(table, jnp.int32)
    return jax.lax.associative_scan(lambda a, b: products[a, b], elements, axis=1)
