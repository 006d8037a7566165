"""Tasks that are answered with a sequence: what they share, and the one on a stack."""

from __future__ import annotations

import abc
import functools
from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from tasks.base import Numbers, SymbolTask
from tasks.options import check_choice

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

    def _sizes(self, lengths: Numbers) -> Numbers:
        """Number of symbols of a source."""
        return (lengths + 1) // 2 if self._acts else lengths

    def _answers(self, sizes: Numbers) -> Numbers:
        """Number of positions that an answer to a source takes."""
        return sizes

    def _ends(self, lengths: Numbers) -> Numbers:
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


_POP, _ACTIONS = 2, 3
"""Token id of POP, and number of actions: POP, push 0, push 1."""


@dataclass(frozen=True)
class StackManipulation(SequenceTask):
    """What is on the stack in the end?

    *Rule.* A source is a stack of bits, from bottom to top, and then actions: `P` takes the
    topmost bit off, if there is one, `a` puts 0 on top and `b` puts 1. The answer is the stack from
    top to bottom, and an end symbol `$`; what follows is not scored.

    *Alphabet.* 0, 1, `P`, `a`, `b`; `_` where the answer is given; labels 0, 1, `$`. The height of
    the stack is uniform on 1 .. length - 1; bits and actions are uniform.

    *Example.*

        input   0 1 b P a _ _ _ _ _ _
        label             0 1 0 $

    *The other source* (`convention="slice"`): the answer is the stack from bottom to top, `E` if it
    is empty, and then `.` up to the length of the source, all of it scored. The height of the stack
    is uniform on 1 .. the length of the source, and the first answering position holds `!`.

    *Chance.* 1/2, for bits of long stacks; with "slice" 1/3, for bits and `.` are equally frequent.

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098; Walker
    et al., arXiv 2505.17761.

    Args:
        convention: "chomsky": `length` counts the source, and the answer has room for one symbol
            more. "slice": it counts source and answer, which are equally long.

    Example:
        >>> import tasks
        >>> task = tasks.StackManipulation()
        >>> inputs = [task.encode("01bPa______")]
        >>> "".join(task.labels[label] for label in task.targets(inputs)[task.scored(inputs)])
        '010$'
    """

    name: ClassVar[str] = "stack_manipulation"

    @property
    def source(self) -> tuple[str, ...]:
        """Bits, then the actions."""
        return ("0", "1", "P", "a", "b")

    @property
    def labels(self) -> tuple[str, ...]:
        """Bits and the end; or bits, an empty stack, nothing."""
        return ("0", "1", "E", ".") if self._acts else ("0", "1", "$")

    @functools.cached_property
    def chance(self) -> float:
        """Frequency of the most frequent label of long inputs."""
        return 1 / 3 if self._acts else 1 / 2

    def _answers(self, sizes: Numbers) -> Numbers:
        return sizes if self._acts else sizes + 1

    def _question(self, key: Array, sizes: Array, width: int) -> Array:
        bit_key, action_key, height_key = jax.random.split(key, 3)
        shape, highest = (len(sizes), width), sizes if self._acts else jnp.maximum(sizes - 1, 1)
        height = jax.random.randint(height_key, sizes.shape, 1, highest + 1, jnp.int32)
        bits = jax.random.randint(bit_key, shape, 0, 2, jnp.int32)
        actions = jax.random.randint(action_key, shape, _POP, _POP + _ACTIONS, jnp.int32)
        return jnp.where(jnp.arange(width) < height[:, None], bits, actions)

    def _answer(self, source: Array, sizes: Array) -> tuple[Array, Array]:
        place = jnp.arange(source.shape[1], dtype=jnp.int32)
        pops = source == _POP
        moves = jnp.where(place < sizes[:, None], jnp.where(pops, -1, 1), 0)
        # A stack that is never below 0 is a sum of moves above the lowest that it ever was.
        total = jnp.cumsum(moves, axis=1, dtype=jnp.int32)
        height = total - jnp.minimum(jax.lax.cummin(total, axis=1), 0)
        # A bit stays if the stack is never lower again than it is with this bit on top.
        lowest = jax.lax.cummin(height, axis=1, reverse=True)
        stays = (moves > 0) & (lowest >= height)
        bits = jnp.where(source > _POP, source - _POP - 1, source)
        stack = pick(bits, jnp.argsort(jnp.where(stays, place, source.shape[1]), axis=1))
        top = height[:, -1:]
        if self._acts:
            behind = jnp.where((top == 0) & (place == 0), 2, 3)
            return jnp.where(place < top, stack, behind), sizes
        behind = jnp.where(place == top, 2, 0)
        return jnp.where(place < top, pick(stack, top - 1 - place), behind), top[:, 0] + 1
