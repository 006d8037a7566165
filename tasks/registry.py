"""Tasks by name."""

from __future__ import annotations

import dataclasses
from typing import Any

from tasks.automaton import Automaton
from tasks.base import SymbolTask, Task, nearest, shown
from tasks.binary import BinaryAddition, BinaryMultiplication, ComputeSqrt
from tasks.cycle_navigation import CycleNavigation
from tasks.even_pairs import EvenPairs
from tasks.flip_flop import FlipFlop
from tasks.majority import Majority, MajorityCount
from tasks.missing_duplicate import MissingDuplicate
from tasks.modular_arithmetic import ModularArithmetic
from tasks.modular_arithmetic_brackets import ModularArithmeticBrackets
from tasks.mqar import MQAR
from tasks.parity import Parity
from tasks.random_automaton import RandomAutomaton
from tasks.solve_equation import SolveEquation
from tasks.stack_manipulation import StackManipulation
from tasks.strings import (
    BucketSort,
    DuplicateString,
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
_WORD_PROBLEM = "_word_problem"
_GROUPS = ("z60", "s3", "s4", "s5", "a5", "a4xz5")


def names() -> list[str]:
    """List the names of all tasks.

    `get` knows the word problem of every other group too, as `<group>_word_problem`.
    """
    return sorted((*_TASKS, *(group + _WORD_PROBLEM for group in _GROUPS)))


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
    return make(name, *_find(name), options)


def make(name: str, task: type[Any], fixed: dict[str, str], options: dict[str, Any]) -> Any:
    """Make a task of a class, with the options that its name fixes and those that are given.

    Raises:
        ValueError: If there is no option of that name (with the nearest names), or its value is
            not allowed.
        TypeError: If the value of an option has the wrong type.
    """
    fields = [field.name for field in dataclasses.fields(task) if field.init]
    known = [name for name in fields if name not in fixed]
    for option in options:
        if option not in known:
            raise ValueError(
                f"task {shown(name)} has no option {shown(option)}; "
                f"{nearest(option, known, none='it has none')}"
            )
    return task(**fixed, **{option: _as_tuples(value) for option, value in options.items()})


def _find(name: str) -> tuple[type[Any], dict[str, str]]:
    """The class of a task, and the options that its name fixes."""
    if name in _TASKS:
        return _TASKS[name], {}
    group, suffix, rest = name.lower().partition(_WORD_PROBLEM)
    if group and suffix and not rest:
        return WordProblem, {"group": group}
    raise ValueError(f"unknown task {shown(name)}; {nearest(name, names())}")


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value
