"""Equations with one unknown, modulo m."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tasks.arithmetic import ExpressionTask, ModularArithmeticBrackets
from tasks.base import LONG, at_end, inside
from tasks.sequences import pick

_BIG = 2**30


class _Forms(NamedTuple):
    """What is known of random expressions of one length, by residues; all float64 `[modulus]`.

    A *factor* is what a digit is multiplied with in the whole. A position belongs to the next digit
    to its right, if there is one; `tail` is the number of those at the end which have none.

    value: frequency of the value;
    value_tail: the same, times the tail;
    first: frequency of the factor of the first digit;
    landing: the number of positions whose digit has a factor;
    wrapping: frequency of the factor of the first digit, times the tail.
    """

    value: np.ndarray
    value_tail: np.ndarray
    first: np.ndarray
    landing: np.ndarray
    wrapping: np.ndarray

    @classmethod
    def shortest(cls, size: int, modulus: int) -> _Forms:
        """`d`, `-d`, `(d)` or `(-d)`."""
        uniform = np.full(modulus, 1 / modulus)
        first = np.eye(modulus)[(-1 if size in (2, 4) else 1) % modulus]
        tail = size // 3
        return cls(uniform, tail * uniform, first, (size - tail) * first, tail * first)

    @classmethod
    def joined(cls, a: _Forms, b: _Forms, operator: str) -> _Forms:
        """`(A operator B)`: one bracket more belongs to A's first digit, one is of the tail."""
        modulus = len(a.value)
        i, j = np.indices((modulus, modulus))
        result = {"+": i + j, "-": i - j, "*": i * j}[operator] % modulus
        times = operator == "*"

        def both(x: np.ndarray, y: np.ndarray, result: np.ndarray) -> np.ndarray:
            return np.bincount(result.ravel(), np.outer(x, y).ravel(), modulus)

        def of_a(factors: np.ndarray, values: np.ndarray) -> np.ndarray:
            """Factors of digits of A, B's value weighted."""
            return both(factors, values, result) if times else factors * values.sum()

        def of_b(values: np.ndarray, factors: np.ndarray) -> np.ndarray:
            signed = {"+": j, "-": -j % modulus, "*": result}[operator]
            return both(values, factors, signed)

        behind = b.value_tail + b.value
        landing = of_a(a.landing + a.first, b.value)
        landing = landing + of_b(a.value, b.landing + b.first) + of_b(a.value_tail, b.first)
        return cls(
            both(a.value, b.value, result),
            both(a.value, behind, result),
            of_a(a.first, b.value),
            landing,
            of_a(a.first, behind),
        )


@dataclass(frozen=True)
class SolveEquation(ExpressionTask):
    """Which x solves an equation modulo m?

    *Rule.* A row is an expression in which x stands for one digit, `=`, and a digit. The label at
    a row's last position is the smallest residue for x with which the two sides agree; other
    positions have none.

    *Alphabet.* Digits 0 .. modulus - 1, the operators, `(`, `)`, `x` and `=`. The expression is
    drawn as in `modular_arithmetic_brackets`. A uniform position of it is moved to the right, and
    from the end to the beginning, until a digit is found, which x replaces. `length` counts all
    symbols; below 3 the row is zeros.

    *Example.* Modulo 5:

        input   ( x - 3 ) = 4
        label               2

    *The other source* (Walker et al.): `operators="+-*"`, an x uniform over digits, and one symbol
    more at the end. Multiplication may leave x undetermined; where their label is the digit that x
    replaced, a rule can only take the smallest solution.

    *Chance.* One over the modulus; with `*`, the frequency of the label 0 at length 128, computed
    exactly: where x is multiplied with 0, every digit solves the equation (0.51 modulo 5).

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098, with
    modulus 5; Walker et al., arXiv 2505.17761.

    Args:
        modulus: At least 2.
        operators: Some of `+-*`, at least one of `+-`; in this order in the vocabulary. With `+`
            and `-` alone there is always one solution.

    Raises:
        ValueError: If the modulus or an operator is none of these.

    Example:
        >>> import tasks
        >>> task = tasks.SolveEquation(modulus=5)
        >>> task.targets([task.encode("(x-3)=4")])[0, -1].item()
        2
    """

    operators: str = "+-"

    name: ClassVar[str] = "solve_equation"
    per_token: ClassVar[bool] = False

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Symbols of an expression with brackets, the unknown, the equals sign."""
        return (*self._expressions.vocabulary, "x", "=")

    @functools.cached_property
    def chance(self) -> float:
        """Frequency of the most frequent label at length 128."""
        # The sides agree at x + k m / gcd(b, m) if at x, where b is what x is multiplied with; the
        # digit that x replaced is uniform, and says nothing about b.
        ways = np.gcd(np.arange(self.modulus), self.modulus)
        return round(float(self._factor_frequencies(LONG - 2) @ ways / self.modulus), 12)

    def _factor_frequencies(self, length: int) -> np.ndarray:
        """How often x is multiplied with each residue, in expressions of a length: `[modulus]`."""
        if "*" not in self.operators:
            return np.eye(self.modulus)[1]
        shorter = [_Forms.shortest(size, self.modulus) for size in range(1, 5)]
        for size in range(5, length + 1):
            pairs = [(shorter[i], shorter[size - 5 - i]) for i in range(size - 4)]
            joined = [_Forms.joined(a, b, op) for a, b in pairs for op in self.operators]
            shorter.append(_Forms(*(np.mean(x, axis=0) for x in zip(*joined, strict=True))))
        last = shorter[length - 1]
        return (last.landing + last.wrapping) / length

    @functools.cached_property
    def _expressions(self) -> ModularArithmeticBrackets:
        return ModularArithmeticBrackets(self.modulus, self.operators)

    def _draw(self, key: Array, lengths: Array, width: int) -> Array:
        expression_key, place_key = jax.random.split(key)
        sizes = jnp.maximum(lengths - 2, 1)
        tokens = self._expressions._draw(expression_key, sizes, width)
        here, size = jnp.arange(width, dtype=jnp.int32), sizes[:, None]
        start = jax.random.randint(place_key, size.shape, 0, size, jnp.int32)
        digit = inside(sizes, width) & (tokens < self.modulus)
        found = jnp.where(digit, (here - start) % size, _BIG).argmin(1)[:, None]
        value = pick(self._expressions.values(tokens), size - 1)
        equation = jnp.where(here == found, self._id("x"), tokens)
        equation = jnp.where(here == size, self._id("="), equation)
        equation = jnp.where(here == size + 1, value, equation)
        return jnp.where(lengths[:, None] < 3, 0, equation)

    def _label(self, tokens: Array, lengths: Array) -> tuple[Array, Array]:
        # The left side is a + b x: two values of it say what a and b are.
        batch, length = tokens.shape
        with_x = jnp.stack([jnp.where(tokens == self._id("x"), x, tokens) for x in (0, 1)])
        equals = (tokens == self._id("=")).argmax(1)[:, None]
        values = self._expressions.values(with_x.reshape(2 * batch, length))
        values = values.reshape(2, batch, length)
        at_zero, at_one = pick(values[0], equals - 1), pick(values[1], equals - 1)
        residues = jnp.arange(self.modulus, dtype=jnp.int32)
        left = at_zero + (at_one - at_zero) * residues
        solved = (left - pick(tokens, equals + 1)) % self.modulus == 0
        label = jnp.where(equals > 0, solved.argmax(1)[:, None], 0).astype(jnp.int32)
        last = at_end(lengths, length)
        return jnp.where(last, label, 0), last
