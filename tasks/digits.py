"""Exact arithmetic on binary numbers of any size: arrays of bits, the lowest first.

Bits are packed to larger digits, which fit 32 bits with all that is done to them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from tasks.base import inside

_WIDE = 28
"""Bits of a digit where digits are added, subtracted and taken 4 times."""

_NARROW = 8
"""Bits of a digit where products of digits are summed: numbers may have 2^18 bits."""


def size_of(bits: Array) -> Array:
    """Number of bits without leading zeros, at least 1: int32 `[B]` of bits `[B, W]`."""
    last = bits.shape[1] - 1 - bits[:, ::-1].argmax(1)
    return jnp.where(bits.any(1), last + 1, 1).astype(jnp.int32)


def add(a: Array, b: Array) -> Array:
    """Sums of numbers: bits `[B, W]`; what exceeds W bits is lost."""
    return _carried(_pack(a, _WIDE) + _pack(b, _WIDE), _WIDE, a.shape[1])


def multiply(a: Array, b: Array) -> Array:
    """Products of numbers: bits `[B, W]`; what exceeds W bits is lost.

    The columns of the schoolbook method, and then one pass of carries.
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
    """Integer part of square roots: bits `[B, W]`, of which half can be other than 0.

    The method of doing it on paper: with every two bits more of the number, the remainder takes
    4 times its value and the two bits; where it is not less than 4 root + 1 the root gets a 1, and
    that much is taken off the remainder.
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

    # A remainder is at most twice the root: 4 times that and 3 has three bits more than the root.
    zeros = jnp.zeros((batch, -(-(pairs + 3) // _WIDE)), jnp.int32)
    (root, _), _ = jax.lax.scan(step, (zeros, zeros), values)
    return _unpack(root, _WIDE, width)


def nonzero(key: Array, sizes: Array, width: int) -> Array:
    """Numbers uniform on 1 .. 2^size - 1: bits `[B, width]`, 0 beyond a row's size."""
    real = inside(sizes, width)

    # Uniform numbers, drawn anew where they are 0.
    def redraw(state: tuple[Array, Array]) -> tuple[Array, Array]:
        key, bits = state
        key, draw_key = jax.random.split(key)
        drawn = jax.random.randint(draw_key, real.shape, 0, 2, jnp.int32)
        return key, jnp.where(bits.any(1, keepdims=True), bits, jnp.where(real, drawn, 0))

    start = key, jnp.zeros(real.shape, jnp.int32)
    wanted = sizes > 0
    return jax.lax.while_loop(lambda s: (wanted & ~s[1].any(1)).any(), redraw, start)[1]


def _pack(bits: Array, size: int) -> Array:
    """Digits of `size` bits each."""
    batch, width = bits.shape
    count = -(-width // size)
    grouped = jnp.pad(bits, ((0, 0), (0, count * size - width))).reshape(batch, count, size)
    return (grouped << jnp.arange(size, dtype=jnp.int32)).sum(2, dtype=jnp.int32)


def _unpack(numbers: Array, size: int, width: int) -> Array:
    """Bits `[B, width]` of digits of `size` bits; 0 beyond them."""
    bits = (numbers[:, :, None] >> jnp.arange(size, dtype=jnp.int32)) & 1
    flat = bits.reshape(len(numbers), -1)
    return jnp.pad(flat, ((0, 0), (0, max(0, width - flat.shape[1]))))[:, :width]


def _carried(columns: Array, size: int, width: int) -> Array:
    """Bits of numbers whose digits of `size` bits may be too large."""

    def step(carry: Array, column: Array) -> tuple[Array, Array]:
        total = carry + column
        return total >> size, total & ((1 << size) - 1)

    return _unpack(jax.lax.scan(step, jnp.zeros_like(columns[:, 0]), columns.T)[1].T, size, width)


def _append(number: Array, count: int, value: Array) -> Array:
    """`2^count number + value`, of digits of `_WIDE` bits."""
    over = jnp.concatenate([value[:, None], number[:, :-1] >> (_WIDE - count)], axis=1)
    return ((number << count) & ((1 << _WIDE) - 1)) | over


def _subtract(a: Array, b: Array) -> tuple[Array, Array]:
    """Differences `a - b` of digits of `_WIDE` bits, and whether they are not negative."""

    # A digit passes a borrow on if the two are equal, and else decides it alone.
    def join(lower: tuple[Array, Array], upper: tuple[Array, Array]) -> tuple[Array, Array]:
        return upper[0] | (upper[1] & lower[0]), upper[1] & lower[1]

    borrows, _ = jax.lax.associative_scan(join, (a < b, a == b), axis=1)
    before = jnp.pad(borrows[:, :-1], ((0, 0), (1, 0))).astype(jnp.int32)
    return (a - b - before) & ((1 << _WIDE) - 1), ~borrows[:, -1]
