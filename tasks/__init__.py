"""Tasks: sources of inputs, with labels that follow from a rule which anyone can check.

`names()` lists the tasks over sequences, which draw their inputs on the device, and
`get(name, **options)` makes one; `tasks.base` defines what a task is. `grid_names()` and
`get_grid(name, **options)` do the same for images and grids (`tasks.grid`), `graph_names()` and
`get_graph(name, **options)` for directed acyclic graphs (`tasks.graphs`). `tasks.vision` reads
images from files, and `tasks.graphs` reads graphs from files. `structure(task)` analyses the
automaton of a task.
"""

from tasks.arithmetic import ModularArithmetic, ModularArithmeticBrackets
from tasks.arrow_pointing import ArrowPointing
from tasks.automaton import Automaton
from tasks.base import Batch, Task
from tasks.binary import BinaryAddition, BinaryMultiplication, ComputeSqrt
from tasks.graphs import GraphBatch, GraphTask, get_graph, graph_names
from tasks.grid import GridParity, GridTask, GridWordProblem, ImageTask
from tasks.majority import Majority, MajorityCount
from tasks.mqar import MQAR
from tasks.named_automata import CycleNavigation, EvenPairs, FlipFlop, Parity, RandomAutomaton
from tasks.prefix import StreamingTask
from tasks.registry import get, get_grid, grid_names, names
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
