"""A task of any kind by its name, and the problem that it poses."""

from __future__ import annotations

from typing import Any

import tasks
from experiments.problems.base import Problem
from experiments.problems.graphs import GraphProblem
from experiments.problems.grids import GridProblem
from experiments.problems.images import ImagesProblem, ImagesTask
from experiments.problems.sequences import SequenceProblem
from experiments.problems.tu import TUProblem
from experiments.problems.tu_task import TUTask
from tasks.base import nearest, shown
from tasks.registry import make

# Of any group: the names of those are not all listed.
_WORD_PROBLEM = "_word_problem"

# What is read from files, option data=PATH.
_FROM_FILES = {task.name: task for task in (ImagesTask, TUTask)}

AnyTask = tasks.Task | tasks.ImageTask | tasks.GridTask | tasks.GraphTask | ImagesTask | TUTask


def task_names() -> list[str]:
    """The names of all tasks that are drawn: those over sequences, then grids, then graphs."""
    return [*tasks.names(), *tasks.grid_names(), *tasks.graph_names()]


def make_task(name: str, **options: Any) -> AnyTask:
    """Makes a task of any kind.

    Raises:
        ValueError: there is no such task or option, or a value is not allowed.
        TypeError: a value has the wrong type.
    """
    if name in _FROM_FILES:
        return make(name, _FROM_FILES[name], {}, options)
    if name in tasks.grid_names():
        return tasks.get_grid(name, **options)
    if name in tasks.graph_names():
        return tasks.get_graph(name, **options)
    if name not in tasks.names() and not name.lower().endswith(_WORD_PROBLEM):
        known = [*task_names(), *_FROM_FILES]
        raise ValueError(f"unknown task {shown(name)}; {nearest(name, known)}")
    return tasks.get(name, **options)


def problem_of(task: AnyTask) -> Problem:
    """What goes with a task's kind."""
    if isinstance(task, TUTask):
        return TUProblem(task)
    if isinstance(task, ImagesTask):
        return ImagesProblem(task)
    if isinstance(task, tasks.Task):
        return SequenceProblem(task)
    return GraphProblem(task) if isinstance(task, tasks.GraphTask) else GridProblem(task)
