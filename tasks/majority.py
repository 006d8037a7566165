"""The most frequent symbol of a string, and how often it occurs."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tasks.base import LONG, SymbolTask, at_end, inside
from tasks.options import MOST_SYMBOLS, check_at_least


@dataclass(frozen=True)
class CountedTask(SymbolTask):
    """A question about how often the symbols of a uniform string occur.

    Args:
        symbols: Size of the alphabet, at least 2.
    """

    symbols: int = 63

    per_token: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_at_least("symbols", self.symbols, 2, MOST_SYMBOLS)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Numbers 0 .. symbols - 1."""
        return tuple(map(str, range(self.symbols)))

    def _draw(self, key: Array, lengths: Array, width: int) -> Array:
        return jax.random.randint(key, (len(lengths), width), 0, self.symbols, jnp.int32)

    def _counts(self, tokens: Array, lengths: Array) -> Array:
        """How often the symbol at each position occurs in its row; 0 behind the row."""
        batch, width = tokens.shape
        rows, real = jnp.arange(batch)[:, None], inside(lengths, width)
        counts = (
            jnp.zeros((batch, self.symbols), jnp.int32).at[rows, tokens].add(real.astype(jnp.int32))
        )
        return jnp.where(real, counts[rows, tokens], 0)


@dataclass(frozen=True)
class Majority(CountedTask):
    """Which symbol is the most frequent?

    *Rule.* The label at a row's last position is the symbol that occurs most often in the row; of
    several, the one that comes first. Other positions have none.

    *Alphabet.* 63 symbols, drawn uniformly; labels are the symbols.

    *Example.*

        input   7 1 6 1 7 7 2 1
        label                 7

    *Chance.* One over the number of symbols.

    *Source.* Beck et al., xLSTM, arXiv 2405.04517; ties as in Walker et al., arXiv 2505.17761.

    Args:
        symbols: Size of the alphabet, at least 2.

    Example:
        >>> import tasks
        >>> tasks.Majority(symbols=8).targets([[7, 1, 6, 1, 7, 7, 2, 1]])[0, -1].item()
        7
    """

    name: ClassVar[str] = "majority"

    @property
    def labels(self) -> tuple[str, ...]:
        """The symbols."""
        return self.vocabulary

    def _label(self, tokens: Array, lengths: Array) -> tuple[Array, Array]:
        place = self._counts(tokens, lengths).argmax(1)[:, None]
        symbol = jnp.take_along_axis(tokens, place, axis=1)
        last = at_end(lengths, tokens.shape[1])
        return jnp.where(last, symbol, 0), last


@dataclass(frozen=True)
class MajorityCount(CountedTask):
    """How often does the most frequent symbol occur?

    *Rule.* The label at a row's last position is that number, or the largest label if it is above
    it. Other positions have none.

    *Alphabet.* 63 symbols, drawn uniformly; labels 1 .. 64.

    *Example.*

        input   7 1 6 1 7 7 2 1
        label                 3

    *Chance.* Frequency of the most frequent label at length 128, computed exactly.

    *Source.* Beck et al., xLSTM, arXiv 2405.04517; Walker et al., arXiv 2505.17761.

    Args:
        symbols: Size of the alphabet, at least 2.
        most: The largest label, at least 2.

    Example:
        >>> import tasks
        >>> task = tasks.MajorityCount(symbols=8)
        >>> label = task.targets([[7, 1, 6, 1, 7, 7, 2, 1]])[0, -1]
        >>> task.labels[label]
        '3'
    """

    most: int = 64

    name: ClassVar[str] = "majority_count"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("most", self.most, 2, MOST_SYMBOLS)

    @property
    def labels(self) -> tuple[str, ...]:
        """Numbers 1 .. most."""
        return tuple(map(str, range(1, self.most + 1)))

    @functools.cached_property
    def chance(self) -> float:
        """Frequency of the most frequent label at length 128."""
        return float(self.label_frequencies(LONG).max())

    def label_frequencies(self, length: int) -> np.ndarray:
        """How often each label occurs at a length, exactly: float64 `[most]`.

        Strings in which no symbol occurs more than m times are counted by their exponential
        generating function, `length! [z^length] (1 + z + z^2 / 2! + ... + z^m / m!)^symbols`.
        """
        below = [self._at_most(m, length) for m in range(self.most)] + [1.0]
        return np.diff(below)

    def _at_most(self, count: int, length: int) -> float:
        terms = np.array([1 / math.factorial(k) for k in range(min(count, length) + 1)])
        # With z in units of length / symbols every coefficient stays near 1.
        scale = length / self.symbols
        terms *= scale ** np.arange(len(terms)) * math.exp(-scale)
        power = np.ones(1)
        for _ in range(self.symbols):
            power = np.convolve(power, terms)[: length + 1]
        if len(power) <= length:
            return 0.0
        log = math.lgamma(length + 1) - length * math.log(length) + length
        return float(power[length] * math.exp(log))

    def _label(self, tokens: Array, lengths: Array) -> tuple[Array, Array]:
        count = self._counts(tokens, lengths).max(1)[:, None]
        label = jnp.minimum(count, self.most) - 1
        last = at_end(lengths, tokens.shape[1])
        return jnp.where(last, label, 0), last
