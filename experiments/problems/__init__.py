"""What a kind of task needs to be learned: its model, its batches, what grows when it is measured.

`make_task(name)` finds a task of any kind, `problem_of(task)` what goes with it.
"""

from experiments.problems.base import Problem
from experiments.problems.find import make_task, problem_of, task_names

__all__ = ["Problem", "make_task", "problem_of", "task_names"]
