"""The index arrays of a graph, in the direction in which a layer goes through the graph."""

from typing import Any, Literal, NamedTuple, Protocol

import jax.numpy as jnp
from jax import Array

from plstm_seq.layers.arguments import require_shape
from plstm_seq.ops.dag.inputs import Graph

Direction = Literal["forward", "reverse"]


class Graphs(Graph, Protocol):
    """The index arrays of a graph that layers read, those that the op reads included.

    All are integers. `plstm_seq.graphs.LineGraph` is such a graph. Padding has indices above the
    last one that there is.

    Example:
        The edges from node 0 to 1 and from 1 to 2; the one line through both goes through node 1.

        >>> from plstm_seq.graphs import line_graph
        >>> from plstm_seq.layers.dag import Graphs
        >>> graph: Graphs = line_graph([[0, 1], [1, 2]], nodes=3)
        >>> graph.node.tolist(), graph.sizes.tolist()
        ([1], [3])
    """

    @property
    def out_slot(self) -> Any:
        """The rank of each edge among the edges that leave its tail, [E]."""
        ...

    @property
    def in_slot(self) -> Any:
        """The rank of each edge among the edges that enter its head, [E]."""
        ...

    @property
    def node(self) -> Any:
        """The node between the two edges of each line, [P]."""
        ...

    @property
    def graph(self) -> Any:
        """The graph that each node belongs to, [N]."""
        ...

    @property
    def sizes(self) -> Any:
        """The number of nodes of each graph, [G]."""
        ...

    @property
    def multitree(self) -> Any:
        """An array [P] that is 1 for the lines that D-mode keeps, or None if they are not known."""
        ...


def require_edges(edges: Array | None, graph: Graphs, features: int) -> None:
    """Raise `ValueError` unless `edges` has the shape [E, features], or is None with 0 features."""
    if edges is not None:
        require_shape("edges", edges, (len(graph.tail), features))
    elif features:
        raise ValueError(f"edges: got None, expected [E, {features}]")


class Walk(NamedTuple):
    """The index arrays that a layer and its op use: a `plstm_seq.ops.dag.inputs.Graph`."""

    tail: Array
    head: Array
    out_slot: Array
    in_slot: Array
    before: Array
    after: Array
    node: Array
    blocks: Array


def walk(graph: Graphs, direction: Direction = "forward") -> Walk:
    """Return the index arrays of a graph, or of the graph with every edge reversed.

    Nodes, edges and lines keep their numbers. The reversed graph has the blocks in reverse, which
    is a topological order of its lines: a line comes after all lines into the edge that it leaves.
    """
    tail, head, out_slot, in_slot, before, after, node, blocks = (
        jnp.asarray(getattr(graph, name)) for name in Walk._fields
    )
    if direction == "forward":
        return Walk(tail, head, out_slot, in_slot, before, after, node, blocks)
    return Walk(head, tail, in_slot, out_slot, after, before, node, blocks[::-1])
