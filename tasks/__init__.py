"""Where the data comes from: tasks drawn on device, with labels that anyone can check.

`names()` lists the tasks, `get(name, **options)` makes one. See `tasks.base` for what a task is.
"""

from tasks.automaton import Automaton
from tasks.base import Batch, StreamingTask, Task
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
from tasks.registry import get, names
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

__all__ = [
    "MQAR",
    "Automaton",
    "Batch",
    "BinaryAddition",
    "BinaryMultiplication",
    "BucketSort",
    "ComputeSqrt",
    "CycleNavigation",
    "DuplicateString",
    "EvenPairs",
    "FlipFlop",
    "Majority",
    "MajorityCount",
    "MissingDuplicate",
    "ModularArithmetic",
    "ModularArithmeticBrackets",
    "OddsFirst",
    "Parity",
    "RandomAutomaton",
    "Repetition",
    "ReverseString",
    "Set",
    "SolveEquation",
    "StackManipulation",
    "StreamingTask",
    "Task",
    "WordProblem",
    "get",
    "names",
]
