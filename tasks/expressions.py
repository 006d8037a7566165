"""Arithmetic modulo m on symbols: the alphabet, and the value of an expression read so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from tasks.base import MOST_SYMBOLS, SymbolTask, check_at_least, shown

OPERATORS = "+-*"
MAX_MODULUS = 1000
"""Largest modulus: each residue is a symbol and a label, and products must fit 32 bits."""


@dataclass(frozen=True)
class ExpressionTask(SymbolTask):
    """Digits 0 .. modulus - 1 and operators: what both arithmetic tasks share."""

    modulus: int = 5
    operators: str = OPERATORS

    def __post_init__(self) -> None:
        check_at_least("modulus", self.modulus, 2, MOST_SYMBOLS)
        if self.modulus > MAX_MODULUS:
            raise ValueError(f"modulus must be at most {MAX_MODULUS}, got {self.modulus}")
        chosen = self.operators
        if not isinstance(chosen, str) or set(chosen) - set(OPERATORS):
            raise ValueError(f"operators must be some of '{OPERATORS}', got {shown(chosen)}")
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"operators must differ, got {shown(chosen)}")
        if not set(chosen) & {"+", "-"}:
            raise ValueError(
                f"operators must hold '+' or '-', got {shown(chosen)}: long products are always 0"
            )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Digits, operators."""
        return (*self.labels, *self.operators)

    @property
    def labels(self) -> tuple[str, ...]:
        """Residues."""
        return tuple(map(str, range(self.modulus)))

    def _id(self, symbol: str) -> int:
        """Token id of a symbol; -1, which no token has, if the alphabet lacks it."""
        return self.vocabulary.index(symbol) if symbol in self.vocabulary else -1

    def _read(self, reading: Reading, token: Array) -> Reading:
        """Read a digit, an operator or a sign; any other symbol changes nothing."""
        plus, minus, times = (token == self._id(symbol) for symbol in OPERATORS)
        after_operator = reading.operator(plus, minus, times, self.modulus)
        after_digit = reading.operand(token, self.modulus)
        return choose(token < self.modulus, after_digit, after_operator)


class Reading(NamedTuple):
    """What has been read of an expression, or of the innermost bracket that is open.

    Attributes:
        total: int32 `[B]`, sum of the terms that are closed.
        term: int32 `[B]`, the term that is open, with its sign; after an operator the factor of
            the operand to come.
        waiting: bool `[B]`, whether an operand is to come.
    """

    total: Array
    term: Array
    waiting: Array

    @classmethod
    def nothing(cls, batch: int) -> Reading:
        """Before the first symbol."""
        zeros = jnp.zeros((batch,), jnp.int32)
        return cls(zeros, zeros + 1, zeros == 0)

    def operand(self, value: Array, modulus: int) -> Reading:
        """Read a number or the value of a bracket."""
        return Reading(self.total, self.term * value % modulus, jnp.zeros_like(self.waiting))

    def operator(self, plus: Array, minus: Array, times: Array, modulus: int) -> Reading:
        """Read the operator that is marked, if any; `-` before an operand is a sign."""
        sign = minus & self.waiting
        closes = (plus | minus) & ~self.waiting
        total = jnp.where(closes, (self.total + self.term) % modulus, self.total)
        term = jnp.where(closes, jnp.where(minus, modulus - 1, 1), self.term)
        term = jnp.where(sign, (modulus - term) % modulus, term)
        return Reading(total, term, self.waiting | plus | minus | times)

    def value(self, modulus: int) -> Array:
        """Value of the expression, where no operand is to come."""
        return (self.total + self.term) % modulus


def choose(condition: Array, yes: Reading, no: Reading) -> Reading:
    """Row by row one of two readings."""
    return Reading(*(jnp.where(condition, a, b) for a, b in zip(yes, no, strict=True)))
