"""Arithmetic modulo m on fully bracketed expressions."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tasks.base import at_end
from tasks.expressions import ExpressionTask, Reading, choose

_LONG = 128
"""Length at which chance is taken. It rises slowly: 0.292, 0.306, 0.316 at 40, 128, 500."""


@dataclass(frozen=True)
class ModularArithmeticBrackets(ExpressionTask):
    """What is the value of a bracketed expression modulo m?

    *Rule.* The label at a row's last position is the value of the row; other positions have none.
    (`*` goes before `+` and `-` where brackets don't decide.)

    *Alphabet.* Digits 0 .. modulus - 1, the operators, `(` and `)`. The published grammar, drawn
    in the published way: an expression of length 1 is a digit `d`, of length 2 `-d`, 3 `(d)`,
    4 `(-d)`; a longer one of length L is `(A op B)`, where the length of A is uniform on
    1 .. L - 4 and B takes what remains; digits and operators are uniform. Some sources append `=`;
    here the last symbol is scored.

    *Example.* Modulo 5:

        input   ( ( - 3 ) * ( 2 - 4 ) )
        label   1

    *Chance.* Frequency of the most frequent label at length 128, computed exactly: with `*` there
    are more zeros than 1 / modulus (0.31 modulo 5).

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098, with
    modulus 5.

    Args:
        modulus: At least 2.
        operators: Some of `+-*`, at least one of `+-`; in this order in the vocabulary. The sign
            `-` is part of the alphabet even where subtraction is not drawn.

    Raises:
        ValueError: If the modulus or an operator is none of these.
    """

    name: ClassVar[str] = "modular_arithmetic_brackets"
    per_token: ClassVar[bool] = False

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Digits, operators, sign, brackets."""
        sign = () if "-" in self.operators else ("-",)
        return (*super().vocabulary, *sign, "(", ")")

    @functools.cached_property
    def chance(self) -> float:
        """Frequency of the most frequent label at length 128."""
        return float(self.label_frequencies(_LONG).max())

    def label_frequencies(self, length: int) -> np.ndarray:
        """How often each label occurs at a length, exactly: float64 `[modulus]`."""
        uniform = np.full(self.modulus, 1 / self.modulus)
        if "*" not in self.operators:
            return uniform
        a, b = np.indices((self.modulus, self.modulus)) % self.modulus
        results = {"+": a + b, "-": a - b, "*": a * b}
        outcomes = [(results[op] % self.modulus).ravel() for op in self.operators]
        known = np.stack([uniform] * 4)  # row L - 1: label frequencies at length L
        for longer in range(5, length + 1):
            left = known[: longer - 4]
            pairs = (left.T @ left[::-1]).ravel() / len(left)
            counts = [np.bincount(outcome, pairs, self.modulus) for outcome in outcomes]
            known = np.vstack([known, np.mean(counts, axis=0)])
        return known[length - 1]

    def _label(self, tokens: Array, lengths: Array) -> tuple[Array, Array]:
        last = at_end(lengths, tokens.shape[1])
        return jnp.where(last, self.values(tokens), 0), last

    def values(self, tokens: Array) -> Array:
        """What prefixes of int32 `[B, T]` symbols are worth, where they are expressions: `[B, T]`.

        Symbols that are no part of an expression change nothing.
        """
        batch, length = tokens.shape
        rows, room = jnp.arange(batch), length // 2 + 1
        opening, closing = self._id("("), self._id(")")

        # One step a symbol: the innermost open bracket is at hand, those around it on a stack.
        def step(
            state: tuple[Reading, Array, Array], token: Array
        ) -> tuple[tuple[Reading, Array, Array], Array]:
            reading, stack, depth = state
            opens, closes = token == opening, token == closing
            outer = jnp.stack([reading.total, reading.term], axis=1)
            stack = stack.at[rows, jnp.where(opens, depth, room)].set(outer, mode="drop")
            total, term = stack[rows, jnp.maximum(depth - 1, 0)].T
            around = Reading(total, term, jnp.ones_like(closes))
            closed = around.operand(reading.value(self.modulus), self.modulus)
            reading = choose(opens, Reading.nothing(batch), self._read(reading, token))
            reading = choose(closes, closed, reading)
            depth = depth + opens - closes
            return (reading, stack, depth), reading.value(self.modulus)

        stack = jnp.zeros((batch, room, 2), jnp.int32)
        start = Reading.nothing(batch), stack, jnp.zeros((batch,), jnp.int32)
        return jax.lax.scan(step, start, tokens.T)[1].T

    def _draw(self, key: Array, lengths: Array, width: int) -> Array:
        batch, length = lengths.shape[0], width
        split_key, digit_key, operator_key = jax.random.split(key, 3)
        bits = jax.random.bits(split_key, (batch, length), jnp.uint32)
        operators = jnp.array([self._id(symbol) for symbol in self.operators], jnp.int32)
        choice = jax.random.randint(operator_key, (batch, length), 0, len(operators), jnp.int32)
        digits = jax.random.randint(digit_key, (batch, length), 0, self.modulus, jnp.int32)
        minus, opening, closing = (self._id(symbol) for symbol in "-()")
        here = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (batch, length))

        # Every position knows the expression that it is in, by its first position and its size.
        # Each round splits all long expressions at once, and settles their brackets and operators.
        def split(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            tokens, first, size = state
            drawn = jnp.take_along_axis(bits, first, axis=1, mode="promise_in_bounds")
            spare = jnp.maximum(size - 4, 1)
            middle = first + 2 + (drawn % spare.astype(jnp.uint32)).astype(jnp.int32)
            last = first + size - 1
            long = size > 4
            tokens = jnp.where(long & (here == first), opening, tokens)
            tokens = jnp.where(long & (here == middle), operators[choice], tokens)
            tokens = jnp.where(long & (here == last), closing, tokens)
            settled = (here == first) | (here == middle) | (here == last)
            left = here < middle
            part = jnp.where(left, middle - first - 1, last - middle - 1)
            size = jnp.where(long, jnp.where(settled, 0, part), size)
            first = jnp.where(long & (size > 0), jnp.where(left, first + 1, middle + 1), first)
            return tokens, first, size

        size = jnp.broadcast_to(lengths[:, None], (batch, length))
        state = jax.lax.while_loop(
            lambda state: (state[2] > 4).any(), split, (digits, jnp.zeros_like(here), size)
        )
        tokens, first, size = state
        # What is left are d, -d, (d) and (-d); every position that is not told otherwise is d.
        tokens = jnp.where((size > 2) & (here == first), opening, tokens)
        tokens = jnp.where((size > 2) & (here == first + size - 1), closing, tokens)
        signed = ((size == 2) & (here == first)) | ((size == 4) & (here == first + 1))
        return jnp.where(signed, minus, tokens)
