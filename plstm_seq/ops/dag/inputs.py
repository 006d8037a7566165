"""The arguments of the DAG op as one pytree, the index arrays of its graph, and their checks."""

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
    """The index arrays of a line graph that the op reads, such as a `plstm_seq.graphs.LineGraph`.

    Padding has indices one past the last: an edge of padding has tail and head N, a line-graph edge
    of padding has before and after E, and an empty place of a block is P.
    """

    @property
    def tail(self) -> Any:
        """[E], the node that each edge leaves."""
        ...

    @property
    def head(self) -> Any:
        """[E], the node that each edge enters."""
        ...

    @property
    def before(self) -> Any:
        """[P], the edge that each line-graph edge comes from."""
        ...

    @property
    def after(self) -> Any:
        """[P], the edge that each line-graph edge leads to."""
        ...

    @property
    def blocks(self) -> Any:
        """[steps, width], every line-graph edge once, in blocks that can be computed in this order.

        No edge that a block leads to is an edge that this block, or one before it, comes from.
        """
        ...


class Indices(NamedTuple):
    """The index arrays of a graph as a pytree; `GRAPH_AXES` names their axes."""

    tail: Array
    head: Array
    before: Array
    after: Array
    blocks: Array


class Inputs(NamedTuple):
    """The arrays that enter the recurrence at nodes, edges and line-graph edges (axes: `AXES`)."""

    query: Array
    key: Array
    value: Array
    source: Array
    transition: Array
    mark: Array
    direct: Array | None = None

    def leading(self, dtype: jnp.dtype) -> "Inputs":
        """Converts [*B, n, ...] to [n, *B, ...] of one type, so that rows are nodes or edges."""
        axis = self.query.ndim - 3
        return jax.tree.map(lambda x: jnp.moveaxis(x.astype(dtype), axis, 0), self)


def check(inputs: Inputs, graph: Graph) -> Indices:
    """Checks that the shapes of all arguments fit each other and the graph.

    `AXES` and `plstm_seq.notation` name the axes.

    Raises:
        TypeError: an argument is not a floating-point array, or an index array does not hold
            integers.
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
