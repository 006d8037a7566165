"""Message-passing baselines for graph models: GCN, GIN, GAT, MPNN and their base class.

In each of these layers, every node receives one message from each of its neighbours.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.arguments import (
    accumulation_dtype,
    computed,
    given,
    require_choice,
    require_divisible,
    require_positive,
    require_shape,
)
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.dag.walk import Graphs, require_edges

Neighbours = Literal["both", "forward", "reverse"]


@dataclass(frozen=True, kw_only=True)
class MessagePassingConfig:
    """The options that all message-passing layers share.

    Attributes:
        neighbours: The direction of messages. "forward" sends them along each edge, "reverse"
            against it, and "both" sends them in both directions, as in undirected graphs.
    """

    neighbours: Neighbours = "both"

    def __post_init__(self):
        require_choice("neighbours", self.neighbours, Neighbours)


C = TypeVar("C", bound=MessagePassingConfig)


class Messages(NamedTuple):
    """The senders and receivers of M messages between N nodes.

    There is one message per edge, or two if messages go in both directions.

    Attributes:
        sender: The node that sends each message, [M]; N if the edge is padding.
        receiver: The node that receives each message, [M]; N if the edge is padding.
        edges: The features of each message's edge, [M, J], or None.
        nodes: The number of nodes (N).
    """

    sender: Array
    receiver: Array
    edges: Array | None
    nodes: int

    def sent(self, x: Array) -> Array:
        """Return the row of `x` [N, ...] of each message's sender; zeros for padding."""
        return x.at[self.sender].get(mode="fill", fill_value=0)

    def received(self, x: Array) -> Array:
        """Return the row of `x` [N, ...] of each message's receiver; zeros for padding."""
        return x.at[self.receiver].get(mode="fill", fill_value=0)

    def summed(self, rows: Array) -> Array:
        """Sum the messages [M, ...] to each receiver, which gives [N, ...]."""
        wide = rows.astype(accumulation_dtype(rows.dtype))
        total = jax.ops.segment_sum(wide, self.receiver, self.nodes, mode="drop")
        return total.astype(rows.dtype)


class MessagePassing(Configured[C]):
    """A layer in which every node receives messages from its neighbours once.

    A subclass makes its parameters in `_make`, and maps the nodes [N, D] to [N, D] in `_pass`.

    Args:
        features: D, of input and output.
        config: the options of the kind.
        edge_features: J, the features of an edge; 0: none.
        dtype: the type to compute in; None: that of input and parameters.
        param_dtype: the type of the parameters.
        rngs: for the parameters.

    Raises:
        ValueError: sizes do not fit each other.

    Example:
        A layer without parameters, which adds up the neighbours.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.graphs import line_graph
        >>> from plstm_seq.layers.dag import GCNConfig, MessagePassing
        >>> class Total(MessagePassing[GCNConfig]):
        ...     def _make(self, **types):
        ...         pass
        ...
        ...     def _pass(self, x, messages):
        ...         return messages.summed(messages.sent(x))
        >>> layer = Total(1, GCNConfig(), rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0], [2.0], [4.0]]), line_graph([[0, 1], [1, 2]], nodes=3)).tolist()
        [[2.0], [5.0], [2.0]]
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
        """Create the parameters."""
        raise NotImplementedError

    def _pass(self, x: Array, messages: Messages) -> Array:
        """Compute the output [N, D] from the input [N, D] and the messages."""
        raise NotImplementedError

    def _edge_linear(self, features: int, **types: Any) -> nnx.Linear | None:
        """Create `of_edge`, which maps edge features to `features`; None without edge features."""
        if not self.edge_features:
            return None
        return nnx.Linear(self.edge_features, features, use_bias=False, **types)

    def _with_edges(self, rows: Array, edges: Array | None) -> Array:
        """Add the output of `of_edge` for the edges to the rows of the messages, [M, ...]."""
        if self.of_edge is None or edges is None:
            return rows
        return rows + self.of_edge(edges)

    def __call__(
        self, x: Float[Array, "N D"], graph: Graphs, edges: Float[Array, "E J"] | None = None
    ) -> Float[Array, "N D"]:
        """Run the layer over one graph, or over the union of several.

        Args:
            x: The features of the nodes, [N, D].
            graph: The index arrays: a `plstm_seq.graphs.LineGraph`, padded or not.
            edges: The features of the edges, [E, J], or None.

        Returns:
            The output [N, D]. The rows of padding nodes are meaningless.

        Raises:
            ValueError: If a shape does not fit.
        """
        require_shape("x", x, ("N", self.features))
        require_edges(edges, graph, self.edge_features)
        x = computed(x, self.dtype, self.param_dtype)
        edges = None if edges is None else edges.astype(x.dtype)
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


@dataclass(frozen=True, kw_only=True)
class GCNConfig(MessagePassingConfig):
    """The options of a `GCN`."""

    kind: Literal["gcn"] = "gcn"


@dataclass(frozen=True, kw_only=True)
class _HiddenConfig(MessagePassingConfig):
    hidden_dim: int | None = None

    def __post_init__(self):
        super().__post_init__()
        require_positive(**given(hidden_dim=self.hidden_dim))


@dataclass(frozen=True, kw_only=True)
class GINConfig(_HiddenConfig):
    """The options of a `GIN`.

    Attributes:
        hidden_dim: features inside its two-layer network; None: those of the input.
    """

    kind: Literal["gin"] = "gin"


@dataclass(frozen=True, kw_only=True)
class GATConfig(MessagePassingConfig):
    """The options of a `GAT`.

    Attributes:
        num_heads: H, which divides the features.
    """

    num_heads: int = 4
    kind: Literal["gat"] = "gat"

    def __post_init__(self):
        super().__post_init__()
        require_positive(num_heads=self.num_heads)


@dataclass(frozen=True, kw_only=True)
class MPNNConfig(_HiddenConfig):
    """The options of an `MPNN`.

    Attributes:
        hidden_dim: features of a message; None: those of the input.
    """

    kind: Literal["mpnn"] = "mpnn"


class GCN(MessagePassing[GCNConfig]):
    """The sum over the neighbours u of a node v of `(W x_u + E e) / sqrt(d_u d_v)`.

    A node counts as one of its own neighbours; for that one there is no edge and no `E e`. `d` is
    the number of neighbours, the node included. Source: Kipf and Welling, arXiv 1609.02907.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.graphs import line_graph
        >>> from plstm_seq.layers.dag import GCN, GCNConfig
        >>> graph = line_graph([[0, 0, 1, 2], [1, 2, 3, 3]], nodes=4)
        >>> layer = GCN(16, GCNConfig(), rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((4, 16)), graph).shape
        (4, 16)
    """

    def _make(self, **types: Any) -> None:
        self.linear = nnx.Linear(self.features, self.features, **types)
        self.of_edge = self._edge_linear(self.features, **types)

    def _pass(self, x: Array, messages: Messages) -> Array:
        ones = jnp.ones(messages.receiver.shape, accumulation_dtype(x.dtype))
        out = jax.ops.segment_sum(ones, messages.sender, messages.nodes, mode="drop")
        factors = [jax.lax.rsqrt(1 + count) for count in (out, messages.summed(ones))]
        from_node, to_node = (factor[:, None].astype(x.dtype) for factor in factors)
        h = self.linear(x)
        sent = self._with_edges(messages.sent(h), messages.edges)
        heard = messages.summed(sent * messages.sent(from_node))
        return to_node * (heard + from_node * h)


class GIN(MessagePassing[GINConfig]):
    """`network((1 + eps) x_v + sum over the neighbours u of x_u)`.

    Where edges have features the sum is over `relu(x_u + E e)` instead. Sources: Xu et al., arXiv
    1810.00826; for the edges Hu et al., arXiv 1905.12265.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.graphs import line_graph
        >>> from plstm_seq.layers.dag import GIN, GINConfig
        >>> graph = line_graph([[0, 0, 1, 2], [1, 2, 3, 3]], nodes=4)
        >>> layer = GIN(16, GINConfig(), rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((4, 16)), graph).shape
        (4, 16)
    """

    def _make(self, **types: Any) -> None:
        hidden = self.config.hidden_dim or self.features
        self.eps = nnx.Param(jnp.zeros((), types["param_dtype"]))
        self.up = nnx.Linear(self.features, hidden, **types)
        self.down = nnx.Linear(hidden, self.features, **types)
        self.of_edge = self._edge_linear(self.features, **types)

    def _pass(self, x: Array, messages: Messages) -> Array:
        sent = messages.sent(x)
        if messages.edges is not None:
            sent = jax.nn.relu(self._with_edges(sent, messages.edges))
        own = (1 + self.eps[...].astype(x.dtype)) * x
        return self.down(jax.nn.relu(self.up(own + messages.summed(sent))))


class GAT(MessagePassing[GATConfig]):
    """Attention over the neighbours and the node itself, a softmax for each head.

    Scores are `leaky_relu(a . W x_v + b . W x_u + c . E e)`. Source: Velickovic et al., arXiv
    1710.10903.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.graphs import line_graph
        >>> from plstm_seq.layers.dag import GAT, GATConfig
        >>> graph = line_graph([[0, 0, 1, 2], [1, 2, 3, 3]], nodes=4)
        >>> layer = GAT(16, GATConfig(), rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((4, 16)), graph).shape
        (4, 16)
    """

    slope: ClassVar[float] = 0.2

    def _make(self, **types: Any) -> None:
        heads = self.config.num_heads
        require_divisible("features", self.features, "num_heads", heads)
        self.linear = nnx.Linear(self.features, self.features, use_bias=False, **types)
        # The scores are linear functions of W x.
        self.of_receiver = nnx.Linear(self.features, heads, use_bias=False, **types)
        self.of_sender = nnx.Linear(self.features, heads, use_bias=False, **types)
        self.of_edge = self._edge_linear(heads, **types)
        self.out = nnx.Linear(self.features, self.features, **types)

    def _pass(self, x: Array, messages: Messages) -> Array:
        heads = self.config.num_heads
        h = self.linear(x)
        values = h.reshape(x.shape[0], heads, h.shape[-1] // heads)
        to, by = self.of_receiver(h), self.of_sender(h)
        scores = self._with_edges(messages.received(to) + messages.sent(by), messages.edges)
        # The score of padding is arbitrary, and its exponential could overflow.
        scores = jnp.where((messages.receiver < messages.nodes)[:, None], scores, 0)
        wide = accumulation_dtype(x.dtype)
        scores, own = (jax.nn.leaky_relu(s, self.slope).astype(wide) for s in (scores, to + by))
        most = jax.lax.stop_gradient(
            jnp.maximum(
                own,
                jax.ops.segment_max(scores, messages.receiver, messages.nodes, mode="drop"),
            )
        )
        weights, own = jnp.exp(scores - messages.received(most)), jnp.exp(own - most)
        total = own + messages.summed(weights)
        heard = messages.summed(weights[..., None].astype(x.dtype) * messages.sent(values))
        heard = heard + own[..., None].astype(x.dtype) * values
        heard = heard / total[..., None].astype(x.dtype)
        return self.out(heard.reshape(x.shape))


class MPNN(MessagePassing[MPNNConfig]):
    """`U [x_v, sum over u of relu(W [x_v, x_u, e])]`, after Gilmer et al., arXiv 1704.01212.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.graphs import line_graph
        >>> from plstm_seq.layers.dag import MPNN, MPNNConfig
        >>> graph = line_graph([[0, 0, 1, 2], [1, 2, 3, 3]], nodes=4)
        >>> layer = MPNN(16, MPNNConfig(), rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((4, 16)), graph).shape
        (4, 16)
    """

    def _make(self, **types: Any) -> None:
        hidden = self.config.hidden_dim or self.features
        self.of_receiver = nnx.Linear(self.features, hidden, **types)
        self.of_sender = nnx.Linear(self.features, hidden, use_bias=False, **types)
        self.of_edge = self._edge_linear(hidden, **types)
        self.out = nnx.Linear(self.features + hidden, self.features, **types)

    def _pass(self, x: Array, messages: Messages) -> Array:
        sent = messages.received(self.of_receiver(x)) + messages.sent(self.of_sender(x))
        heard = messages.summed(jax.nn.relu(self._with_edges(sent, messages.edges)))
        return self.out(jnp.concatenate([x, heard], axis=-1))
