"""Arithmetic modulo m without brackets."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from tasks.automaton import Machine, check_size
from tasks.base import token_rows
from tasks.expressions import ExpressionTask, Reading
from tasks.prefix import PrefixTask


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
    """

    name: ClassVar[str] = "modular_arithmetic"

    def __post_init__(self) -> None:
        ExpressionTask.__post_init__(self)
        PrefixTask.__post_init__(self)

    @property
    def chance(self) -> float:
        """The accuracy of a guess among all remainders."""
        return 1 / self.modulus

    @property
    def period(self) -> int:
        """`draw` makes chunks of digit and operator pairs."""
        return 2

    def start(self, batch: int) -> tuple[Reading, Array]:
        """State before the first symbol: nothing read, value 0."""
        return Reading.nothing(batch), jnp.zeros((batch,), jnp.int32)

    def advance(
        self, inputs: ArrayLike, state: tuple[Reading, Array]
    ) -> tuple[Array, tuple[Reading, Array]]:
        """Label the next chunk of a stream: see `PrefixTask.advance`."""
        state, labels = jax.lax.scan(self._step, state, token_rows(inputs).T)
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
        """The automaton of the value so far.

        A state is what `advance` carries: the terms that are closed, the open one with its sign,
        whether an operand is to come, and the label. Digits and operators take turns.

        Raises:
            ValueError: If that is too large to be written out.
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
