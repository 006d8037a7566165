"""Tasks by name: those over sequences, and those over images and grids."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.arithmetic import ModularArithmetic, ModularArithmeticBrackets
from tasks.arrow_pointing import ArrowPointing
from tasks.automaton import Automaton
from tasks.base import SymbolTask, Task
from tasks.binary import BinaryAddition, BinaryMultiplication, ComputeSqrt
from tasks.grid import GridParity, GridTask, GridWordProblem, ImageTask
from tasks.majority import Majority, MajorityCount
from tasks.mqar import MQAR
from tasks.named_automata import CycleNavigation, EvenPairs, FlipFlop, Parity, RandomAutomaton
from tasks.options import nearest, shown
from tasks.sequences import StackManipulation
from tasks.solve_equation import SolveEquation
from tasks.strings import (
    BucketSort,
    DuplicateString,
    MissingDuplicate,
    OddsFirst,
    Repetition,
    ReverseString,
    Set,
)
from tasks.word_problem import WordProblem

_TASKS: dict[str, type[SymbolTask]] = {
    "automaton": Automaton,
    "binary_addition": BinaryAddition,
    "binary_multiplication": BinaryMultiplication,
    "bucket_sort": BucketSort,
    "compute_sqrt": ComputeSqrt,
    "cycle_navigation": CycleNavigation,
    "duplicate_string": DuplicateString,
    "even_pairs": EvenPairs,
    "flip_flop": FlipFlop,
    "majority": Majority,
    "majority_count": MajorityCount,
    "missing_duplicate": MissingDuplicate,
    "modular_arithmetic": ModularArithmetic,
    "modular_arithmetic_brackets": ModularArithmeticBrackets,
    "mqar": MQAR,
    "odds_first": OddsFirst,
    "parity": Parity,
    "random_automaton": RandomAutomaton,
    "repetition": Repetition,
    "reverse_string": ReverseString,
    "set": Set,
    "solve_equation": SolveEquation,
    "stack_manipulation": StackManipulation,
    "word_problem": WordProblem,
}
_GRIDS: dict[str, type[ArrowPointing | GridParity | GridWordProblem]] = {
    "arrow_pointing": ArrowPointing,
    "grid_parity": GridParity,
    "grid_word_problem": GridWordProblem,
}
WORD_PROBLEM = "_word_problem"
"""What the name of a group's word problem ends in."""

_GROUPS = ("z60", "s3", "s4", "s5", "a5", "a4xz5")


def names() -> list[str]:
    """List the names of all tasks.

    `get` knows the word problem of every other group too, as `<group>_word_problem`.

    Example:
        >>> import tasks
        >>> "parity" in tasks.names()
        True
    """
    return sorted((*_TASKS, *(group + WORD_PROBLEM for group in _GROUPS)))


def get(name: str, **options: Any) -> Task:
    """Make a task.

    Args:
        name: One of `names()`, or `<group>_word_problem` with any group that
            `tasks.groups.group` knows, such as `s5_word_problem` or `a4xz5_word_problem`.
        **options: Fields of the task; lists stand for tuples.

    Returns:
        The task; a `StreamingTask` if its input can be drawn in chunks.

    Raises:
        ValueError: If there is no task or option of that name (with the nearest names), or the
            value of an option is not allowed.
        TypeError: If the value of an option has the wrong type.

    Example:
        >>> get("s3_word_problem", generators=["(12)", "(23)"]).vocabulary
        ('(12)', '(23)')
    """
    group, suffix, rest = name.lower().partition(WORD_PROBLEM)
    if group and suffix and not rest:
        return make(name, {name: WordProblem}, options, group=group)
    return make(name, _TASKS, options, names())


def grid_names() -> list[str]:
    """List the names of all tasks over images and grids.

    Example:
        >>> import tasks
        >>> tasks.grid_names()
        ['arrow_pointing', 'grid_parity', 'grid_word_problem']
    """
    return sorted(_GRIDS)


def get_grid(name: str, **options: Any) -> ImageTask | GridTask:
    """Make a task over images or grids.

    Args:
        name: One of `grid_names()`.
        **options: Fields of the task.

    Returns:
        The task: an `ImageTask` or a `GridTask`.

    Raises:
        ValueError: If there is no task or option of that name (with the nearest names), or the
            value of an option is not allowed.
        TypeError: If the value of an option has the wrong type.

    Example:
        >>> get_grid("grid_word_problem", group="S5").chance
        0.008333333333333333
    """
    return make(name, _GRIDS, options)


def make(
    name: str,
    known: Mapping[str, type[Any]],
    options: dict[str, Any],
    listed: Iterable[str] | None = None,
    **fixed: str,
) -> Any:
    """Make a task of a kind.

    Args:
        name: Of the task.
        known: The classes of this kind of tasks by their names.
        options: Fields of the task; lists stand for tuples.
        listed: The names that a message may recall; those of `known` by default.
        **fixed: Fields that the name of the task says.

    Raises:
        ValueError: If there is no task or option of that name (with the nearest names), or the
            value of an option is not allowed.
        TypeError: If the value of an option has the wrong type.
    """
    if name not in known:
        raise ValueError(f"unknown task {shown(name)}; {nearest(name, listed or known)}")
    task = known[name]
    fields = [field.name for field in dataclasses.fields(task) if field.init]
    free = [field for field in fields if field not in fixed]
    for option in options:
        if option not in free:
            raise ValueError(
                f"task {shown(name)} has no option {shown(option)}; "
                f"{nearest(option, free, none='it has none')}"
            )
    return task(**fixed, **{option: _as_tuples(value) for option, value in options.items()})


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value
