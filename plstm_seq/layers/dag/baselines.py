"""The baselines of graph models: GCN, GIN, GAT and MPNN."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from plstm_seq.layers.checks import require_divisible, require_positive
from plstm_seq.layers.dag.message_passing import MessagePassing, MessagePassingConfig, Messages
from plstm_seq.layers.precision import accumulation_dtype


@dataclass(frozen=True, kw_only=True)
class GCNConfig(MessagePassingConfig):
    """The options of a `GCN`."""

    kind: Literal["gcn"] = "gcn"


@dataclass(frozen=True, kw_only=True)
class GINConfig(MessagePassingConfig):
    """The options of a `GIN`.

    Attributes:
        hidden_dim: features inside its two-layer network; None: those of the input.
    """

    hidden_dim: int | None = None
    kind: Literal["gin"] = "gin"

    def __post_init__(self):
        super().__post_init__()
        if self.hidden_dim is not None:
            require_positive(hidden_dim=self.hidden_dim)


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
class MPNNConfig(MessagePassingConfig):
    """The options of an `MPNN`.

    Attributes:
        hidden_dim: features of a message; None: those of the input.
    """

    hidden_dim: int | None = None
    kind: Literal["mpnn"] = "mpnn"

    def __post_init__(self):
        super().__post_init__()
        if self.hidden_dim is not None:
            require_positive(hidden_dim=self.hidden_dim)


class GCN(MessagePassing[GCNConfig]):
    """`sum over u of (W x_u + E e) / sqrt(d_u d_v)`, a node among its own neighbours, without e.

    `d` is the number of neighbours, the node included. Source: Kipf and Welling, arXiv 1609.02907.

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
    """`network((1 + eps) x_v + sum over u of x_u)`; with edge features of `relu(x_u + E e)`.

    Sources: Xu et al., arXiv 1810.00826; Hu et al., arXiv 1905.12265, for the edges.

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
        # Scores of W x are linear in x, and so are parametrised as such.
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
        # Of padding a score may be anything, and its exponential too large.
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
