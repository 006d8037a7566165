"""Published protocols: what a paper trained and measured, rerun here and shown next to its numbers.

protocol = load("chomsky_regular")
for cell in cells(protocol, models=["plstm,transition.dim=4"], tasks=["parity"], scale=0.01):
    run_cell(cell)
print(export(compare(protocol), "table"))
"""

from experiments.protocols.cells import Cell, Model, cells, mixers, model, run_cell
from experiments.protocols.protocol import Protocol, load, names, read_protocol
from experiments.protocols.table import Comparison, compare, export
from experiments.protocols.values import begun

__all__ = [
    "Cell",
    "Comparison",
    "Model",
    "Protocol",
    "begun",
    "cells",
    "compare",
    "export",
    "load",
    "mixers",
    "model",
    "names",
    "read_protocol",
    "run_cell",
]
