"""The arguments of the DAG op as one pytree, the index arrays of its graph, and the checks."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.arguments import check_axes, require_dtype

AXES: Mapping[str, tuple[str, ...]] = {
    "query": ("N", "DK", "JQ"),
    "key": ("N", "DK", "JK"),
    "value": ("N", "DV", "JV"),
    "source": ("E", "JT", "JK", "JV"),
    "transition": ("P", "JT", "JT"),
    "mark": ("E", "JO", "JQ", "JT"),
    "direct": ("N", "JO", "JQ", "JK", "JV"),
}
GRAPH_AXES: Mapping[str, tuple[str, ...]] = {
    "tail": ("E",),
    "head": ("E",),
    "before": ("P",),
    "after": ("P",),
    "blocks": ("steps", "width"),
}


class Graph(Protocol):
    """What the op reads of a line graph, all integers; `plstm_seq.graphs.LineGraph` is one.

    An edge that is padding has tail and head N, a line-graph edge that is padding before and after
    E, and a place of a block that is padding P: indices behind the last.
    """

    @property
    def tail(self) -> Any:
        """[E], the node an edge leaves."""
        ...

    @property
    def head(self) -> Any:
        """[E], the node it enters."""
        ...

    @property
    def before(self) -> Any:
        """[P], the edge that a line-graph edge comes from."""
        ...

    @property
    def after(self) -> Any:
        """[P], the edge that it leads to."""
        ...

    @property
    def blocks(self) -> Any:
        """[steps, width], line-graph edges, each once; those of a block leave earlier blocks alone.

        No edge that a block leads to is one that it, or a block before it, comes from.
        """
        ...


class Indices(NamedTuple):
    """The index arrays of a graph as a pytree; axes as in `GRAPH_AXES`."""

    tail: Array
    head: Array
    before: Array
    after: Array
    blocks: Array


class Inputs(NamedTuple):
    """What enters the recurrence at nodes, edges and line-graph edges; axes as in `AXES`."""

    query: Array
    key: Array
    value: Array
    source: Array
    transition: Array
    mark: Array
    direct: Array | None = None

    def leading(self, dtype: jnp.dtype) -> "Inputs":
        """[*B, n, ...] -> [n, *B, ...] in one type: a node, edge or line-graph edge is a row."""
        axis = self.query.ndim - 3
        return jax.tree.map(lambda x: jnp.moveaxis(x.astype(dtype), axis, 0), self)


def check(inputs: Inputs, graph: Graph) -> Indices:
    """Check that the shapes of all arguments fit each other, and the graph.

    What each axis is called stands in `AXES` and in `plstm_seq.notation`.

    Raises:
        TypeError: an argument is not a floating-point array, or an index array not of integers.
        ValueError: a shape does not fit the notation or another argument.
    """
    arguments = [(name, array, AXES[name]) for name, array in inputs._asdict().items()]
    check_axes(arguments, optional=("direct",), empty=("N", "E", "P"))
    axis = inputs.query.ndim - 3
    sizes = {"E": inputs.source.shape[axis], "P": inputs.transition.shape[axis]}
    origin = {"E": "source", "P": "transition"}
    arrays = {}
    for name, letters in GRAPH_AXES.items():
        array: Any = getattr(graph, name, None)
        require_dtype(f"graph.{name}", array, jnp.integer, "an array of integers")
        if array.ndim != len(letters):
            raise ValueError(
                f"graph.{name}: got shape {array.shape}, expected [{', '.join(letters)}]"
            )
        for letter, size in zip(letters, array.shape, strict=True):
            if size != sizes.get(letter, size):
                raise ValueError(
                    f"graph.{name}: got shape {array.shape}, expected {letter} = {sizes[letter]} "
                    f"from {origin[letter]}"
                )
        arrays[name] = jnp.asarray(array)
    return Indices(**arrays)
