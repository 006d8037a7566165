"""What a task asks for: the transition monoid of its smallest automaton, and the groups in it.

Words act on the states of an automaton. If every symbol permutes them, the words make a group, and
a model has to represent it; symbols that join states forget, and a model has to forget them, too.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.monoids import (
    TransitionGroup,
    groups,
    images,
    monoid_order,
    regular_group,
)
from tasks.prefix import Machine
from tasks.regular import smallest


@dataclass(frozen=True, eq=False)
class Structure:
    """The algebra of the smallest automaton of a task.

    Each word maps states to states, and the different maps form a monoid. Where not every symbol
    can follow in every state (a digit follows an operator), only inputs that the task draws count:
    a word is then a map of those states in which it can be read.

    The groups of a monoid are those by which words permute some set of states. By Krohn and Rhodes
    every automaton is made of such groups and of resets.

    Attributes:
        states: Number of states of the smallest automaton with the labels of the task.
        symbols: Number of symbols.
        monoid_order: Number of elements of the monoid; None above `MAX_ELEMENTS`.
        is_group: Whether every symbol permutes the states, so that the monoid is a group.
        has_resets: Whether some symbol leads from all states to the same one.
        has_constant: Whether some word leads from all states to the same one; None if not known.
        has_identity: Whether some symbol changes no state.
        is_aperiodic: Whether no word permutes states in a circle: all groups of the monoid are
            trivial (star-free languages). None if it is not known, because there are too many sets
            of states to look at.
        group_order: Order of the largest group; None if it is above `MAX_ELEMENTS` or not known.
        is_abelian: Whether all groups are abelian; None if not known.
        is_solvable: Whether all groups are solvable; None if not known. By Barrington's theorem the
            task is complete for NC1 if one is not, and in TC0 otherwise.
        group: The largest group as a Cayley table; None if it is not known or has more than
            `MAX_TABLE` elements.
        machine: The smallest automaton; its initial state is 0.
        symbol_ranks: Number of states that each symbol leads to.

    Example:
        >>> import tasks
        >>> found: tasks.Structure = tasks.structure(tasks.get("flip_flop"))
        >>> found.states, found.has_resets, found.is_group, found.is_aperiodic
        (2, True, False, True)
    """

    states: int
    symbols: int
    monoid_order: int | None
    is_group: bool
    has_resets: bool
    has_constant: bool | None
    has_identity: bool
    is_aperiodic: bool | None
    group_order: int | None
    is_abelian: bool | None
    is_solvable: bool | None
    group: TransitionGroup | None
    machine: Machine
    symbol_ranks: tuple[int, ...]

    @property
    def kind(self) -> str:
        """What to prepare for.

        - "aperiodic": to remember and forget, but not to count in a circle (flip_flop).
        - "group": every symbol permutes the states (parity, word problems).
        - "permutation-reset": every symbol either permutes them or leads all to one.
        - "mixed": anything else with a group in it.
        """
        if self.is_aperiodic:
            return "aperiodic"
        if self.is_group:
            return "group"
        simple = all(rank in (1, self.states) for rank in self.symbol_ranks)
        return "permutation-reset" if simple else "mixed"


def structure(task: Any) -> Structure | None:
    """Analyse the automaton of a task.

    Args:
        task: Any task. One with an attribute `machine` (`tasks.prefix.Machine`) has an
            automaton, so also a task of your own.

    Returns:
        The structure of the smallest automaton with the task's labels; None if the task has no
        automaton, such as one with brackets, which no finite automaton can count.

    Raises:
        ValueError: If the automaton is too large to be written out.

    Example:
        >>> import tasks
        >>> found = tasks.structure(tasks.get("s3_word_problem"))
        >>> found.kind, found.group_order, found.is_abelian, found.is_solvable
        ('group', 6, False, True)
    """
    machine = getattr(task, "machine", None)
    return analyse(machine) if isinstance(machine, Machine) else None


@functools.lru_cache(maxsize=16)
def analyse(machine: Machine) -> Structure:
    """Analyse an automaton: see `structure`."""
    small = minimise(machine)
    states, symbols = small.transition.shape
    maps = np.ascontiguousarray(small.transition.T, np.int64)
    if small.drawn is not None:
        # Where a symbol cannot follow it leads out of the states, to the number of states.
        maps = np.where(small.drawn.T, maps, states)
        maps = np.concatenate([maps, np.full((symbols, 1), states)], axis=1)
    ranks = tuple(len(np.unique(one[one < states])) for one in maps)
    permutes, columns = min(ranks) == states, np.unique(maps, axis=0)
    regular = regular_group(small) if permutes else None
    if regular is not None:
        found, complete, constant = [regular], True, states == 1
    else:
        sets, following, complete = images(columns, states)
        found = groups(columns, sets, following)
        constant = True if min(map(len, sets)) == 1 else False if complete else None
    orders = [one.order for one in found]
    largest = (
        max(found, key=lambda one: one.order or 0) if complete and None not in orders else None
    )
    return Structure(
        states=states,
        symbols=symbols,
        # The words of a permutation automaton are its one group.
        monoid_order=orders[0] if permutes else monoid_order(columns),
        is_group=permutes,
        has_resets=min(ranks) == 1,
        has_constant=constant,
        has_identity=bool((columns[:, :states] == np.arange(states)).all(axis=1).any()),
        is_aperiodic=_all([order == 1 for order in orders], complete),
        group_order=None if largest is None else largest.order,
        is_abelian=_all([one.is_abelian for one in found], complete),
        is_solvable=_all([one.is_solvable for one in found], complete),
        group=None if largest is None else largest.tabulated(maps, small.outputs),
        machine=small,
        symbol_ranks=ranks,
    )


def minimise(machine: Machine) -> Machine:
    """The smallest automaton with the same labels after every word that an input may begin with.

    States are numbered in the order in which words reach them, shortest words first; the initial
    one is 0. Where a symbol cannot follow, the state stays.
    """
    transition, nowhere = np.asarray(machine.transition), len(machine.transition)
    if machine.drawn is not None:
        transition = np.where(machine.drawn, transition, nowhere)
    new = reached = np.array([machine.initial])
    while len(new):
        following, first = np.unique(transition[new].ravel(), return_index=True)
        following = following[np.argsort(first)]
        new = following[~np.isin(following, reached) & (following < nowhere)]
        reached = np.concatenate([reached, new])
    numbers = np.full(nowhere + 1, len(reached))
    numbers[reached] = np.arange(len(reached))
    # The place that no word leads to is a state with a label of its own, the last one.
    rows = np.full((len(reached) + 1, transition.shape[1]), len(reached))
    rows[:-1] = numbers[transition[reached]]
    labels = np.asarray(machine.outputs)[reached]
    small, outputs, _ = smallest(rows, np.append(labels, labels.max() + 1))
    drawn = small[:-1] < len(small) - 1
    stays = np.arange(len(drawn))[:, None]
    return Machine(
        transition=np.where(drawn, small[:-1], stays),
        outputs=outputs[:-1],
        initial=0,
        frequencies=machine.frequencies,
        drawn=None if drawn.all() else drawn,
    )


def _all(values: Sequence[bool | None], complete: bool) -> bool | None:
    """Whether all are true; None if that is not known."""
    if False in values:
        return False
    return None if None in values or not complete else True
