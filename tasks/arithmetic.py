"""Arithmetic modulo m, on expressions without brackets or with brackets around every operation."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from tasks.base import LONG, SymbolTask, at_end, symbol_ids
from tasks.options import check, check_at_least, shown
from tasks.prefix import Machine, PrefixTask, check_size

OPERATORS = "+-*"
MAX_MODULUS = 1000
"""The largest modulus: each residue is a symbol and a label, and products must fit 32 bits."""


@dataclass(frozen=True)
class ExpressionTask(SymbolTask):
    """Digits 0 .. modulus - 1 and operators: what both arithmetic tasks share."""

    modulus: int = 5
    operators: str = OPERATORS

    def __post_init__(self) -> None:
        check_at_least("modulus", self.modulus, 2, MAX_MODULUS)
        chosen = self.operators
        if not isinstance(chosen, str) or set(chosen) - set(OPERATORS):
            raise ValueError(f"operators: got {shown(chosen)}, expected some of '{OPERATORS}'")
        check(len(set(chosen)) == len(chosen), "operators", chosen, "each once")
        sums = bool(set(chosen) & {"+", "-"})
        check(sums, "operators", chosen, "'+' or '-' among them: long products are always 0")

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The digits, then the operators."""
        return (*self.labels, *self.operators)

    @property
    def labels(self) -> tuple[str, ...]:
        """The residues."""
        return tuple(map(str, range(self.modulus)))

    def _id(self, symbol: str) -> int:
        """Return the token id of a symbol, or -1, which is no token's id, if there is none."""
        return self.vocabulary.index(symbol) if symbol in self.vocabulary else -1

    def _read(self, reading: Reading, token: Array) -> Reading:
        """Read a digit, an operator or a sign; any other symbol changes nothing."""
        plus, minus, times = (token == self._id(symbol) for symbol in OPERATORS)
        after_operator = reading.operator(plus, minus, times, self.modulus)
        after_digit = reading.operand(token, self.modulus)
        return choose(token < self.modulus, after_digit, after_operator)


class Reading(NamedTuple):
    """The state after reading a part of an expression, or of its innermost open bracket.

    Attributes:
        total: int32 `[B]`, the sum of the complete terms.
        term: int32 `[B]`, the value of the incomplete term, with its sign. After an operator it is
            the factor by which the next operand is multiplied.
        waiting: bool `[B]`, whether the next symbol has to begin an operand.
    """

    total: Array
    term: Array
    waiting: Array

    @classmethod
    def nothing(cls, batch: int) -> Reading:
        """Return the reading before the first symbol."""
        zeros = jnp.zeros((batch,), jnp.int32)
        return cls(zeros, zeros + 1, zeros == 0)

    def operand(self, value: Array, modulus: int) -> Reading:
        """Read a number or the value of a bracket."""
        return Reading(self.total, self.term * value % modulus, jnp.zeros_like(self.waiting))

    def operator(self, plus: Array, minus: Array, times: Array, modulus: int) -> Reading:
        """Read the operator whose argument is true, if any; `-` before an operand is a sign."""
        sign = minus & self.waiting
        closes = (plus | minus) & ~self.waiting
        total = jnp.where(closes, (self.total + self.term) % modulus, self.total)
        term = jnp.where(closes, jnp.where(minus, modulus - 1, 1), self.term)
        term = jnp.where(sign, (modulus - term) % modulus, term)
        return Reading(total, term, self.waiting | plus | minus | times)

    def value(self, modulus: int) -> Array:
        """Return the value of the expression, which is valid unless an operand is missing."""
        return (self.total + self.term) % modulus


def choose(condition: Array, yes: Reading, no: Reading) -> Reading:
    """Return for each row the reading `yes` if its condition holds, else `no`."""
    return Reading(*(jnp.where(condition, a, b) for a, b in zip(yes, no, strict=True)))


@dataclass(frozen=True)
class ModularArithmetic(ExpressionTask, PrefixTask):
    """What is the value of `d op d op d ...` modulo m?

    *Rule.* The label at position t is the value, `*` before `+` and `-`, of the longest prefix of
    `x_0 ... x_t` that is an expression: after an operator that is the value before it.

    *Alphabet.* Digits 0 .. modulus - 1, then the operators, drawn uniformly at even and at odd
    positions (from 0). An expression has an odd number of symbols: where an even length is asked
    for, the row is one shorter. Some sources append `=`; here the last digit is scored.

    *Example.* Modulo 5:

        input   2 + 3 * 4 - 1
        label   2 2 0 0 4 4 3

    *Chance.* One over the modulus, in long inputs. (0 is a little more frequent in short ones.)

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098, with
    modulus 5 and the last label only (`labels_at="last"`).

    Args:
        modulus: At least 2.
        operators: Some of `+-*`, at least one of `+-`; in this order in the vocabulary.
        labels_at: Score "every" position or the "last" of each row.

    Raises:
        ValueError: If the modulus or an operator is none of these.

    Example:
        >>> import tasks
        >>> task = tasks.ModularArithmetic(modulus=5)
        >>> task.targets([task.encode("2 + 3 * 4 - 1")]).tolist()
        [[2, 2, 0, 0, 4, 4, 3]]
    """

    name: ClassVar[str] = "modular_arithmetic"

    def __post_init__(self) -> None:
        ExpressionTask.__post_init__(self)
        PrefixTask.__post_init__(self)

    @property
    def period(self) -> int:
        """`draw` makes chunks of pairs of a digit and an operator."""
        return 2

    def start(self, batch: int) -> tuple[Reading, Array]:
        """Return the state before the first symbol: nothing has been read, and the value is 0."""
        return Reading.nothing(batch), jnp.zeros((batch,), jnp.int32)

    def advance(
        self, inputs: ArrayLike, state: tuple[Reading, Array]
    ) -> tuple[Array, tuple[Reading, Array]]:
        """Label the next chunk of a stream; see `PrefixTask.advance`."""
        state, labels = jax.lax.scan(self._step, state, symbol_ids(inputs).T)
        return labels.T, state

    def _step(
        self, state: tuple[Reading, Array], token: Array
    ) -> tuple[tuple[Reading, Array], Array]:
        reading, value = state
        reading = self._read(reading, token)
        value = jnp.where(reading.waiting, value, reading.value(self.modulus))
        return (reading, value), value

    @functools.cached_property
    def machine(self) -> Machine:
        """The automaton that computes the value so far.

        Its states are those that `advance` carries: the sum of the closed terms, the open term with
        its sign, whether an operand is to come, and the label. Digits and operators take turns.

        Raises:
            ValueError: If the automaton is too large to be written out.
        """
        m, symbols = self.modulus, len(self.vocabulary)
        check_size(2 * m**3, symbols)
        shape = (m, m, 2, m)
        total, term, waiting, value = np.unravel_index(np.arange(2 * m**3), shape)
        many = (np.repeat(part.astype(np.int32), symbols) for part in (total, term, waiting, value))
        total, term, waits, before = map(jnp.asarray, many)
        tokens = jnp.asarray(np.tile(np.arange(symbols, dtype=np.int32), 2 * m**3))
        state = Reading(total, term, waits == 1), before
        (after, label), _ = jax.jit(self._step)(state, tokens)
        parts = (after.total, after.term, after.waiting.astype(jnp.int32), label)
        transition = np.ravel_multi_index(tuple(map(np.asarray, parts)), shape)
        digits = np.arange(symbols) < m
        return Machine(
            transition=transition.reshape(-1, symbols),
            outputs=value,
            initial=int(np.ravel_multi_index((0, 1, 1, 0), shape)),
            frequencies=np.where(digits, 1 / m, 1 / len(self.operators)) / 2,
            drawn=(waiting == 1)[:, None] == digits,
        )

    def _usable(self, lengths: Array) -> Array:
        return lengths - (lengths + 1) % 2

    def _symbols(self, key: Array, batch: int, length: int) -> Array:
        digit_key, operator_key = jax.random.split(key)
        pairs = (batch, (length + 1) // 2)
        digits = jax.random.randint(digit_key, pairs, 0, self.modulus, jnp.int32)
        operators = jax.random.randint(operator_key, pairs, 0, len(self.operators), jnp.int32)
        pair = jnp.stack([digits, self.modulus + operators], axis=2)
        return pair.reshape(batch, -1)[:, :length]


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

    Example:
        >>> import tasks
        >>> task = tasks.ModularArithmeticBrackets(modulus=5)
        >>> task.targets([task.encode("((-3)*(2-4))")])[0, -1].item()
        1
    """

    name: ClassVar[str] = "modular_arithmetic_brackets"
    per_token: ClassVar[bool] = False

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The digits, the operators, the sign and the brackets."""
        sign = () if "-" in self.operators else ("-",)
        return (*super().vocabulary, *sign, "(", ")")

    @functools.cached_property
    def chance(self) -> float:
        """The frequency of the most frequent label at length 128; it rises slowly with length."""
        return float(self.label_frequencies(LONG).max())

    def label_frequencies(self, length: int) -> np.ndarray:
        """Compute the exact frequency of each label at a length, float64 `[modulus]`."""
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
        """Compute the values of all prefixes of int32 `[B, T]` symbols that are expressions.

        Symbols that are not part of an expression change nothing. The values of prefixes that are
        not expressions are meaningless.
        """
        batch, length = tokens.shape
        rows, room = jnp.arange(batch), length // 2 + 1
        opening, closing = self._id("("), self._id(")")

        # One step per symbol: the state is the reading of the innermost open bracket, and a stack
        # of the readings of the brackets around it.
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

        # For every position, the first position and the size of the expression around it are known.
        # Each round splits all long expressions at once, and writes their brackets and operators.
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
        # The expressions that are left are d, -d, (d) and (-d); all other positions stay digits.
        tokens = jnp.where((size > 2) & (here == first), opening, tokens)
        tokens = jnp.where((size > 2) & (here == first + size - 1), closing, tokens)
        signed = ((size == 2) & (here == first)) | ((size == 4) & (here == first + 1))
        return jnp.where(signed, minus, tokens)
