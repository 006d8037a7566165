"""Arithmetic on binary numbers, written as sequences of bits.

The tasks come first. Below them are functions for exact arithmetic on numbers of any size. Numbers
are arrays of bits, the lowest first. They are packed to larger digits, whose size is chosen so that
all intermediate results fit 32 bits.
"""

from __future__ import annotations

import abc
import functools
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from tasks.base import Numbers, inside
from tasks.sequences import SequenceTask, pick

_OPERATOR = 2


@dataclass(frozen=True)
class BinaryOperation(SequenceTask):
    """Two binary numbers with an operator between them."""

    symbol: ClassVar[str]

    @abc.abstractmethod
    def _result(self, a: Array, b: Array) -> Array:
        """Compute the results of the operation: bits `[B, W]`, the lowest first."""

    @functools.cached_property
    def chance(self) -> float:
        """The frequency of the most frequent label in long inputs."""
        return 1 / 2

    @property
    def source(self) -> tuple[str, ...]:
        """The bits, then the operator."""
        return ("0", "1", self.symbol)

    @property
    def labels(self) -> tuple[str, ...]:
        """The bits, then the symbol that follows the answer: the end `$`, or `.` with "slice"."""
        return ("0", "1", "." if self._acts else "$")

    def _sizes(self, lengths: Numbers) -> Numbers:
        sizes = super()._sizes(lengths)
        return sizes + (3 - sizes) * (sizes < 3) if self._acts else sizes

    def _question(self, key: Array, sizes: Array, width: int) -> Array:
        place_key, a_key, b_key = jax.random.split(key, 3)
        here = jnp.arange(width, dtype=jnp.int32)
        highest = jnp.maximum(sizes - 2, 1)
        middle = jax.random.randint(place_key, sizes.shape, 1, highest + 1, jnp.int32)
        if not self._acts:
            # A source below 3 symbols is a single number, which may be 0 but not all ones.
            alone = sizes < _OPERATOR + 1
            a = nonzero(a_key, jnp.where(alone, sizes, middle), width)
            b = nonzero(b_key, jnp.maximum(sizes - middle - 1, 0), width)
            number = jnp.where(alone[:, None], 1 - a, a)
            middle = jnp.where(alone, width, middle)[:, None]
            behind = jnp.where(here == middle, _OPERATOR, pick(b, here - middle - 1))
            return jnp.where(here < middle, number, behind)
        bits = jax.random.randint(a_key, (len(sizes), width), 0, 2, jnp.int32)
        middle, last = middle[:, None], sizes[:, None] - 1
        bits = jnp.where((here == middle - 1) | (here == last), 1, bits)
        return jnp.where(here == middle, _OPERATOR, bits)

    def _answer(self, source: Array, sizes: Array) -> tuple[Array, Array]:
        width = source.shape[1]
        place = jnp.arange(width, dtype=jnp.int32)
        operator = source == _OPERATOR
        middle = jnp.where(operator.any(1), operator.argmax(1), sizes)[:, None].astype(jnp.int32)
        second = place < sizes[:, None] - middle - 1
        a = jnp.where(place < middle, source, 0)
        b = jnp.where(second, pick(source, place + middle + 1), 0)
        result = self._result(a, b)
        size = size_of(result)
        if self._acts:
            return jnp.where(place < size[:, None], result, _OPERATOR), sizes
        end = jnp.minimum(size, self._answers(sizes) - 1)[:, None]
        behind = jnp.where(place == end, _OPERATOR, 0)
        return jnp.where(place < end, result, behind), end[:, 0] + 1


@dataclass(frozen=True)
class BinaryAddition(BinaryOperation):
    """What is the sum of two binary numbers?

    *Rule.* Numbers are written with the lowest bit first. The answer is their sum without leading
    zeros and an end symbol `$`; what follows is not scored.

    *Alphabet.* 0, 1, `+`; `_` where the answer is given; labels 0, 1, `$`. The place of the
    operator is uniform, and each number uniform on 1 .. 2^k - 1 where k is its number of bits. A
    source below length 3 is one number, which is copied.

    *Example.* 2 + 3 = 5:

        input   0 1 + 1 1 _ _ _ _ _ _
        label             1 0 1 $

    *The other source* (`convention="slice"`): the highest bit of each number is 1; the sum is
    followed by `.` up to the length of the source, all of it scored; the first answering position
    holds `!`. Numbers below 5 are drawn as 5.

    *Chance.* 1/2 (bits of long sums); with "slice" 3/8, for a quarter of the positions is `.`.

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098; Walker
    et al., arXiv 2505.17761.

    Args:
        convention: "chomsky": `length` counts the source, and the answer has room for one symbol
            more. "slice": it counts source and answer, which are equally long.

    Example:
        >>> import tasks
        >>> task = tasks.BinaryAddition()
        >>> inputs = [task.encode("01+11______")]
        >>> "".join(task.labels[label] for label in task.targets(inputs)[task.scored(inputs)])
        '101$'
    """

    name: ClassVar[str] = "binary_addition"
    symbol: ClassVar[str] = "+"

    @functools.cached_property
    def chance(self) -> float:
        """The frequency of the most frequent label in long inputs."""
        return 3 / 8 if self._acts else 1 / 2

    def _answers(self, sizes: Numbers) -> Numbers:
        return sizes if self._acts else sizes + 1

    def _result(self, a: Array, b: Array) -> Array:
        return add(a, b)


@dataclass(frozen=True)
class BinaryMultiplication(BinaryOperation):
    """What is the product of two binary numbers?

    *Rule.* Numbers are written with the lowest bit first. The answer is their product without
    leading zeros and an end symbol `$`; what follows is not scored.

    *Alphabet.* 0, 1, `*`; `_` where the answer is given; labels 0, 1, `$`. The place of the
    operator is uniform, and each number uniform on 1 .. 2^k - 1 where k is its number of bits. A
    source below length 3 is one number, and its product with nothing is 0.

    *Example.* 2 * 3 = 6:

        input   0 1 * 1 1 _ _ _ _ _
        label             0 1 1 $

    *The other source* (`convention="slice"`): the highest bit of each number is 1; the product is
    followed by `.` up to the length of the source, all of it scored; the first answering position
    holds `!`. Numbers below 5 are drawn as 5.

    *Chance.* 1/2, for bits of long products.

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098; Walker
    et al., arXiv 2505.17761.

    Args:
        convention: "chomsky": `length` counts the source. "slice": it counts source and answer.
            Source and answer are equally long.

    Example:
        >>> import tasks
        >>> task = tasks.BinaryMultiplication()
        >>> inputs = [task.encode("01*11_____")]
        >>> "".join(task.labels[label] for label in task.targets(inputs)[task.scored(inputs)])
        '011$'
    """

    name: ClassVar[str] = "binary_multiplication"
    symbol: ClassVar[str] = "*"

    def _result(self, a: Array, b: Array) -> Array:
        return multiply(a, b)


@dataclass(frozen=True)
class ComputeSqrt(SequenceTask):
    """What is the integer part of the square root of a binary number?

    *Rule.* Number and root are written with the highest bit first; the root of n bits has
    `ceil(n / 2)`, with leading zeros.

    *Alphabet.* 0, 1; `_` where the answer is given; labels 0, 1. Numbers are uniform on
    1 .. 2^n - 1.

    *Example.* The root of 13 is 3:

        input   1 1 0 1 _ _
        label           1 1

    *The other source* (`convention="slice"`): number and root are written with the lowest bit
    first, and the highest bit of the number is 1. A length L is reduced by 1 if 6 divides it and by
    2 if it is 3 modulo 6; then the number has `floor(2 L / 3)` bits and the root is followed by
    `.` up to L, all of it scored. The first answering position holds `!`. Published labels of
    numbers above 2^102 are wrong, because their roots were taken in floating point.

    *Chance.* 1/2, for bits of long roots.

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098; Walker
    et al., arXiv 2505.17761.

    Args:
        convention: "chomsky": `length` counts the number. "slice": it counts number and answer.

    Example:
        >>> import tasks
        >>> task = tasks.ComputeSqrt()
        >>> inputs = [task.encode("1101__")]
        >>> "".join(task.labels[label] for label in task.targets(inputs)[task.scored(inputs)])
        '11'
    """

    name: ClassVar[str] = "compute_sqrt"

    @functools.cached_property
    def chance(self) -> float:
        """The frequency of the most frequent label in long inputs."""
        return 1 / 2

    @property
    def source(self) -> tuple[str, ...]:
        """The bits."""
        return ("0", "1")

    @property
    def labels(self) -> tuple[str, ...]:
        """The bits and, with "slice", the `.` that follows the answer."""
        return ("0", "1", ".") if self._acts else ("0", "1")

    def _sizes(self, lengths: Numbers) -> Numbers:
        if not self._acts:
            return lengths
        used = lengths - (lengths % 6 == 0) - 2 * (lengths % 6 == 3)
        return (2 * used + (used == 1)) // 3  # pyright: ignore[reportReturnType]

    def _answers(self, sizes: Numbers) -> Numbers:
        return sizes // 2 + 1 if self._acts else (sizes + 1) // 2

    def _question(self, key: Array, sizes: Array, width: int) -> Array:
        if not self._acts:
            place = jnp.arange(width, dtype=jnp.int32)
            return pick(nonzero(key, sizes, width), sizes[:, None] - 1 - place)
        bits = jax.random.randint(key, (len(sizes), width), 0, 2, jnp.int32)
        return jnp.where(jnp.arange(width) == sizes[:, None] - 1, 1, bits)

    def _answer(self, source: Array, sizes: Array) -> tuple[Array, Array]:
        place = jnp.arange(source.shape[1], dtype=jnp.int32)
        answers = self._answers(sizes)
        if self._acts:
            root = square_root(source)
            return jnp.where(place < size_of(root)[:, None], root, 2), answers
        number = pick(source, sizes[:, None] - 1 - place)
        root = square_root(jnp.where(inside(sizes, source.shape[1]), number, 0))
        return pick(root, answers[:, None] - 1 - place), answers


_WIDE = 28
"""The number of bits of a digit for sums, differences and multiples of 4."""

_NARROW = 8
"""The number of bits of a digit for sums of products of digits; numbers may have 2^18 bits."""


def size_of(bits: Array) -> Array:
    """Return the number of bits without leading zeros, at least 1: int32 `[B]`.

    The bits are `[B, W]`, the lowest one first.
    """
    last = bits.shape[1] - 1 - bits[:, ::-1].argmax(1)
    return jnp.where(bits.any(1), last + 1, 1).astype(jnp.int32)


def add(a: Array, b: Array) -> Array:
    """Return the sums of numbers of bits `[B, W]`; bits beyond W are lost."""
    return _carried(_pack(a, _WIDE) + _pack(b, _WIDE), _WIDE, a.shape[1])


def multiply(a: Array, b: Array) -> Array:
    """Return the products of numbers of bits `[B, W]`; bits beyond W are lost.

    Columns are summed as in long multiplication; then one pass carries what they exceed.
    """
    first, second = _pack(a, _NARROW), _pack(b, _NARROW)
    count = first.shape[1]
    shifted = jnp.concatenate([jnp.zeros_like(second), second], axis=1)

    def step(columns: Array, digit: tuple[Array, Array]) -> tuple[Array, None]:
        value, shift = digit
        row = jax.lax.dynamic_slice_in_dim(shifted, count - shift, count, axis=1)
        return columns + value[:, None] * row, None

    shifts = jnp.arange(count, dtype=jnp.int32)
    columns, _ = jax.lax.scan(step, jnp.zeros_like(second), (first.T, shifts))
    return _carried(columns, _NARROW, a.shape[1])


def square_root(bits: Array) -> Array:
    """Return the integer part of square roots: bits `[B, W]`, whose upper half is 0.

    It is the method that people use on paper. For every two further bits of the number, the
    remainder becomes 4 times its value plus these bits. If it is then at least 4 root + 1, this is
    subtracted from the remainder and the root gets a 1; otherwise the root gets a 0.
    """
    batch, width = bits.shape
    pairs = (width + 1) // 2
    padded = jnp.pad(bits, ((0, 0), (0, 2 * pairs - width)))
    values = (padded[:, ::2] + 2 * padded[:, 1::2]).T[::-1]

    def step(state: tuple[Array, Array], value: Array) -> tuple[tuple[Array, Array], None]:
        root, remainder = state
        remainder = _append(remainder, 2, value)
        difference, fits = _subtract(remainder, _append(root, 2, jnp.ones_like(value)))
        remainder = jnp.where(fits[:, None], difference, remainder)
        return (_append(root, 1, fits.astype(jnp.int32)), remainder), None

    # A remainder is at most twice the root, so 4 times the remainder plus 3 has at most three bits
    # more than the root.
    zeros = jnp.zeros((batch, -(-(pairs + 3) // _WIDE)), jnp.int32)
    (root, _), _ = jax.lax.scan(step, (zeros, zeros), values)
    return _unpack(root, _WIDE, width)


def nonzero(key: Array, sizes: Array, width: int) -> Array:
    """Draw numbers uniformly from 1 .. 2^size - 1: bits `[B, width]`, 0 beyond a row's size."""
    real = inside(sizes, width)

    # Draw uniform numbers, and replace those that are 0 by new ones.
    def redraw(state: tuple[Array, Array]) -> tuple[Array, Array]:
        key, bits = state
        key, draw_key = jax.random.split(key)
        drawn = jax.random.randint(draw_key, real.shape, 0, 2, jnp.int32)
        return key, jnp.where(bits.any(1, keepdims=True), bits, jnp.where(real, drawn, 0))

    start = key, jnp.zeros(real.shape, jnp.int32)
    wanted = sizes > 0
    return jax.lax.while_loop(lambda s: (wanted & ~s[1].any(1)).any(), redraw, start)[1]


def _pack(bits: Array, size: int) -> Array:
    """Pack bits `[B, W]` to digits of `size` bits each."""
    batch, width = bits.shape
    count = -(-width // size)
    grouped = jnp.pad(bits, ((0, 0), (0, count * size - width))).reshape(batch, count, size)
    return (grouped << jnp.arange(size, dtype=jnp.int32)).sum(2, dtype=jnp.int32)


def _unpack(numbers: Array, size: int, width: int) -> Array:
    """Unpack digits of `size` bits to bits `[B, width]`, with zeros after the last digit."""
    bits = (numbers[:, :, None] >> jnp.arange(size, dtype=jnp.int32)) & 1
    flat = bits.reshape(len(numbers), -1)
    return jnp.pad(flat, ((0, 0), (0, max(0, width - flat.shape[1]))))[:, :width]


def _carried(columns: Array, size: int, width: int) -> Array:
    """Return the bits of numbers whose digits may exceed `size` bits, by carrying the excess."""

    def step(carry: Array, column: Array) -> tuple[Array, Array]:
        total = carry + column
        return total >> size, total & ((1 << size) - 1)

    return _unpack(jax.lax.scan(step, jnp.zeros_like(columns[:, 0]), columns.T)[1].T, size, width)


def _append(number: Array, count: int, value: Array) -> Array:
    """Compute `2^count number + value` with digits of `_WIDE` bits."""
    over = jnp.concatenate([value[:, None], number[:, :-1] >> (_WIDE - count)], axis=1)
    return ((number << count) & ((1 << _WIDE) - 1)) | over


def _subtract(a: Array, b: Array) -> tuple[Array, Array]:
    """Compute `a - b` with digits of `_WIDE` bits, and whether it is not negative."""

    # If the two digits are equal, a borrow passes on; otherwise they alone decide the next borrow.
    def join(lower: tuple[Array, Array], upper: tuple[Array, Array]) -> tuple[Array, Array]:
        return upper[0] | (upper[1] & lower[0]), upper[1] & lower[1]

    borrows, _ = jax.lax.associative_scan(join, (a < b, a == b), axis=1)
    before = jnp.pad(borrows[:, :-1], ((0, 0), (1, 0))).astype(jnp.int32)
    return (a - b - before) & ((1 << _WIDE) - 1), ~borrows[:, -1]
