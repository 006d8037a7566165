"""Equations with one unknown, modulo m."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from tasks.base import at_end, inside
from tasks.expressions import ExpressionTask
from tasks.modular_arithmetic_brackets import ModularArithmeticBrackets
from tasks.sequences import pick

_BIG = 2**30


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

    *Chance.* One over the modulus.

    *Source.* Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098, with
    modulus 5; Walker et al., arXiv 2505.17761.

    Args:
        modulus: At least 2.
        operators: Some of `+-*`, at least one of `+-`; in this order in the vocabulary. With `+`
            and `-` alone there is always one solution.

    Raises:
        ValueError: If the modulus or an operator is none of these.
    """

    operators: str = "+-"

    name: ClassVar[str] = "solve_equation"
    per_token: ClassVar[bool] = False

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Symbols of an expression with brackets, the unknown, the equals sign."""
        return (*self._expressions.vocabulary, "x", "=")

    @property
    def chance(self) -> float:
        """One over the modulus."""
        return 1 / self.modulus

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
