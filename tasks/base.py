"""The definition of a task over symbols: batches, protocols, and the code that all tasks share."""

from __future__ import annotations

import abc
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from tasks.options import check_at_least, check_range, shown, some

Numbers = TypeVar("Numbers", Array, np.ndarray)
"""An array, on the device or on the host."""

LONG = 128
"""The length at which frequencies of labels are computed if they depend on the length."""

State = Any
"""A pytree of arrays with a leading batch axis: what a stream has seen so far."""


class Batch(NamedTuple):
    """One batch of a task over sequences, `[B, T]`, or over grids, `[B, X, Y]`.

    T is the length that was asked for, or more where an answer is appended. After the end of a row
    inputs and targets are 0.

    Attributes:
        inputs: int32, symbol ids.
        targets: int32, label ids.
        mask: bool, which positions or cells are scored.

    Example:
        >>> import jax
        >>> import tasks
        >>> task = tasks.get("parity")
        >>> batch: tasks.Batch = task.sample(jax.random.key(0), 2, 5, lengths=[5, 3])
        >>> batch.inputs.shape, batch.targets.shape, batch.mask.sum(axis=1).tolist()
        ((2, 5), (2, 5), [5, 3])
    """

    inputs: Array
    targets: Array
    mask: Array


class Labelled(Protocol):
    """What every task has: a name, labels and the accuracy of guessing."""

    @property
    def name(self) -> str:
        """The name under which the task is found."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The target symbols; the index of a symbol is its label id."""
        ...

    @property
    def chance(self) -> float:
        """The frequency of the most frequent label, in long inputs if they have a length."""
        ...


class OverSymbols(Labelled, Protocol):
    """What every task over symbols has: also a vocabulary."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The input symbols; the index of a symbol is its id."""
        ...


@runtime_checkable
class Task(OverSymbols, Protocol):
    """A task over sequences: how inputs are drawn, and the rule that labels them.

    `chance` is the accuracy of always answering the most frequent label of long inputs.
    `per_token` says that every position t has a label that depends on `inputs[:, : t + 1]` only,
    so that one pass over a long input measures every length.

    Example:
        >>> import tasks
        >>> task: tasks.Task = tasks.get("parity")
        >>> task.targets([task.encode("1011")]).tolist()
        [[1, 1, 0, 1]]
        >>> task.labels, task.chance, task.per_token
        (('0', '1'), 0.5, True)
    """

    @property
    def per_token(self) -> bool:
        """Whether every position has a label that depends only on its prefix."""
        ...

    def sample(
        self, key: Array, batch: int, length: int, *, lengths: ArrayLike | None = None
    ) -> Batch:
        """Draw a batch, a pure function of the arguments; `lengths` may be traced."""
        ...

    def width(self, length: int) -> int:
        """Return the width of the arrays that `sample` draws: `length` if no answer is appended."""
        ...

    def targets(self, inputs: ArrayLike, *, lengths: ArrayLike | None = None) -> Array:
        """Label given inputs `[B, T]`; `sample` uses this function, too."""
        ...

    def scored(self, inputs: ArrayLike, *, lengths: ArrayLike | None = None) -> Array:
        """Return the scored positions of given inputs, bool `[B, T]`: the mask of `sample`."""
        ...

    def decode(self, inputs: ArrayLike, *, lengths: ArrayLike | None = None) -> list[str]:
        """Write token ids as text."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """Read text as token ids `[T]`."""
        ...


@dataclass(frozen=True)
class LabelledSymbols(abc.ABC):
    """Symbols and labels: what the tasks over sequences, grids and graphs of symbols share."""

    @property
    @abc.abstractmethod
    def vocabulary(self) -> tuple[str, ...]:
        """The input symbols; the index of a symbol is its token id."""

    @property
    @abc.abstractmethod
    def labels(self) -> tuple[str, ...]:
        """The target symbols; the index of a symbol is its label id."""

    @functools.cached_property
    def chance(self) -> float:
        """The accuracy of a uniform guess, for tasks whose labels are equally frequent."""
        return 1 / len(self.labels)


class Bits:
    """The symbols and labels of tasks about bits, to be mixed in."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The bits 0 and 1."""
        return ("0", "1")

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels 0 (even) and 1 (odd)."""
        return ("0", "1")


@dataclass(frozen=True)
class SymbolTask(LabelledSymbols):
    """Text, lengths and masks: what every task over sequences of symbols shares.

    A subclass says how inputs are drawn, which positions are scored and what the labels are.
    """

    @abc.abstractmethod
    def _label(self, tokens: Array, lengths: Array) -> tuple[Array, Array]:
        """Return the labels of int32 `[B, T]` symbols, and bool `[B, T]`: which are scored.

        Labels are 0 at positions without a label and after a row's end.
        """

    @abc.abstractmethod
    def _draw(self, key: Array, lengths: Array, width: int) -> Array:
        """Draw inputs `[B, width]`; the values after a row's end do not matter."""

    def _usable(self, lengths: Array) -> Array:
        """Return the largest length that an input may have and that is not above `lengths`."""
        return lengths

    def _ends(self, lengths: Numbers) -> Numbers:
        """Return the ends of rows of given lengths, after the answer if rows have room for one."""
        return lengths

    def width(self, length: int) -> int:
        """Return the number of positions of inputs up to `length`, including room for an answer."""
        return int(self._ends(np.arange(1, length + 1)).max())

    def sample(
        self, key: Array, batch: int, length: int, *, lengths: ArrayLike | None = None
    ) -> Batch:
        """Draw a batch.

        The batch is a pure function of the arguments. Under `jax.jit`, `batch` and `length` are
        static and `lengths` may be traced, so other lengths in the same width don't recompile.

        Args:
            key: Typed random key.
            batch: Number of rows, at least 1.
            length: The longest length, at least 1.
            lengths: Integer `[batch]`, the real length of each row in 1 .. `length`; `length` for
                all rows by default. After it inputs and targets are 0 and the mask is False.

        Returns:
            Inputs, targets and mask, each `[batch, width(length)]`. The width is `length`, except
            for tasks that append room for an answer.

        Raises:
            ValueError: If a size is below 1, or `lengths` has another shape or leaves its range.
        """
        check_at_least("batch", batch, 1)
        check_at_least("length", length, 1)
        return _sample(self, key, resolve_lengths(lengths, batch, length), length)

    def targets(self, inputs: ArrayLike, *, lengths: ArrayLike | None = None) -> Array:
        """Label given inputs; `sample` uses this function, too.

        Args:
            inputs: Integer `[B, T]`, token ids.
            lengths: Integer `[B]`, the real length of each row in 1 .. T; T for all by default.

        Returns:
            int32 `[B, T]`, label ids; 0 at positions that have no label.

        Raises:
            ValueError: If a shape is wrong or `lengths` leave their range.
            TypeError: If `inputs` or `lengths` aren't integers.
        """
        tokens = symbol_ids(inputs)
        return _label(self, tokens, resolve_lengths(lengths, *tokens.shape))[0]

    def scored(self, inputs: ArrayLike, *, lengths: ArrayLike | None = None) -> Array:
        """Return the scored positions of given inputs: the mask that `sample` returns.

        Args:
            inputs: Integer `[B, T]`, token ids.
            lengths: Integer `[B]`, the real length of each row in 1 .. T; T for all by default.

        Returns:
            bool `[B, T]`.

        Raises:
            ValueError: If a shape is wrong or `lengths` leave their range.
            TypeError: If `inputs` or `lengths` aren't integers.
        """
        tokens = symbol_ids(inputs)
        return _label(self, tokens, resolve_lengths(lengths, *tokens.shape))[1]

    def decode(self, inputs: ArrayLike, *, lengths: ArrayLike | None = None) -> list[str]:
        """Write token ids as text, one string for each row.

        Args:
            inputs: Integer `[B, T]` or `[T]`, token ids.
            lengths: Integer `[B]`, the real length of each row; the rest of a row is left out.

        Returns:
            One string per row. Symbols are joined by spaces if one of them is longer than a letter.

        Raises:
            ValueError: If an id is not in the vocabulary.
        """
        rows = np.atleast_2d(np.asarray(inputs))
        check_range("inputs", rows, 0, len(self.vocabulary) - 1)
        ends = np.full(len(rows), rows.shape[1])
        if lengths is not None:
            ends = self._ends(np.asarray(resolve_lengths(lengths, *rows.shape)))
        separator = "" if self._single_letters else " "
        return [
            separator.join(self.vocabulary[token] for token in row[:end])
            for row, end in zip(rows, ends, strict=True)
        ]

    def encode(self, text: str) -> np.ndarray:
        """Read text as token ids.

        Args:
            text: Symbols of the vocabulary, separated by white space, which may be left out if all
                symbols of the vocabulary are single letters.

        Returns:
            int32 `[T]`, token ids.

        Raises:
            ValueError: If a symbol is not in the vocabulary.
        """
        symbols: Sequence[str] = text.split()
        if self._single_letters:
            symbols = "".join(symbols)
        ids = {symbol: token for token, symbol in enumerate(self.vocabulary)}
        unknown = [symbol for symbol in symbols if symbol not in ids]
        if unknown:
            raise ValueError(
                f"text: got symbol {shown(unknown[0])}, expected one of {some(self.vocabulary)}"
            )
        return np.array([ids[symbol] for symbol in symbols], np.int32)

    @property
    def _single_letters(self) -> bool:
        return all(len(symbol) == 1 for symbol in self.vocabulary)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _sample(task: SymbolTask, key: Array, lengths: Array, length: int) -> Batch:
    # The function is jitted as a whole, so that a call outside of jit does not compile every
    # operation separately.
    real, width = task._usable(lengths), task.width(length)
    inputs = jnp.where(inside(task._ends(real), width), task._draw(key, real, width), 0)
    return Batch(inputs, *task._label(inputs, real))


@functools.partial(jax.jit, static_argnums=0)
def _label(task: SymbolTask, tokens: Array, lengths: Array) -> tuple[Array, Array]:
    return task._label(tokens, lengths)


def inside(lengths: Array, length: int) -> Array:
    """Return whether each position is within its row's length: bool `[B, length]`."""
    return jnp.arange(length, dtype=jnp.int32) < lengths[:, None]


def at_end(lengths: Array, length: int) -> Array:
    """Return whether each position is the last one of its row: bool `[B, length]`."""
    return jnp.arange(length, dtype=jnp.int32) == lengths[:, None] - 1


def symbol_ids(inputs: ArrayLike, axes: str = "B, T") -> Array:
    """Symbol ids as int32 `[B, T]`, or with other axes, such as those of grids, "B, X, Y".

    Raises:
        ValueError: If the inputs don't have so many axes.
        TypeError: If they aren't integers.
    """
    array = jnp.asarray(inputs)
    if array.ndim != len(axes.split()):
        raise ValueError(f"inputs: got shape {array.shape}, expected [{axes}]")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"inputs: got {array.dtype}, expected integer symbol ids")
    return array.astype(jnp.int32)


def resolve_lengths(lengths: ArrayLike | None, batch: int, length: int) -> Array:
    """Real lengths as int32 `[batch]`; `None` means all of `length`.

    Raises:
        ValueError: If they have another shape or, where they are known, leave 1 .. `length`.
        TypeError: If they aren't integers.
    """
    if lengths is None:
        return jnp.full((batch,), length, jnp.int32)
    # Traced lengths have no values to check; the caller of the jitted function must have done so.
    array = jnp.asarray(lengths) if isinstance(lengths, Tracer) else np.asarray(lengths)
    if array.shape != (batch,):
        raise ValueError(f"lengths: got shape {array.shape}, expected ({batch},)")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"lengths: got {array.dtype}, expected integers")
    if isinstance(array, np.ndarray):
        check_range("lengths", array, 1, length)
    return jnp.asarray(array, jnp.int32)
