"""What a task needs to be learned: its model, its batches, and the sizes of its evaluation.

`make_task(name)` makes a task of any kind, and `problem_of(task)` returns what it needs.
"""

from __future__ import annotations

from typing import Any

import tasks
from experiments.problems.base import Problem
from experiments.problems.graphs import GraphProblem, TUProblem
from experiments.problems.grids import GridProblem, ImagesProblem
from experiments.problems.sequences import SequenceProblem
from tasks.graphs import TUTask
from tasks.options import nearest, shown
from tasks.registry import WORD_PROBLEM, make
from tasks.vision import ImagesTask

__all__ = ["Problem", "make_task", "problem_of", "task_names"]

# Tasks that are read from files (option data=PATH).
_FROM_FILES = {task.name: task for task in (ImagesTask, TUTask)}

AnyTask = tasks.Task | tasks.ImageTask | tasks.GridTask | tasks.GraphTask | ImagesTask | TUTask


def task_names() -> list[str]:
    """Returns the names of all tasks whose examples are drawn: sequences, then grids, then graphs.

    Example:
        >>> from experiments.problems import task_names
        >>> {"parity", "grid_parity", "dag_boolean"} <= set(task_names())
        True
    """
    return [*tasks.names(), *tasks.grid_names(), *tasks.graph_names()]


def make_task(name: str, **options: Any) -> AnyTask:
    """Makes a task of any kind.

    Args:
        name: a name of `task_names()`, the word problem of any group, or a task that is read from
            files (`images` or `tu`).
        **options: options of the task.

    Raises:
        ValueError: there is no such task or option, or a value is not allowed.
        TypeError: a value has the wrong type.

    Example:
        >>> from experiments.problems import make_task
        >>> make_task("modular_arithmetic", modulus=3).labels
        ('0', '1', '2')
    """
    if name in _FROM_FILES:
        return make(name, _FROM_FILES, options)
    if name in tasks.grid_names():
        return tasks.get_grid(name, **options)
    if name in tasks.graph_names():
        return tasks.get_graph(name, **options)
    if name not in tasks.names() and not name.lower().endswith(WORD_PROBLEM):
        known = [*task_names(), *_FROM_FILES]
        raise ValueError(f"unknown task {shown(name)}; {nearest(name, known)}")
    return tasks.get(name, **options)


def problem_of(task: AnyTask) -> Problem:
    """Returns what a task needs to be learned, according to its kind.

    Example:
        >>> from experiments.problems import make_task, problem_of
        >>> problem = problem_of(make_task("dag_boolean"))
        >>> problem.reads, problem.axis, problem.recommended_sizes()
        ('graphs', 'depth', (2, 4, 6, 8, 12, 16))
    """
    if isinstance(task, TUTask):
        return TUProblem(task)
    if isinstance(task, ImagesTask):
        return ImagesProblem(task)
    if isinstance(task, tasks.Task):
        return SequenceProblem(task)
    return GraphProblem(task) if isinstance(task, tasks.GraphTask) else GridProblem(task)
