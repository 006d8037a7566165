"""Directed acyclic graphs: tasks that are drawn, and data sets of files.

`graph_names()` lists the tasks, `get_graph(name, **options)` makes one; see `tasks.graphs.base`.
`read_tu(folder)` reads a data set of labelled graphs, and `folds(labels)` parts it for cross
validation. All arrays are NumPy's, on the host.
"""

from tasks.graphs.base import GraphBatch, Graphs, GraphTask
from tasks.graphs.folds import Fold, folds
from tasks.graphs.registry import get_graph, graph_names
from tasks.graphs.tu import TUData, read_tu

__all__ = [
    "Fold",
    "GraphBatch",
    "GraphTask",
    "Graphs",
    "TUData",
    "folds",
    "get_graph",
    "graph_names",
    "read_tu",
]
