"""What a task demands of a model: the dimensions in which its automaton can be computed."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import tasks
from plstm_seq.probing.characters import (
    character_table,
    real_irreducibles,
    smallest_faithful,
    smallest_faithful_sums,
)
from plstm_seq.probing.representations import faithful_representation
from tasks.monoids import MAX_TABLE, TransitionGroup

MAX_STATES = 2048
"""Automata with more states than this get no linear form."""

MAX_DIM = 256
"""Linear forms of more dimensions than this are not searched for."""

# A function counts as part of a space if its distance from it is below this share of its norm.
_TOLERANCE = 1e-7


@dataclass(frozen=True, eq=False)
class Demands:
    """What a task demands. A dimension is None if it doesn't exist or could not be computed.

    The group is that of the task, or the largest one in its monoid; in an aperiodic task it is
    trivial, and its dimensions are 0.

    Attributes:
        structure: The properties of the automaton.
        faithful_dimension: The smallest dimension of real matrices that represent the group, so
            that different elements have different matrices. JT has to be at least this large for
            one head to hold the group.
        rotation_dimension: The same, but every element has a matrix of determinant 1, as rotations
            and products of an even number of reflections do.
        reflection_length: The largest `rank(I - P)` of a symbol's matrix P, in the representation
            of `faithful_dimension` in which it is smallest. Every symbol is a product of at most
            this number of reflections (Householder matrices). None if no symbol permutes the
            states.
        linear_dimension: The dimension of `linear_form`: the smallest exact one that was found.
        not_computed: What could not be computed and why, one sentence for each.

    Example:
        >>> import tasks
        >>> from experiments import Demands, demands
        >>> found: Demands = demands(tasks.get("parity"))
        >>> found.faithful_dimension, found.rotation_dimension, found.structure.states
        (1, 2, 2)
    """

    structure: tasks.Structure
    faithful_dimension: int | None
    rotation_dimension: int | None
    reflection_length: int | None
    linear_dimension: int | None
    not_computed: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Returns all fields as plain values for JSON, without the tables."""
        of = self.structure
        names = (
            *("kind", "states", "symbols", "monoid_order", "is_group", "has_resets"),
            *("has_constant", "has_identity", "is_aperiodic", "group_order", "is_abelian"),
            "is_solvable",
        )
        return {
            **{name: getattr(of, name) for name in names},
            "symbol_ranks": list(of.symbol_ranks),
            "faithful_dimension": self.faithful_dimension,
            "rotation_dimension": self.rotation_dimension,
            "reflection_length": self.reflection_length,
            "linear_dimension": self.linear_dimension,
            "not_computed": list(self.not_computed),
        }


@dataclass(frozen=True, eq=False)
class TaskForm:
    """A linear recurrence that labels every input of a task exactly, with one matrix per symbol.

    The recurrence is `c_t = transitions[x_t] c_(t-1)`. The label at t is the one whose code is
    nearest to `readings[x_t] c_(t-1)`: as in a pLSTM the state *before* a symbol is read, by a mark
    that depends on the symbol.

    Attributes:
        transitions: float64 `[symbols, J, J]`.
        initial: float64 `[J]`, the state before the first symbol.
        readings: float64 `[symbols, K, J]`.
        codes: float64 `[labels, K]`, the point that stands for each label.

    Example:
        >>> import tasks
        >>> from experiments import TaskForm, linear_form
        >>> task = tasks.get("parity")
        >>> form: TaskForm = linear_form(task)
        >>> form.dim, form.label(task.encode("0110")[None]).tolist()
        (1, [[0, 1, 0, 0]])
    """

    transitions: np.ndarray
    initial: np.ndarray
    readings: np.ndarray
    codes: np.ndarray

    @property
    def dim(self) -> int:
        """J, the number of dimensions of the state."""
        return len(self.initial)

    def label(self, inputs: Any) -> np.ndarray:
        """Labels inputs step by step, integers `[B, T]` from `[B, T]`."""
        tokens = np.asarray(inputs)
        state = np.tile(self.initial, (len(tokens), 1))
        labels = np.zeros(tokens.shape, np.int64)
        for t, token in enumerate(tokens.T):
            read = np.einsum("bkj,bj->bk", self.readings[token], state)
            labels[:, t] = np.square(read[:, None] - self.codes).sum(-1).argmin(1)
            state = np.einsum("bij,bj->bi", self.transitions[token], state)
        return labels


def demands(task: Any) -> Demands | None:
    """Works out what a task demands of a model.

    Args:
        task: Any task.

    Returns:
        What it demands; None if it has no finite automaton (see `tasks.structure`).

    Raises:
        ValueError: If the automaton is too large to be written out.

    Example:
        >>> from experiments import demands
        >>> import tasks
        >>> found = demands(tasks.get("s5_word_problem", generators="swaps"))
        >>> found.faithful_dimension, found.rotation_dimension, found.reflection_length
        (4, 5, 1)
    """
    found = tasks.structure(task)
    return None if found is None else _demands(found, tuple(task.labels))


def linear_form(task: Any) -> TaskForm | None:
    """Finds the smallest exact linear form of a task that can be constructed.

    A linear form is a weighted automaton. It acts on the smallest space of real functions of the
    states that contains the code of the labels, and with every function f also
    `f(transition(., symbol))`. Several codes are tried, and the smallest form is returned:

    - an indicator of each label (its dimension is the Hankel rank of the labels), with or without
      its mean;
    - where labels are the elements of a group, a point that the group's smallest faithful
      representation moves;
    - where labels are the residues 0 .. n - 1, a point on a circle, or on a circle for each of some
      factors of n.

    The form is exact for the inputs that the task draws.

    Args:
        task: Any task.

    Returns:
        The linear form; None if the task has no finite automaton.

    Raises:
        ValueError: If the automaton is too large, or no form of few dimensions was found.

    Example:
        >>> import tasks
        >>> from experiments import linear_form
        >>> linear_form(tasks.get("cycle_navigation")).transitions.shape
        (3, 2, 2)
    """
    found = tasks.structure(task)
    return None if found is None else _form(found, tuple(task.labels))


@functools.lru_cache(maxsize=16)
def _demands(of: tasks.Structure, labels: tuple[str, ...]) -> Demands:
    problems: list[str] = []
    faithful = rotation = reflections = linear = None
    try:
        faithful, rotation, reflections = _group_dimensions(of.group)
    except ValueError as error:
        problems.append(f"dimensions of the group: {error}")
    try:
        linear = faithful if faithful and _told_apart(of) else _form(of, labels).dim
    except ValueError as error:
        problems.append(f"linear form: {error}")
    return Demands(of, faithful, rotation, reflections, linear, tuple(problems))


def _group_dimensions(group: TransitionGroup | None) -> tuple[int, int, int | None]:
    """Returns the smallest faithful dimension, that of rotations, a symbol's most reflections."""
    if group is None:
        raise ValueError(
            f"it has more than {MAX_TABLE:,} elements, or the monoid is too large to look at all "
            "groups in it"
        )
    characters = character_table(group.table)
    real = real_irreducibles(group.table, characters)
    sums = smallest_faithful_sums(real)
    rotations = smallest_faithful(real, rotations=True)
    used = np.unique(characters.class_of[group.symbols[group.symbols >= 0]])
    lengths = [int(real.ranks[list(one)][:, used].sum(0).max(initial=0)) for one in sums]
    trivial = len(group.table) == 1
    return (
        int(real.dims[list(sums[0])].sum()),
        int(real.dims[list(rotations)].sum()),
        min(lengths) if len(used) or trivial else None,
    )


def _told_apart(of: tasks.Structure) -> bool:
    """Whether labels are the elements of a group: fewer dimensions can't tell those apart."""
    return of.is_group and of.group is not None and of.group.labels is not None


@functools.lru_cache(maxsize=16)
def _form(of: tasks.Structure, labels: tuple[str, ...]) -> TaskForm:
    if of.states > MAX_STATES:
        raise ValueError(f"{of.states:,} states are more than {MAX_STATES:,}")
    best = None
    for codes, smallest in _codes(of, labels):
        most = MAX_DIM if best is None else best.dim - 1
        best = _generated(of, codes, most) or best
        if smallest or (best is not None and best.dim == 1):
            break
    if best is None:
        raise ValueError(f"none of at most {MAX_DIM} dimensions was found")
    return best


def _represented(group: TransitionGroup, labels: int) -> np.ndarray | None:
    """Returns where the matrices of the smallest representation send a random point."""
    if group.labels is None:
        return None
    try:
        matrices = np.swapaxes(faithful_representation(group.table), -1, -2)
    except ValueError:  # the group is too large
        return None
    points = np.random.default_rng(0).standard_normal((16, matrices.shape[1]))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    # Orthogonal matrices keep distances, so the distances from the first element are all there are.
    nearest = [np.linalg.norm((matrices @ one - one)[1:], axis=1).min() for one in points]
    codes = np.full((labels, matrices.shape[1]), np.inf)
    codes[group.labels] = matrices @ points[int(np.argmax(nearest))]
    return codes


def _codes(of: tasks.Structure, labels: tuple[str, ...]) -> Iterator[tuple[np.ndarray, bool]]:
    """Yields points that can stand for the labels, `[labels, K]`, and whether none is better."""
    count = len(labels)
    if of.group is not None and len(of.group.table) > 1:
        codes = _represented(of.group, count)
        if codes is not None and np.isfinite(codes[of.machine.outputs]).all():
            yield codes, _told_apart(of)
    if labels == tuple(map(str, range(count))):
        for factors in _factorings(count):
            turns = 2 * np.pi * np.arange(count)[:, None] / np.array(factors)
            codes = np.concatenate([np.cos(turns), np.sin(turns)], axis=1)
            yield codes[:, np.abs(codes).max(0) > _TOLERANCE], False
    shares = np.bincount(of.machine.outputs, minlength=count) / of.states
    yield np.eye(count) - shares, False
    yield np.eye(count), False


def _factorings(number: int) -> list[tuple[int, ...]]:
    """Returns the ways to write a number as an ascending product of coprime factors above 1."""
    powers, rest = [], number
    for prime in range(2, number + 1):
        power = 1
        while rest % prime == 0:
            rest, power = rest // prime, power * prime
        powers += [power] if power > 1 else []
    ways: set[tuple[int, ...]] = {()}
    for power in powers:
        ways = {
            tuple(sorted((*way[:k], factor * power, *way[k + 1 :])))
            for way in ways
            for k, factor in itertools.chain(enumerate(way), [(len(way), 1)])
        }
    return sorted(way for way in ways if way)


class _TooManyError(Exception):
    """There are more dimensions than were asked for."""


def _generated(of: tasks.Structure, codes: np.ndarray, most: int) -> TaskForm | None:
    """Returns the form on the space that codes generate; None if it has above `most` dimensions."""
    machine = of.machine
    blocks, source, target = _blocks(of)
    count, states = int(blocks.max()) + 1, of.states
    following = machine.transition.T
    inside = blocks == source[:, None]

    def read(symbol: int) -> np.ndarray:
        """Returns the code read before a symbol, as functions of the states that can precede it."""
        return np.where(inside[symbol], codes[machine.outputs[following[symbol]]].T, 0)

    bases = [np.zeros((0, states)) for _ in range(count)]

    def add(block: int, functions: np.ndarray) -> list[np.ndarray]:
        """Adds the directions of functions that are not in the space yet, and returns them."""
        new = []
        sizes = np.linalg.norm(functions, axis=1)
        functions = functions[sizes > _TOLERANCE]
        functions = functions / sizes[sizes > _TOLERANCE][:, None]
        functions = functions - functions @ bases[block].T @ bases[block]
        for function in functions[np.linalg.norm(functions, axis=1) > _TOLERANCE]:
            rest = function - function @ bases[block].T @ bases[block]
            if np.linalg.norm(rest) > _TOLERANCE:
                rest /= np.linalg.norm(rest)
                rest -= rest @ bases[block].T @ bases[block]
                rest /= np.linalg.norm(rest)
                bases[block] = np.concatenate([bases[block], rest[None]])
                new.append(rest)
                if len(bases[block]) > most:
                    raise _TooManyError
        return new

    try:
        queue = [
            (int(block), function)
            for symbol, block in enumerate(source)
            for function in add(block, read(symbol))
        ]
        for block, function in queue:  # the loop appends to the queue
            leading = np.flatnonzero(target == block)
            for before in np.unique(source[leading]):
                chosen = leading[source[leading] == before]
                moved = np.where(blocks == before, function[following[chosen]], 0)
                queue += [(int(before), one) for one in add(before, moved)]
    except _TooManyError:
        return None
    dim = max(1, *map(len, bases))
    space = np.zeros((count, dim, states))
    for block, basis in enumerate(bases):
        space[block, : len(basis)] = basis
    transitions, readings = [], []
    for symbol, (before, after) in enumerate(zip(source, target, strict=True)):
        moved = np.where(inside[symbol], space[after][:, following[symbol]], 0)
        transitions.append(moved @ space[before].T)
        readings.append(read(symbol) @ space[before].T)
    initial = space[blocks[0], :, 0].copy()
    return TaskForm(np.stack(transitions), initial, np.stack(readings), codes)


def _blocks(of: tasks.Structure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits states by the symbols that can follow, if each symbol leads from one block to one.

    Functions on different blocks may share their coordinates, because no symbol mixes them.

    Returns:
        The block of each state, and for each symbol the blocks before and after it.
    """
    machine = of.machine
    none = np.zeros(of.symbols, np.int64)
    one = np.zeros(of.states, np.int64), none, none
    if machine.drawn is None:
        return one
    kinds, blocks = np.unique(machine.drawn, axis=0, return_inverse=True)
    blocks = blocks.reshape(-1)
    if (kinds.sum(0) != 1).any():
        return one
    source = kinds.argmax(0)
    target = np.zeros(of.symbols, np.int64)
    for symbol in range(of.symbols):
        after = np.unique(blocks[machine.transition[blocks == source[symbol], symbol]])
        if len(after) > 1:
            return one
        target[symbol] = after[0]
    return blocks, source, target
