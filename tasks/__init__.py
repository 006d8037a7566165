"""Where the data comes from: tasks drawn on device, with labels that anyone can check.

`names()` lists the tasks, `get(name, **options)` makes one. See `tasks.base` for what a task is.
"""

from tasks.automaton import Automaton
from tasks.base import Batch, StreamingTask, Task
from tasks.cycle_navigation import CycleNavigation
from tasks.even_pairs import EvenPairs
from tasks.flip_flop import FlipFlop
from tasks.modular_arithmetic import ModularArithmetic
from tasks.modular_arithmetic_brackets import ModularArithmeticBrackets
from tasks.parity import Parity
from tasks.registry import get, names
from tasks.word_problem import WordProblem

__all__ = [
    "Automaton",
    "Batch",
    "CycleNavigation",
    "EvenPairs",
    "FlipFlop",
    "ModularArithmetic",
    "ModularArithmeticBrackets",
    "Parity",
    "StreamingTask",
    "Task",
    "WordProblem",
    "get",
    "names",
]
