"""Multi-query associative recall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from tasks.base import Batch, SymbolTask, inside
from tasks.options import MOST_SYMBOLS, check_at_least, check_choice
from tasks.sequences import pick


@dataclass(frozen=True)
class MQAR(SymbolTask):
    """Which value came with a key? A control: no state has to be tracked, much to be remembered.

    *Rule.* A row begins with pairs of a key and its value. Where one of these keys stands again
    after the pairs, the label is its value; other positions have no label.

    *Alphabet.* `.`, keys k0, k1, ..., values v0, v1, .... A row has different keys and different
    values, both uniform. Every key is asked for once, at an even distance 2 g from the end of the
    pairs, where the gaps g of a row differ and g is drawn with a probability proportional to
    `(g + 1)^(power - 1)`. All else is random symbols (other than the keys of the row), or `.`. A
    row of length L has at most L / 4 pairs.

    *Example.*

        input   k2 v5 k0 v1 k0 . k2 .
        label               v1   v5

    *Chance.* One over the number of values.

    *Source.* Arora et al., Zoology: Measuring and Improving Recall in Efficient Language Models,
    arXiv 2312.04927: 8192 symbols (`keys=4095`, `values=4096`), 4 to 64 pairs at lengths 64 to 512.
    Random symbols there may happen to be keys of the row, and are not scored.

    Args:
        pairs: Largest number of pairs in a row, at least 1.
        keys: Number of keys, at least `pairs`.
        values: Number of values, at least `pairs` and 2.
        power: Exponent of the power law of gaps, above 0; 1 makes them uniform.
        filler: What stands where nothing is asked for: "random" symbols or "blank".

    Raises:
        ValueError: If an option leaves its range.

    Example:
        >>> import tasks
        >>> task = tasks.MQAR(pairs=2, keys=4, values=8)
        >>> inputs = [task.encode("k2 v5 k0 v1 k0 . k2 .")]
        >>> [task.labels[label] for label in task.targets(inputs)[task.scored(inputs)]]
        ['v1', 'v5']
    """

    pairs: int = 8
    keys: int = 64
    values: int = 64
    power: float = 0.01
    filler: str = "random"

    name: ClassVar[str] = "mqar"
    per_token: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_at_least("pairs", self.pairs, 1, MOST_SYMBOLS)
        check_at_least("keys", self.keys, self.pairs, MOST_SYMBOLS)
        check_at_least("values", self.values, max(self.pairs, 2), MOST_SYMBOLS)
        check_choice("filler", self.filler, ("random", "blank"))
        if not self.power > 0:
            raise ValueError(f"power must be above 0, got {self.power}")

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Blank, keys, values."""
        return (".", *(f"k{key}" for key in range(self.keys)), *self.labels)

    @property
    def labels(self) -> tuple[str, ...]:
        """Values."""
        return tuple(f"v{value}" for value in range(self.values))

    def sample(
        self, key: Array, batch: int, length: int, *, lengths: ArrayLike | None = None
    ) -> Batch:
        """Draw a batch: see `SymbolTask.sample`.

        Raises:
            ValueError: Also if not even one pair and its query fit the length.
        """
        check_at_least("length", length, 4)
        return super().sample(key, batch, length, lengths=lengths)

    def _count(self, lengths: Array) -> Array:
        """Number of pairs in a row: int32 `[B, 1]`."""
        return jnp.minimum(self.pairs, lengths // 4)[:, None]

    def _most(self, width: int) -> int:
        return max(1, min(self.pairs, width // 4))

    def _draw(self, key: Array, lengths: Array, width: int) -> Array:
        batch, most = len(lengths), self._most(width)
        key_key, value_key, gap_key, filler_key = jax.random.split(key, 4)
        count, here = self._count(lengths), jnp.arange(width, dtype=jnp.int32)
        keys = 1 + _distinct(key_key, batch, self.keys, most)
        values = 1 + self.keys + _distinct(value_key, batch, self.values, most)
        pairs = jnp.stack([keys, values], axis=2).reshape(batch, 2 * most)

        # Gumbel noise: the largest of log p + noise are a draw without replacement.
        slots = jnp.arange(max(width // 2, most), dtype=jnp.int32)
        space = (lengths[:, None] - 2 * count) // 2
        noise = jax.random.gumbel(gap_key, (batch, len(slots)), jnp.float32)
        weight = (self.power - 1) * jnp.log(slots + 1.0).astype(jnp.float32) + noise
        gaps = jax.lax.top_k(jnp.where(slots < space, weight, -jnp.inf), most)[1]
        places = jnp.where(jnp.arange(most) < count, 2 * (count + gaps), width)

        tokens = jnp.zeros((batch, width), jnp.int32)
        if self.filler == "random":
            tokens = jax.random.randint(
                filler_key, (batch, width), 0, len(self.vocabulary), jnp.int32
            )
            known = jnp.where(jnp.arange(most) < count, keys, -1)
            tokens = jnp.where((tokens[:, :, None] == known[:, None]).any(2), 0, tokens)
        tokens = tokens.at[jnp.arange(batch)[:, None], places].set(keys, mode="drop")
        return jnp.where(
            here < 2 * count, pick(pairs, jnp.broadcast_to(here, tokens.shape)), tokens
        )

    def _label(self, tokens: Array, lengths: Array) -> tuple[Array, Array]:
        batch, width = tokens.shape
        count, number = self._count(lengths), jnp.arange(self._most(width), dtype=jnp.int32)
        places = jnp.broadcast_to(2 * number, (batch, len(number)))
        same = (tokens[:, :, None] == pick(tokens, places)[:, None]) & (number < count)[:, None]
        asked = same.argmax(2).astype(jnp.int32)
        behind = inside(lengths, width) & (jnp.arange(width) >= 2 * count)
        scored = behind & same.any(2)
        value = pick(tokens, 2 * asked + 1) - 1 - self.keys
        return jnp.where(scored, value, 0), scored


def _distinct(key: Array, batch: int, size: int, count: int) -> Array:
    """Uniform draws without replacement of `count` numbers below `size`: int32 `[batch, count]`."""
    noise = jax.random.uniform(key, (batch, size), jnp.float32)
    return jax.lax.top_k(noise, count)[1]
