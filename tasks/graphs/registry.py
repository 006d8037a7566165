"""Tasks over directed acyclic graphs by name."""

from __future__ import annotations

from typing import Any

from tasks.base import shown
from tasks.graphs.base import GraphTask, SymbolGraphTask
from tasks.graphs.boolean import BooleanFormula
from tasks.graphs.listops import ListOps
from tasks.graphs.longest_path import LongestPathParity
from tasks.graphs.tree_automaton import TreeAutomaton
from tasks.graphs.word_problem import PathWordProblem
from tasks.registry import make, nearest

_TASKS: dict[str, type[SymbolGraphTask]] = {
    "dag_automaton": TreeAutomaton,
    "dag_boolean": BooleanFormula,
    "dag_listops": ListOps,
    "dag_longest_path_parity": LongestPathParity,
    "dag_word_problem": PathWordProblem,
}


def graph_names() -> list[str]:
    """List the names of all tasks over directed acyclic graphs."""
    return sorted(_TASKS)


def get_graph(name: str, **options: Any) -> GraphTask:
    """Make a task over directed acyclic graphs.

    Args:
        name: One of `graph_names()`.
        **options: Fields of the task; lists stand for tuples.

    Returns:
        The task.

    Raises:
        ValueError: If there is no task or option of that name (with the nearest names), or the
            value of an option is not allowed.
        TypeError: If the value of an option has the wrong type.

    Example:
        >>> get_graph("dag_boolean", operators=["not", "xor"]).vocabulary
        ('0', '1', 'not', 'xor')
    """
    if name not in _TASKS:
        raise ValueError(f"unknown task {shown(name)}; {nearest(name, graph_names())}")
    return make(name, _TASKS[name], {}, options)
