"""Tasks that are answered with a sequence: what they share."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from tasks.base import Lengths, SymbolTask, check_choice

EMPTY, ACT = "_", "!"
"""What stands where an answer is to be given, and what opens the answer in the SLiCE data."""

CONVENTIONS = ("chomsky", "slice")


@dataclass(frozen=True)
class SequenceTask(SymbolTask):
    """A source of symbols, then room for an answer, one symbol of it at each position.

    Both published ways to lay such a task out are here; a task says where they differ in more.

    - "chomsky", Delétang et al.: `length` counts the source. It is followed by as many empty
      symbols `_` as the answer may have, and the answer is read there.
    - "slice", Walker et al. after Beck et al.: `length` counts source and answer, so a source has
      `ceil(length / 2)` symbols (an odd length is one longer). The first answering position holds
      `!`, the others `_`.

    The answer begins at the first `!` or `_` of a row, wherever that is.

    Args:
        convention: "chomsky" or "slice".
    """

    convention: str = field(default="chomsky", kw_only=True)

    per_token: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_choice("convention", self.convention, CONVENTIONS)

    @property
    @abc.abstractmethod
    def source(self) -> tuple[str, ...]:
        """The symbols that sources are made of."""

    @abc.abstractmethod
    def _question(self, key: Array, sizes: Array, width: int) -> Array:
        """Sources `[B, width]` of given sizes; what stands behind them does not matter."""

    @abc.abstractmethod
    def _answer(self, source: Array, sizes: Array) -> tuple[Array, Array]:
        """Answer a source.

        Args:
            source: int32 `[B, W]`, 0 behind a row's size; W has room for source and answer.
            sizes: int32 `[B]`, number of symbols of each source.

        Returns:
            int32 `[B, W]`, the answer from position 0 on; and int32 `[B]`, how many of its symbols
            are scored.
        """

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Symbols of the source, then `!` in the SLiCE data, then `_`."""
        return (*self.source, *((ACT,) if self._acts else ()), EMPTY)

    @property
    def _acts(self) -> bool:
        return self.convention == "slice"

    def _sizes(self, lengths: Lengths) -> Lengths:
        """Number of symbols of a source."""
        return (lengths + 1) // 2 if self._acts else lengths

    def _answers(self, sizes: Lengths) -> Lengths:
        """Number of positions that an answer to a source takes."""
        return sizes

    def _ends(self, lengths: Lengths) -> Lengths:
        sizes = self._sizes(lengths)
        return sizes + self._answers(sizes)

    def _draw(self, key: Array, lengths: Array, width: int) -> Array:
        sizes = self._sizes(lengths)[:, None]
        here, empty = jnp.arange(width, dtype=jnp.int32), len(self.vocabulary) - 1
        first = empty - 1 if self._acts else empty
        answering = jnp.where(here == sizes, first, empty)
        return jnp.where(here < sizes, self._question(key, sizes[:, 0], width), answering)

    def _label(self, tokens: Array, lengths: Array) -> tuple[Array, Array]:
        del lengths  # rows say themselves where their answer begins
        place = jnp.arange(tokens.shape[1], dtype=jnp.int32)
        behind = tokens >= len(self.source)
        sizes = jnp.where(behind.any(1), behind.argmax(1), tokens.shape[1]).astype(jnp.int32)
        asked = jnp.where(place < sizes[:, None], tokens, 0)
        answer, count = self._answer(asked, sizes)
        place = place - sizes[:, None]
        there = (place >= 0) & (place < self._answers(sizes)[:, None])
        return jnp.where(there, pick(answer, place), 0), there & (place < count[:, None])


def pick(values: Array, index: Array) -> Array:
    """`values[b, index[b, t]]`; any value where the index leaves the row."""
    index = jnp.clip(index, 0, values.shape[1] - 1)
    return jnp.take_along_axis(values, index, axis=1)
