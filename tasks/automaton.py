"""Finite automata: any DFA as a table, and the machinery for those with a name of their own."""

from __future__ import annotations

import abc
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from tasks import settling
from tasks.base import shown, token_rows
from tasks.prefix import PrefixTask, prefix_products
from tasks.regular import regular_table
from tasks.tables import Table, read_table

MAX_MONOID = 512
"""Automata with more elements in their transition monoid than this are run step by step."""

MAX_STATES = 2048
"""Largest number of states, and of labels, of an automaton that is given as a table."""

MOST_ENTRIES = 2**25
"""Largest size of a table, states times symbols, that a task writes out to be analysed."""

_MODULO_3 = ((0, 1), (2, 0), (1, 2))


class Monoid(NamedTuple):
    """What words can do to the states of an automaton.

    Attributes:
        actions: int32 `[elements, states]`, where an element sends each state.
        table: int32 `[elements, elements]`, products; the left factor is the earlier word.
        symbols: int32 `[symbols]`, the element of each symbol.
    """

    actions: np.ndarray
    table: np.ndarray
    symbols: np.ndarray


@dataclass(frozen=True, eq=False)
class Machine:
    """A deterministic automaton whose states are labelled (a Moore machine).

    Attributes:
        transition: Integer `[states, symbols]`, the next state.
        outputs: Integer `[states]`, the label of each state.
        initial: State before the first symbol.
        frequencies: Real `[symbols]`, how often each symbol is drawn; they sum to 1.
        drawn: Bool `[states, symbols]`, the symbols that inputs may hold in each state, where not
            every symbol can follow (a digit follows an operator, say); None if every one can.
    """

    transition: np.ndarray
    outputs: np.ndarray
    initial: int
    frequencies: np.ndarray
    drawn: np.ndarray | None = None

    @functools.cached_property
    def monoid(self) -> Monoid | None:
        """The transition monoid; None if it has more than `MAX_MONOID` elements."""
        symbols = [tuple(column) for column in self.transition.T.tolist()]
        ids = {action: index for index, action in enumerate(dict.fromkeys(symbols))}
        words = list(ids)
        for word in words:  # grows while it is walked
            for symbol in symbols:
                longer = tuple(symbol[state] for state in word)
                if longer not in ids:
                    ids[longer] = len(words)
                    words.append(longer)
            if len(words) > MAX_MONOID:
                return None
        actions = np.array(words, np.int32)
        table = [[ids[tuple(row)] for row in actions[:, first].tolist()] for first in actions]
        elements = [ids[symbol] for symbol in symbols]
        return Monoid(actions, np.array(table, np.int32), np.array(elements, np.int32))

    @functools.cached_property
    def chance(self) -> float:
        """Frequency of the most frequent label in a long input."""
        states = len(self.transition)
        chain = np.zeros((states, states))
        for symbol, frequency in enumerate(self.frequencies):
            chain[np.arange(states), self.transition[:, symbol]] += frequency
        # A chain that waits half of the time has the same long-run frequencies, and no period.
        chain = (chain + np.eye(states)) / 2
        for _ in range(40):
            chain = chain @ chain
            chain /= chain.sum(axis=1, keepdims=True)
        return round(float(np.bincount(self.outputs, chain[self.initial]).max()), 12)

    def run(self, tokens: Array, state: Array) -> Array:
        """States behind each token: `[B, T]` from tokens `[B, T]` and the states `[B]` before."""
        if self.monoid is not None:
            words = jnp.asarray(self.monoid.symbols, jnp.int32)[tokens]
            words = prefix_products(self.monoid.table, words)
            return jnp.asarray(self.monoid.actions, jnp.int32)[words, state[:, None]]
        transition = jnp.asarray(self.transition, jnp.int32)

        def step(state: Array, symbol: Array) -> tuple[Array, Array]:
            after = transition[state, symbol]
            return after, after

        return jax.lax.scan(step, state, tokens.T)[1].T


@dataclass(frozen=True)
class AutomatonTask(PrefixTask):
    """The label at position t is that of the state an automaton is in after symbol t."""

    @functools.cached_property
    @abc.abstractmethod
    def machine(self) -> Machine:
        """The automaton."""

    @property
    def chance(self) -> float:
        """Frequency of the most frequent label in a long input."""
        return self.machine.chance

    def start(self, batch: int) -> Array:
        """States before the first symbol, int32 `[batch]`."""
        return jnp.full((batch,), self.machine.initial, jnp.int32)

    def advance(self, inputs: ArrayLike, state: Array) -> tuple[Array, Array]:
        """Label the next chunk of a stream: see `PrefixTask.advance`."""
        tokens = token_rows(inputs)
        states = self.machine.run(tokens, state)
        behind = states[:, -1] if tokens.shape[1] else state
        return jnp.asarray(self.machine.outputs, jnp.int32)[states], behind

    def _symbols(self, key: Array, batch: int, length: int) -> Array:
        # Without the last bound, so that rounding leaves no room above it.
        bounds = jnp.asarray(np.cumsum(self.machine.frequencies)[:-1], jnp.float32)
        uniform = jax.random.uniform(key, (batch, length), jnp.float32)
        return (uniform[..., None] >= bounds).sum(-1, dtype=jnp.int32)


@dataclass(frozen=True)
class Automaton(AutomatonTask):
    """Any deterministic finite automaton: a table, a file or a regular expression.

    *Rule.* `state_t = transition[state_(t-1)][x_t]`; the label at position t is that of `state_t`.
    Of a regular expression it is 1 if the symbols so far match the whole of it.

    *Alphabet.* Symbols 0, 1, ... (the columns of the table), or the names given, or those of the
    expression; drawn uniformly. Where words can settle the label for good (`b` of `a(ab)*`), only
    one half of the inputs does so, at a uniform position, and symbols that would are left out
    until then: see `tasks.settling`. Such inputs are drawn anew at every length.

    *Example.* The default reads a binary number from its first digit on and labels it with its
    remainder modulo 3 (`2 state + bit`):

        input   1 1 0 1
        label   1 0 0 1

    *Chance.* Frequency of the most frequent label in long inputs, from the chain of states; at
    length 128 where words settle.

    *Source.* Liu et al., Transformers Learn Shortcuts to Automata, arXiv 2210.10749.

    Tasks with the same automaton are equal, however it was given.

    Args:
        transition: `[states][symbols]`, the next state.
        outputs: Label id of each state; by default the state itself. For a language: 1 in the
            accepting states, 0 in the others.
        initial: State before the first symbol, by default 0.
        symbol_names: Names of the input symbols.
        label_names: Names of the labels.
        file: A text file with a table: see `tasks.tables.read_table`. It is read once.
        regex: A regular expression, such as "(ab|ba)*": see `tasks.regular.regular_table`.
        alphabet: The symbols of the expression, such as "abc"; by default those that it has.
        labels_at: Score "every" position or the "last" of each row.

    Raises:
        ValueError: If sizes don't fit each other, a state doesn't exist, names repeat, a file or an
            expression is wrong, an automaton is given in more than one way, or it has more than
            2,048 states or labels.
    """

    transition: Sequence[Sequence[int]] | np.ndarray | None = field(default=None, compare=False)
    outputs: Sequence[int] | np.ndarray | None = field(default=None, compare=False)
    initial: int | None = field(default=None, compare=False)
    symbol_names: Sequence[str] | None = field(default=None, compare=False)
    label_names: Sequence[str] | None = field(default=None, compare=False)
    file: str | None = field(default=None, compare=False)
    regex: str | None = field(default=None, compare=False)
    alphabet: str | None = field(default=None, compare=False)
    table: Table = field(init=False, repr=False)

    name: ClassVar[str] = "automaton"

    def __post_init__(self) -> None:
        super().__post_init__()
        table = self._table()
        _check_count("states", len(table.transition))
        check_size(len(table.transition), len(table.symbols))
        object.__setattr__(self, "table", table)

    def _table(self) -> Table:
        plain = ("transition", "outputs", "initial", "symbol_names", "label_names")
        given = [option for option in plain if getattr(self, option) is not None]
        ways = [*given[:1], *(w for w in ("file", "regex") if getattr(self, w) is not None)]
        if len(ways) > 1:
            raise ValueError(f"an automaton is given in one way, not by {' and '.join(ways)}")
        if self.alphabet is not None and self.regex is None:
            raise ValueError(f"alphabet={shown(self.alphabet)} needs a regex")
        if self.file is not None:
            return read_table(self.file)
        if self.regex is not None:
            return regular_table(self.regex, self.alphabet)
        return _checked(
            _MODULO_3 if self.transition is None else self.transition,
            self.outputs,
            0 if self.initial is None else self.initial,
            self.symbol_names,
            self.label_names,
        )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Names of the symbols."""
        return self.table.symbols

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels."""
        return self.table.labels

    @functools.cached_property
    def machine(self) -> Machine:
        """The automaton, with uniform symbols."""
        transition = np.array(self.table.transition, np.int32)
        symbols = transition.shape[1]
        frequencies = np.full(symbols, 1 / symbols)
        outputs = np.array(self.table.outputs, np.int32)
        return Machine(transition, outputs, self.table.initial, frequencies)

    @functools.cached_property
    def _choices(self) -> settling.Choices | None:
        machine = self.machine
        return settling.choices(machine.transition, machine.outputs, machine.initial)

    @property
    def per_token(self) -> bool:
        """Whether inputs of all lengths begin alike, so that one pass measures every length."""
        return self._choices is None

    @property
    def chance(self) -> float:
        """Frequency of the most frequent label in long inputs."""
        return self._chance

    @functools.cached_property
    def _chance(self) -> float:
        machine, chosen = self.machine, self._choices
        if chosen is None:
            return machine.chance
        shares = settling.label_frequencies(
            machine.transition,
            machine.outputs,
            machine.initial,
            chosen,
            last=self.labels_at == "last",
        )
        return float(shares.max())

    def _draw(self, key: Array, lengths: Array, width: int) -> Array:
        machine, chosen = self.machine, self._choices
        if chosen is None:
            return super()._draw(key, lengths, width)
        return settling.draw(machine.transition, machine.initial, chosen, key, lengths, width)


def _check_count(of: str, count: int) -> None:
    if count > MAX_STATES:
        raise ValueError(f"an automaton has at most {MAX_STATES:,} {of}, got {count:,}")


def check_size(states: int, symbols: int) -> None:
    """Check that the table of an automaton is not too large to be written out.

    Raises:
        ValueError: If it has more than `MOST_ENTRIES` entries.
    """
    if states * symbols > MOST_ENTRIES:
        raise ValueError(
            f"an automaton of {states:,} states and {symbols:,} symbols is too large to be written "
            f"out: its table must have at most {MOST_ENTRIES:,} entries"
        )


def _checked(
    transition: object,
    outputs: object | None,
    initial: int,
    symbol_names: Sequence[str] | None,
    label_names: Sequence[str] | None,
) -> Table:
    """A table of given values, checked for fitting each other."""
    table = _whole_numbers("transition", transition, 2)
    states = len(table)
    _check_count("states", states)
    if table.max() >= states:
        raise ValueError(f"transition names state {table.max()}, but has rows 0 .. {states - 1}")
    labels = _whole_numbers("outputs", np.arange(states) if outputs is None else outputs, 1)
    if len(labels) != states:
        raise ValueError(f"outputs must have one label for each of {states} states")
    _check_count("labels", int(labels.max()) + 1)
    _whole_numbers("initial", [initial], 1)
    if initial >= states:
        raise ValueError(f"initial must be a state in 0 .. {states - 1}, got {initial}")
    return Table(
        tuple(map(tuple, table.tolist())),
        tuple(labels.tolist()),
        int(initial),
        _names("symbol_names", symbol_names, table.shape[1]),
        _names("label_names", label_names, int(labels.max()) + 1),
    )


def _whole_numbers(name: str, values: object, axes: int) -> np.ndarray:
    """A table of ids, checked for being one."""
    try:
        array = np.array(values)
    except ValueError:
        raise ValueError(f"{name} must have rows of one length, got {shown(values)}") from None
    if array.ndim != axes or not array.size or array.dtype.kind not in "iu" or array.min() < 0:
        raise ValueError(
            f"{name} must be {axes}-dimensional, of ids from 0 on; got {shown(values)}"
        )
    return array.astype(np.int64)


def _names(option: str, names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if names is None:
        return tuple(map(str, range(count)))
    names = tuple(names)
    if len(names) != count or len(set(names)) < count or any(len(n.split()) != 1 for n in names):
        raise ValueError(f"{option} must be {count} different words, got {shown(names)}")
    return names
