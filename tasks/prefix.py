"""Tasks that label every prefix, whole or in chunks, and the automata that many of them follow."""

from __future__ import annotations

import abc
import functools
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from tasks.base import State, SymbolTask, Task, at_end, inside, symbol_ids
from tasks.options import check_at_least, check_choice

MAX_MONOID = 512
"""Automata with more elements in their transition monoid than this are run step by step."""

MOST_ENTRIES = 2**25
"""Largest size of a table, states times symbols, that a task writes out to be analysed."""


@runtime_checkable
class StreamingTask(Task, Protocol):
    """A task whose input can be drawn and labelled in chunks.

    `draw` makes one chunk after another, and `advance` labels a chunk of any size. The labels of
    the chunks, one after another, are the labels of the whole input.

    Where `per_token` is false, inputs are drawn differently for each length, and a stream does not
    measure that.

    Example:
        >>> import tasks
        >>> task: tasks.StreamingTask = tasks.get("parity")
        >>> first, state = task.advance([[1, 0, 1]], task.start(1))
        >>> second, state = task.advance([[1, 1]], state)
        >>> first.tolist(), second.tolist()
        ([[1, 1, 0]], [[1, 0]])
    """

    @property
    def period(self) -> int:
        """`draw` makes chunks whose length is a multiple of this (1 for most tasks)."""
        ...

    def draw(self, key: Array, batch: int, length: int) -> Array:
        """Draw the inputs `[batch, length]` of one chunk."""
        ...

    def start(self, batch: int) -> State:
        """State before the first symbol."""
        ...

    def advance(self, inputs: ArrayLike, state: State) -> tuple[Array, State]:
        """Label a chunk: `(targets [B, T], state behind it)`."""
        ...


@dataclass(frozen=True)
class PrefixTask(SymbolTask):
    """A task in which every position is labelled, and the label depends on the prefix only.

    Args:
        labels_at: Which positions are scored: "every" one, or the "last" of each row as in the
            benchmarks with a single final label. The labels themselves are the same.
    """

    labels_at: str = field(default="every", kw_only=True)

    _places: ClassVar[tuple[str, ...]] = ("every", "last")

    def __post_init__(self) -> None:
        check_choice("labels_at", self.labels_at, self._places)

    @property
    def per_token(self) -> bool:
        """Whether one pass over a long input measures every length."""
        return True

    @property
    def period(self) -> int:
        """`draw` makes chunks whose length is a multiple of this."""
        return 1

    @abc.abstractmethod
    def start(self, batch: int) -> State:
        """State before the first symbol, for `batch` rows: a pytree of arrays `[batch, ...]`."""

    @abc.abstractmethod
    def advance(self, inputs: ArrayLike, state: State) -> tuple[Array, State]:
        """Label the next chunk of a stream.

        Args:
            inputs: Integer `[B, T]`, token ids that follow those the state has seen.
            state: What `start` or the call before returned.

        Returns:
            Labels, int32 `[B, T]`, and the state behind the chunk.
        """

    @abc.abstractmethod
    def _symbols(self, key: Array, batch: int, length: int) -> Array:
        """Inputs `[batch, length]` from the start of a stream."""

    def draw(self, key: Array, batch: int, length: int) -> Array:
        """Draw the inputs of one chunk of a stream.

        Args:
            key: Typed random key, another one for each chunk.
            batch: Number of rows.
            length: Number of symbols, a multiple of `period`.

        Returns:
            int32 `[batch, length]`, token ids.

        Raises:
            ValueError: If a size is below 1 or the length not a multiple of `period`.
        """
        check_at_least("batch", batch, 1)
        check_at_least("length", length, 1)
        if length % self.period:
            raise ValueError(
                f"chunks of this task must have a multiple of {self.period} symbols, got {length}"
            )
        return self._symbols(key, batch, length)

    def _label(self, tokens: Array, lengths: Array) -> tuple[Array, Array]:
        labels, _ = self.advance(tokens, self.start(tokens.shape[0]))
        length = tokens.shape[1]
        return jnp.where(inside(lengths, length), labels, 0), self._scored(lengths, length)

    def _draw(self, key: Array, lengths: Array, width: int) -> Array:
        return self._symbols(key, lengths.shape[0], width)

    def _scored(self, lengths: Array, length: int) -> Array:
        """The scored positions, bool `[B, length]`."""
        return (at_end if self.labels_at == "last" else inside)(lengths, length)


def prefix_products(table: np.ndarray, elements: Array) -> Array:
    """Products of all prefixes in a finite monoid.

    One associative scan over gathers from the table: logarithmic depth where that counts (GPU),
    and on a CPU as fast as a loop over time.

    Args:
        table: Integer `[N, N]`; `table[a, b]` is the product `a b`.
        elements: int32 `[B, T]`, element ids.

    Returns:
        int32 `[B, T]`, ids of `elements[:, 0] ... elements[:, t]`.
    """
    products = jnp.asarray(table, jnp.int32)
    return jax.lax.associative_scan(lambda a, b: products[a, b], elements, axis=1)


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


def reachable(transition: np.ndarray) -> np.ndarray:
    """Which states can be reached from each, itself too: bool `[states, states]`."""
    states = np.arange(len(transition))
    reach = np.eye(len(states), dtype=bool)
    reach[states[:, None], transition] = True
    while True:
        wider = (reach.astype(np.float32) @ reach) > 0
        if (wider == reach).all():
            return reach
        reach = wider


@dataclass(frozen=True)
class AutomatonTask(PrefixTask):
    """The label at position t is that of the state an automaton is in after symbol t."""

    @functools.cached_property
    @abc.abstractmethod
    def machine(self) -> Machine:
        """The automaton."""

    @functools.cached_property
    def chance(self) -> float:
        """Frequency of the most frequent label in a long input."""
        return self.machine.chance

    def start(self, batch: int) -> Array:
        """States before the first symbol, int32 `[batch]`."""
        return jnp.full((batch,), self.machine.initial, jnp.int32)

    def advance(self, inputs: ArrayLike, state: Array) -> tuple[Array, Array]:
        """Label the next chunk of a stream: see `PrefixTask.advance`."""
        tokens = symbol_ids(inputs)
        states = self.machine.run(tokens, state)
        behind = states[:, -1] if tokens.shape[1] else state
        return jnp.asarray(self.machine.outputs, jnp.int32)[states], behind

    def _symbols(self, key: Array, batch: int, length: int) -> Array:
        # Without the last bound, so that rounding leaves no room above it.
        bounds = jnp.asarray(np.cumsum(self.machine.frequencies)[:-1], jnp.float32)
        uniform = jax.random.uniform(key, (batch, length), jnp.float32)
        return (uniform[..., None] >= bounds).sum(-1, dtype=jnp.int32)


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
