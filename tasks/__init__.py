"""Where the data comes from: tasks drawn on device, with labels that anyone can check.

`names()` lists the tasks, `get(name, **options)` makes one. See `tasks.base` for what a task is.
`grid_names()` and `get_grid(name, **options)` do the same for images and grids (`tasks.grid`),
`graph_names()` and `get_graph(name, **options)` for directed acyclic graphs (`tasks.graphs`).
`tasks.vision` reads images from files, `tasks.graphs` graphs. `structure(task)` says what the
automaton of a task is like.
"""

from tasks.arrow_pointing import ArrowPointing
from tasks.automaton import Automaton
from tasks.base import Batch, StreamingTask, Task
from tasks.binary import BinaryAddition, BinaryMultiplication, ComputeSqrt
from tasks.cycle_navigation import CycleNavigation
from tasks.even_pairs import EvenPairs
from tasks.flip_flop import FlipFlop
from tasks.graphs import GraphBatch, GraphTask, get_graph, graph_names
from tasks.grid import GridTask, ImageTask
from tasks.grid_parity import GridParity
from tasks.grid_registry import get_grid, grid_names
from tasks.grid_word_problem import GridWordProblem
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
from tasks.structure import Structure, structure
from tasks.word_problem import WordProblem

__all__ = [
    "MQAR",
    "ArrowPointing",
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
    "GraphBatch",
    "GraphTask",
    "GridParity",
    "GridTask",
    "GridWordProblem",
    "ImageTask",
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
    "Structure",
    "Task",
    "WordProblem",
    "get",
    "get_graph",
    "get_grid",
    "graph_names",
    "grid_names",
    "names",
    "structure",
]
