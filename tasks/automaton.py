"""The task of following any finite automaton, given by a table, a file or a regular expression.

Some automata *settle*: there are words after which the label never changes again. Most regular
languages are of this kind, since some prefixes cannot be completed to a word of the language.
Uniform symbols soon lead to such a prefix, and long inputs would teach nothing. The inputs of these
automata therefore avoid such words.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tasks.base import LONG
from tasks.options import check, shown
from tasks.prefix import AutomatonTask, Machine, check_size, reachable
from tasks.regular import Table, read_table, regular_table

MAX_STATES = 2048
"""The largest number of states, and of labels, of an automaton that is given as a table."""

_MODULO_3 = ((0, 1), (2, 0), (1, 2))


@dataclass(frozen=True)
class Automaton(AutomatonTask):
    """Any deterministic finite automaton: a table, a file or a regular expression.

    *Rule.* `state_t = transition[state_(t-1)][x_t]`; the label at position t is that of `state_t`.
    Of a regular expression it is 1 if the symbols so far match the whole of it.

    *Alphabet.* Symbols 0, 1, ... (the columns of the table), or the names given, or those of the
    expression; drawn uniformly. Where words can settle the label for good (`b` of `a(ab)*`), only
    one half of the inputs does so, at a uniform position, and symbols that would are left out
    until then. Such inputs are drawn anew at every length.

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
        file: A text file with a table: see `tasks.regular.read_table`. It is read once.
        regex: A regular expression, such as "(ab|ba)*": see `tasks.regular.regular_table`.
        alphabet: The symbols of the expression, such as "abc"; by default those that it has.
        labels_at: Score "every" position or the "last" of each row.

    Raises:
        ValueError: If sizes don't fit each other, a state doesn't exist, names repeat, a file or an
            expression is wrong, an automaton is given in more than one way, or it has more than
            2,048 states or labels.

    Example:
        >>> import tasks
        >>> task = tasks.Automaton(regex="(ab|ba)*")
        >>> task.targets([task.encode("abba")]).tolist()
        [[0, 1, 0, 1]]
        >>> tasks.Automaton([[0, 1], [2, 0], [1, 2]]).targets([[1, 1, 0, 1]]).tolist()
        [[1, 0, 0, 1]]
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
            raise ValueError(f"automaton: got {' and '.join(ways)}, expected one of them")
        if self.alphabet is not None and self.regex is None:
            raise ValueError(f"alphabet: got {shown(self.alphabet)}, expected None without a regex")
        if self.file is not None:
            return read_table(self.file)
        if self.regex is not None:
            return regular_table(self.regex, self.alphabet)
        return self._given()

    def _given(self) -> Table:
        """Check that the given values fit each other, and return them as a table."""
        given = _MODULO_3 if self.transition is None else self.transition
        table = _whole_numbers("transition", given, 2)
        states = len(table)
        _check_count("states", states)
        last = int(table.max())
        check(last < states, "transition", last, f"states in 0 .. {states - 1}, its rows")
        own = np.arange(states) if self.outputs is None else self.outputs
        labels = _whole_numbers("outputs", own, 1)
        count = len(labels)
        check(count == states, "outputs", count, f"a label for each of {states} states")
        _check_count("labels", int(labels.max()) + 1)
        initial = 0 if self.initial is None else self.initial
        _whole_numbers("initial", [initial], 1)
        check(initial < states, "initial", initial, f"a state in 0 .. {states - 1}")
        return Table(
            tuple(map(tuple, table.tolist())),
            tuple(labels.tolist()),
            int(initial),
            _names("symbol_names", self.symbol_names, table.shape[1]),
            _names("label_names", self.label_names, int(labels.max()) + 1),
        )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The names of the symbols."""
        return self.table.symbols

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels."""
        return self.table.labels

    @functools.cached_property
    def machine(self) -> Machine:
        """The automaton, whose symbols are uniform."""
        transition = np.array(self.table.transition, np.int32)
        symbols = transition.shape[1]
        frequencies = np.full(symbols, 1 / symbols)
        outputs = np.array(self.table.outputs, np.int32)
        return Machine(transition, outputs, self.table.initial, frequencies)

    @functools.cached_property
    def _choices(self) -> Choices | None:
        return choices(self.machine)

    @property
    def per_token(self) -> bool:
        """Whether one pass over a long input measures every length.

        It does unless the automaton settles, since inputs are then drawn differently for each
        length.
        """
        return self._choices is None

    @functools.cached_property
    def chance(self) -> float:
        """The frequency of the most frequent label in long inputs."""
        if self._choices is None:
            return self.machine.chance
        last = self.labels_at == "last"
        return float(_label_frequencies(self.machine, self._choices, last=last).max())

    def _draw(self, key: Array, lengths: Array, width: int) -> Array:
        if self._choices is None:
            return super()._draw(key, lengths, width)
        return _draw(self.machine, self._choices, key, lengths, width)


def _check_count(of: str, count: int) -> None:
    check(count <= MAX_STATES, of, count, f"at most {MAX_STATES}")


def _whole_numbers(name: str, values: object, axes: int) -> np.ndarray:
    """Return a table of ids after checking its type and its number of axes."""
    try:
        array = np.array(values)
    except ValueError:
        raise ValueError(f"{name}: got {shown(values)}, expected rows of one length") from None
    if array.ndim != axes or not array.size or array.dtype.kind not in "iu" or array.min() < 0:
        raise ValueError(
            f"{name}: got {shown(values)}, expected {axes} dimensions of ids from 0 on"
        )
    return array.astype(np.int64)


def _names(option: str, names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if names is None:
        return tuple(map(str, range(count)))
    names = tuple(names)
    if len(names) != count or len(set(names)) < count or any(len(n.split()) != 1 for n in names):
        raise ValueError(f"{option}: got {shown(names)}, expected {count} different words")
    return names


class Choices(NamedTuple):
    """The symbols that may be drawn in each state of an automaton: bool `[states, symbols]`.

    A state is settled if all states that can be reached from it have the same label.

    Attributes:
        on: The symbols that do not settle the label; all symbols in states without such a symbol.
        settling: The symbols that lead from a state that is not settled to a settled one.
    """

    on: np.ndarray
    settling: np.ndarray


def choices(machine: Machine) -> Choices | None:
    """Return the symbols that may be drawn in each state; None if no label is ever settled.

    It is None also if the initial state is settled.
    """
    reach = reachable(machine.transition)
    labels = np.array([len(set(machine.outputs[row].tolist())) for row in reach])
    settled = labels == 1
    if settled[machine.initial] or not settled[reach[machine.initial]].any():
        return None
    settling = settled[machine.transition] & ~settled[:, None]
    on = ~settling
    on[~on.any(axis=1)] = True
    return Choices(on, settling)


def _draw(machine: Machine, chosen: Choices, key: Array, lengths: Array, width: int) -> Array:
    """Draw inputs half of which settle, at a uniform position, and half of which do not.

    From that position on, a settling symbol is drawn as soon as there is one, and all symbols may
    follow it. The other symbols are uniform among those that leave the label open.

    Returns:
        int32 `[B, width]`; the positions after a row's length hold symbols, too.
    """
    half_key, due_key, symbol_key = jax.random.split(key, 3)
    half = jax.random.bernoulli(half_key, 0.5, lengths.shape)
    due = jnp.where(half, jax.random.randint(due_key, lengths.shape, 0, lengths), width)
    transition = jnp.asarray(machine.transition, jnp.int32)
    on, settling = jnp.asarray(chosen.on), jnp.asarray(chosen.settling)
    shape = (width, len(lengths), transition.shape[1])
    noise = jax.random.uniform(symbol_key, shape, jnp.float32)

    def step(state: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        position, drawn = now
        ready = ((position >= due) & settling[state].any(1))[:, None]
        allowed = jnp.where(ready, settling[state], on[state])
        symbol = jnp.where(allowed, drawn, -1).argmax(1).astype(jnp.int32)
        return transition[state, symbol], symbol

    start = jnp.full(lengths.shape, machine.initial, jnp.int32)
    positions = jnp.arange(width, dtype=jnp.int32)
    return jax.lax.scan(step, start, (positions, noise))[1].T


def _label_frequencies(machine: Machine, chosen: Choices, *, last: bool) -> np.ndarray:
    """Compute the frequency of each label, `[labels]`, in inputs of length `LONG` from `_draw`.

    Args:
        machine: The automaton.
        chosen: The result of `choices`.
        last: Whether to count only the last position, and not all of them.
    """
    on, settles = (_chain(machine.transition, part) for part in chosen)
    ready = chosen.settling.any(axis=1)
    calm, due = np.zeros((2, len(machine.transition)))
    calm[machine.initial] = 1
    counts = np.zeros(machine.outputs.max() + 1)
    for position in range(LONG):
        # An input that is to settle becomes due at a uniform position, so of those that are not due
        # yet one in (the remaining positions) becomes due now.
        remaining = (LONG - position) / LONG
        moved = calm * (1 / LONG) / (1 + remaining)
        calm, due = calm - moved, due + moved
        calm, due = calm @ on, np.where(ready, due, 0) @ settles + np.where(ready, 0, due) @ on
        if not last or position == LONG - 1:
            counts += np.bincount(machine.outputs, calm + due, len(counts))
    return counts / counts.sum()


def _chain(transition: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Return the transition probabilities if the allowed symbols of each state are uniform.

    The row of a state without allowed symbols is 0.
    """
    states = len(transition)
    chain = np.zeros((states, states))
    shares = allowed / np.maximum(allowed.sum(axis=1, keepdims=True), 1)
    np.add.at(chain, (np.arange(states)[:, None], transition), shares)
    return chain
