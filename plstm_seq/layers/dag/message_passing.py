"""What the baselines of graph models share: every node hears its neighbours once."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.checks import require_positive, require_shape
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.dag.walk import Graphs
from plstm_seq.layers.precision import accumulation_dtype

Neighbours = Literal["both", "forward", "reverse"]


@dataclass(frozen=True, kw_only=True)
class MessagePassingConfig:
    """The options of all.

    Attributes:
        neighbours: "both": messages run along an edge and against it, as on undirected graphs;
            "forward": along it alone; "reverse": against it alone.
    """

    neighbours: Neighbours = "both"

    def __post_init__(self):
        if self.neighbours not in get_args(Neighbours):
            raise ValueError(
                f"neighbours: got {self.neighbours!r}, expected one of {get_args(Neighbours)}"
            )


C = TypeVar("C", bound=MessagePassingConfig)


class Messages(NamedTuple):
    """Who sends to whom; M messages, one an edge, or two of "both"; N nodes.

    Attributes:
        sender: [M]; N where an edge is padding.
        receiver: [M]; likewise.
        edges: features of the edge, [M, J]; None without.
        nodes: the number of nodes, N.
    """

    sender: Array
    receiver: Array
    edges: Array | None
    nodes: int

    def sent(self, x: Array) -> Array:
        """The rows of the senders; zero for padding."""
        return x.at[self.sender].get(mode="fill", fill_value=0)

    def received(self, x: Array) -> Array:
        """The rows of the receivers; zero for padding."""
        return x.at[self.receiver].get(mode="fill", fill_value=0)

    def summed(self, rows: Array) -> Array:
        """Sums messages [M, ...] over each receiver, [N, ...]."""
        wide = rows.astype(accumulation_dtype(rows.dtype))
        total = jax.ops.segment_sum(wide, self.receiver, self.nodes, mode="drop")
        return total.astype(rows.dtype)


class MessagePassing(Configured[C]):
    """A layer in which every node hears its neighbours once; a subclass says how.

    Args:
        features: D, of input and output.
        config: the options of the kind.
        edge_features: J, the features of an edge; 0: none.
        dtype: the type to compute in; None: that of input and parameters.
        param_dtype: the type of the parameters.
        rngs: for the parameters.

    Raises:
        ValueError: sizes do not fit each other.
    """

    of_edge: nnx.Linear | None

    def __init__(
        self,
        features: int,
        config: C,
        *,
        edge_features: int = 0,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        require_positive(features=features)
        self.features, self.edge_features, self.kept = features, edge_features, Kept(config)
        self.dtype, self.param_dtype = dtype, param_dtype
        self._make(dtype=dtype, param_dtype=param_dtype, rngs=rngs)

    def _make(self, **types: Any) -> None:
        """Make the parameters."""
        raise NotImplementedError

    def _pass(self, x: Array, messages: Messages) -> Array:
        """Map [N, D] to [N, D]."""
        raise NotImplementedError

    def _edge_linear(self, features: int, **types: Any) -> nnx.Linear | None:
        """A map of edge features to so many, for `of_edge`; None where there are none."""
        if not self.edge_features:
            return None
        return nnx.Linear(self.edge_features, features, use_bias=False, **types)

    def _with_edges(self, rows: Array, edges: Array | None) -> Array:
        """Adds what `of_edge` makes of the edges to the rows of messages [M, ...]."""
        if self.of_edge is None or edges is None:
            return rows
        return rows + self.of_edge(edges)

    def __call__(
        self, x: Float[Array, "N D"], graph: Graphs, edges: Float[Array, "E J"] | None = None
    ) -> Float[Array, "N D"]:
        """Run over a graph, or over several side by side.

        Args:
            x: [N, D].
            graph: index arrays, a `plstm_seq.graphs.LineGraph`, padded or not.
            edges: features of the edges, [E, J]; None without.

        Returns:
            The output [N, D]; that of a node that is padding is of no meaning.

        Raises:
            ValueError: a shape does not fit.
        """
        require_shape("x", x, ("N", self.features))
        if edges is not None:
            require_shape("edges", edges, (len(graph.tail), self.edge_features))
        elif self.edge_features:
            raise ValueError(f"edges: got None, expected [E, {self.edge_features}]")
        computed = jnp.result_type(x.dtype, self.param_dtype) if self.dtype is None else self.dtype
        x, edges = x.astype(computed), None if edges is None else edges.astype(computed)
        tail, head = jnp.asarray(graph.tail), jnp.asarray(graph.head)
        match self.config.neighbours:
            case "forward":
                messages = Messages(tail, head, edges, x.shape[0])
            case "reverse":
                messages = Messages(head, tail, edges, x.shape[0])
            case "both":
                both = None if edges is None else jnp.concatenate([edges, edges])
                ends = jnp.concatenate([tail, head]), jnp.concatenate([head, tail])
                messages = Messages(*ends, both, x.shape[0])
        return self._pass(x, messages)
