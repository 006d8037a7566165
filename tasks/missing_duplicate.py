"""A string written twice, with one symbol hidden."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from tasks.base import MOST_SYMBOLS, Lengths, SymbolTask, at_end, check_at_least, check_choice
from tasks.sequences import CONVENTIONS, pick


@dataclass(frozen=True)
class MissingDuplicate(SymbolTask):
    """Which symbol of a string that is written twice is hidden?

    *Rule.* Where `?` stands in one copy, the other has the label. It is asked for at the last
    position of a row.

    *Alphabet.* Digits, drawn uniformly; `?` for the hidden symbol, at a uniform place of either
    copy; `_`, which fills up odd lengths. Labels are the digits. (An input of length 1 is `1`.)

    *Example.*

        input   0 1 1 0 ? 1
        label             1

    *The other source* (`convention="slice"`): `?` is always in the second copy, and its label is
    asked for where it stands; odd lengths are one longer.

    *Chance.* One over the number of symbols.

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098, with
    two symbols; Walker et al., arXiv 2505.17761.

    Args:
        symbols: Size of the alphabet, at least 2.
        convention: "chomsky" or "slice"; `length` counts both copies in either.
    """

    symbols: int = 2
    convention: str = field(default="chomsky", kw_only=True)

    name: ClassVar[str] = "missing_duplicate"
    per_token: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_at_least("symbols", self.symbols, 2, MOST_SYMBOLS)
        check_choice("convention", self.convention, CONVENTIONS)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Digits, hidden, and what fills up odd lengths."""
        return (*self.labels, "?") if self._second else (*self.labels, "?", "_")

    @property
    def labels(self) -> tuple[str, ...]:
        """Digits."""
        return tuple(map(str, range(self.symbols)))

    @property
    def chance(self) -> float:
        """The accuracy of a guess among all symbols."""
        return 1 / self.symbols

    @property
    def _second(self) -> bool:
        return self.convention == "slice"

    def _ends(self, lengths: Lengths) -> Lengths:
        return lengths + lengths % 2 if self._second else lengths

    def _half(self, lengths: Array) -> Array:
        return self._ends(lengths)[:, None] // 2

    def _draw(self, key: Array, lengths: Array, width: int) -> Array:
        digit_key, place_key = jax.random.split(key)
        here, half = jnp.arange(width, dtype=jnp.int32), self._half(lengths)
        digits = jax.random.randint(digit_key, (len(lengths), width), 0, self.symbols, jnp.int32)
        tokens = pick(digits, here % jnp.maximum(half, 1))
        if not self._second:
            tokens = jnp.where(here < 2 * half, tokens, self.symbols + 1)
            tokens = jnp.where(half == 0, 1, tokens)
        first = half if self._second else jnp.zeros_like(half)
        hidden = jax.random.randint(place_key, half.shape, first, jnp.maximum(2 * half, 1))
        return jnp.where((here == hidden) & (half > 0), self.symbols, tokens).astype(jnp.int32)

    def _label(self, tokens: Array, lengths: Array) -> tuple[Array, Array]:
        half, hidden = self._half(lengths), tokens == self.symbols
        place = hidden.argmax(1)[:, None].astype(jnp.int32)
        other = jnp.where(place < half, place + half, place - half)
        label = pick(tokens, jnp.where(half > 0, other, 0))
        scored = hidden if self._second else at_end(lengths, tokens.shape[1])
        return jnp.where(scored, label, 0), scored
