"""Graphs on the host: from networkx or edge arrays to the index arrays that ops and layers read."""

from plstm_seq.graphs.combine import Sizes, bucket, padded, sizes_of, union
from plstm_seq.graphs.line_graph import LineGraph, from_networkx, line_graph, orient, reverse
from plstm_seq.graphs.order import multitree

__all__ = [
    "LineGraph",
    "Sizes",
    "bucket",
    "from_networkx",
    "line_graph",
    "multitree",
    "orient",
    "padded",
    "reverse",
    "sizes_of",
    "union",
]
