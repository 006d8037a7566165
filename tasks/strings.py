"""Tasks on uniform strings: reverse, repeat, reorder, sort, leave out or find what repeats."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from tasks.base import Numbers, SymbolTask, at_end, inside
from tasks.options import MOST_SYMBOLS, check_at_least, check_choice
from tasks.sequences import CONVENTIONS, SequenceTask, pick


@dataclass(frozen=True)
class StringTask(SequenceTask):
    """A task on strings of `symbols` different symbols, drawn uniformly.

    Args:
        symbols: Size of the alphabet, at least 2.
        convention: "chomsky" or "slice".
    """

    symbols: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("symbols", self.symbols, 2, MOST_SYMBOLS)

    @property
    def source(self) -> tuple[str, ...]:
        """Digits 0 .. symbols - 1."""
        return self.labels

    @property
    def labels(self) -> tuple[str, ...]:
        """The symbols."""
        return tuple(map(str, range(self.symbols)))

    def _question(self, key: Array, sizes: Array, width: int) -> Array:
        return jax.random.randint(key, (len(sizes), width), 0, self.symbols, jnp.int32)


@dataclass(frozen=True)
class ReverseString(StringTask):
    """What is the string from its end to its beginning?

    *Rule.* The answer to `x_0 ... x_(n-1)` is `x_(n-1) ... x_0`.

    *Alphabet.* Digits, drawn uniformly; `_` where the answer is given (and `!` at its first
    position with `convention="slice"`); labels are the digits. See `tasks.sequences` for lengths.

    *Example.*

        input   0 1 1 _ _ _
        label         1 1 0

    *Chance.* One over the number of symbols.

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098, with
    two symbols; Beck et al., xLSTM, arXiv 2405.04517, have ten; Walker et al., arXiv 2505.17761.

    Args:
        symbols: Size of the alphabet, at least 2.
        convention: "chomsky": `length` counts the string. "slice": it counts string and answer.

    Example:
        >>> import tasks
        >>> task = tasks.ReverseString()
        >>> inputs = [task.encode("011___")]
        >>> "".join(task.labels[label] for label in task.targets(inputs)[task.scored(inputs)])
        '110'
    """

    name: ClassVar[str] = "reverse_string"

    def _answer(self, source: Array, sizes: Array) -> tuple[Array, Array]:
        place = jnp.arange(source.shape[1], dtype=jnp.int32)
        return pick(source, sizes[:, None] - 1 - place), sizes


@dataclass(frozen=True)
class DuplicateString(StringTask):
    """What is the string, twice?

    *Rule.* The answer to `w` is `w w`, of twice its length; with `convention="slice"` it is `w`,
    because there the first copy stands over the string itself and is not scored.

    *Alphabet.* Digits, drawn uniformly; `_` where the answer is given (and `!` at its first
    position with `convention="slice"`); labels are the digits. See `tasks.sequences` for lengths.

    *Example.*

        input   0 1 1 _ _ _ _ _ _
        label         0 1 1 0 1 1

    *Chance.* One over the number of symbols.

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098, with
    two symbols; Walker et al., arXiv 2505.17761.

    Args:
        symbols: Size of the alphabet, at least 2.
        convention: "chomsky": `length` counts the string, and the answer is twice as long. "slice":
            it counts string and answer, which are equally long.

    Example:
        >>> import tasks
        >>> task = tasks.DuplicateString()
        >>> inputs = [task.encode("011______")]
        >>> "".join(task.labels[label] for label in task.targets(inputs)[task.scored(inputs)])
        '011011'
    """

    name: ClassVar[str] = "duplicate_string"

    def _answers(self, sizes: Numbers) -> Numbers:
        return sizes if self._acts else 2 * sizes

    def _answer(self, source: Array, sizes: Array) -> tuple[Array, Array]:
        place = jnp.arange(source.shape[1], dtype=jnp.int32)
        return pick(source, place % jnp.maximum(sizes[:, None], 1)), self._answers(sizes)


@dataclass(frozen=True)
class Repetition(DuplicateString):
    """What is the string once more?

    *Rule.* The answer to `w` is `w`. (This is `duplicate_string` with the defaults of xLSTM.)

    *Alphabet.* Ten symbols, drawn uniformly; `!` and then `_` where the answer is given; labels
    are the symbols.

    *Example.*

        input   7 1 1 ! _ _
        label         7 1 1

    *Chance.* One over the number of symbols.

    *Source.* Beck et al., xLSTM, arXiv 2405.04517; Walker et al., arXiv 2505.17761.

    Args:
        symbols: Size of the alphabet, at least 2.
        convention: "slice": `length` counts string and answer. "chomsky": it counts the string,
            and the answer holds it twice.

    Example:
        >>> import tasks
        >>> task = tasks.Repetition()
        >>> inputs = [task.encode("711!__")]
        >>> "".join(task.labels[label] for label in task.targets(inputs)[task.scored(inputs)])
        '711'
    """

    symbols: int = 10
    convention: str = field(default="slice", kw_only=True)

    name: ClassVar[str] = "repetition"


@dataclass(frozen=True)
class OddsFirst(StringTask):
    """What are the symbols at odd places, and then those at even places?

    *Rule.* Counting places from 0, the answer is `x_1 x_3 ...` followed by `x_0 x_2 ...`; with
    `convention="slice"` it is `x_0 x_2 ...` followed by `x_1 x_3 ...`. (The text of Delétang et al.
    counts from 1 and has the latter; their code, which their numbers come from, has the former.)

    *Alphabet.* Digits, drawn uniformly; `_` where the answer is given (and `!` at its first
    position with `convention="slice"`); labels are the digits. See `tasks.sequences` for lengths.

    *Example.*

        input   0 1 0 1 1 _ _ _ _ _
        label             1 1 0 0 1

    *Chance.* One over the number of symbols.

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098, with
    two symbols; Beck et al., xLSTM, arXiv 2405.04517, have ten; Walker et al., arXiv 2505.17761.

    Args:
        symbols: Size of the alphabet, at least 2.
        convention: "chomsky": `length` counts the string. "slice": it counts string and answer,
            and the even places come first.

    Example:
        >>> import tasks
        >>> task = tasks.OddsFirst()
        >>> inputs = [task.encode("01011_____")]
        >>> "".join(task.labels[label] for label in task.targets(inputs)[task.scored(inputs)])
        '11001'
    """

    name: ClassVar[str] = "odds_first"

    def _answer(self, source: Array, sizes: Array) -> tuple[Array, Array]:
        place = jnp.arange(source.shape[1], dtype=jnp.int32)
        first = 0 if self._acts else 1
        ahead = (sizes[:, None] + 1 - first) // 2
        behind = 2 * (place - ahead) + 1 - first
        return pick(source, jnp.where(place < ahead, 2 * place + first, behind)), sizes


@dataclass(frozen=True)
class BucketSort(StringTask):
    """What is the string, sorted?

    *Rule.* The answer has the symbols of the string in ascending order.

    *Alphabet.* Digits, drawn uniformly; `_` where the answer is given (and `!` at its first
    position with `convention="slice"`); labels are the digits. See `tasks.sequences` for lengths.

    *Example.*

        input   4 1 2 1 _ _ _ _
        label           1 1 2 4

    *Chance.* One over the number of symbols.

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098, with
    five symbols; Walker et al., arXiv 2505.17761.

    Args:
        symbols: Size of the alphabet, at least 2.
        convention: "chomsky": `length` counts the string. "slice": it counts string and answer.

    Example:
        >>> import tasks
        >>> task = tasks.BucketSort()
        >>> inputs = [task.encode("4121____")]
        >>> "".join(task.labels[label] for label in task.targets(inputs)[task.scored(inputs)])
        '1124'
    """

    symbols: int = 5

    name: ClassVar[str] = "bucket_sort"

    def _answer(self, source: Array, sizes: Array) -> tuple[Array, Array]:
        real = inside(sizes, source.shape[1])
        return jnp.sort(jnp.where(real, source, self.symbols), axis=1), sizes


@dataclass(frozen=True)
class Set(StringTask):
    """Which symbols does the string have, each once, in the order in which they came?

    *Rule.* The answer is the string without the symbols that came before. Only as many positions
    are scored as there are different symbols.

    *Alphabet.* 126 symbols, drawn uniformly; `!` and then `_` where the answer is given; labels
    are the symbols.

    *Example.*

        input   7 1 7 1 25 ! _ _  _ _
        label              7 1 25

    *Chance.* One over the number of symbols.

    *Source.* Beck et al., xLSTM, arXiv 2405.04517; Walker et al., arXiv 2505.17761.

    Args:
        symbols: Size of the alphabet, at least 2.
        convention: "slice": `length` counts string and answer. "chomsky": it counts the string.

    Example:
        >>> import tasks
        >>> task = tasks.Set()
        >>> inputs = [task.encode("7 1 7 1 25 ! _ _ _ _")]
        >>> [task.labels[label] for label in task.targets(inputs)[task.scored(inputs)]]
        ['7', '1', '25']
    """

    symbols: int = 126
    convention: str = field(default="slice", kw_only=True)

    name: ClassVar[str] = "set"

    def _answer(self, source: Array, sizes: Array) -> tuple[Array, Array]:
        batch, width = source.shape
        here = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), (batch, width))
        rows, real = jnp.arange(batch)[:, None], inside(sizes, width)
        earliest = jnp.full((batch, self.symbols), width, jnp.int32)
        earliest = earliest.at[rows, source].min(jnp.where(real, here, width))
        new = real & (earliest[rows, source] == here)
        order = jnp.argsort(jnp.where(new, here, width + here), axis=1)
        return jnp.take_along_axis(source, order, axis=1), new.sum(1, dtype=jnp.int32)


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

    Example:
        >>> import tasks
        >>> task = tasks.MissingDuplicate()
        >>> task.targets([task.encode("0110?1")])[0, -1].item()
        1
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
    def _second(self) -> bool:
        return self.convention == "slice"

    def _ends(self, lengths: Numbers) -> Numbers:
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
