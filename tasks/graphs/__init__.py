"""Directed acyclic graphs: tasks that are drawn, and data sets of files.

`graph_names()` lists the tasks, `get_graph(name, **options)` makes one; see `tasks.graphs.base`.
`read_tu(folder)` reads a data set of labelled graphs, and `folds(labels)` parts it for cross
validation. All arrays are NumPy's, on the host.
"""

from typing import Any

from tasks.graphs.base import GraphBatch, Graphs, GraphTask, SymbolGraphTask
from tasks.graphs.paths import LongestPathParity, PathWordProblem
from tasks.graphs.tree_tasks import BooleanFormula, ListOps, TreeAutomaton
from tasks.graphs.tu import TUData, read_tu
from tasks.graphs.tu_task import Fold, TUTask, folds
from tasks.registry import make

__all__ = [
    "Fold",
    "GraphBatch",
    "GraphTask",
    "Graphs",
    "TUData",
    "TUTask",
    "folds",
    "get_graph",
    "graph_names",
    "read_tu",
]

_TASKS: dict[str, type[SymbolGraphTask]] = {
    "dag_automaton": TreeAutomaton,
    "dag_boolean": BooleanFormula,
    "dag_listops": ListOps,
    "dag_longest_path_parity": LongestPathParity,
    "dag_word_problem": PathWordProblem,
}


def graph_names() -> list[str]:
    """List the names of all tasks over directed acyclic graphs.

    Example:
        >>> import tasks
        >>> "dag_listops" in tasks.graph_names()
        True
    """
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
    return make(name, _TASKS, options)
