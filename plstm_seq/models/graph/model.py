"""The graph model: graphs in, logits a graph or a node out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from plstm_seq.layers import Norm
from plstm_seq.layers.activations import soft_cap
from plstm_seq.layers.checks import require_positive, require_shape
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.dag import Graphs
from plstm_seq.layers.precision import accumulation_dtype, promote
from plstm_seq.models.graph.blocks import OverGraph, make_graph_block
from plstm_seq.models.graph.config import GraphModelConfig, Pooling

_DEFAULT = GraphModelConfig()


class GraphInputs(NamedTuple):
    """Graphs side by side, with what their nodes and edges say; a pytree of arrays.

    Attributes:
        graph: index arrays, a `plstm_seq.graphs.LineGraph`, padded or not.
        nodes: features [N, F], or symbols [N], integers.
        edges: features [E, J], in the order of the graph's edges; None: none.
    """

    graph: Graphs
    nodes: Shaped[Array, "N *F"]
    edges: Float[Array, "E J"] | None = None


class GraphModel(Configured[GraphModelConfig]):
    """Embedding, blocks, norm, pooling and head, over graphs of any size.

    Args:
        node_features: F, the features of a node; None with `vocab_size`.
        vocab_size: the number of symbols, where nodes are symbols; None with `node_features`.
        edge_features: J, the features of an edge; 0: none.
        config: see `GraphModelConfig`.
        output_size: the number of labels, or of numbers to regress.
        dtype: the type to compute in; None: that of the parameters. Gates and logits are in float32
            at least.
        param_dtype: the type of the parameters.
        rngs: for the parameters.

    Raises:
        ValueError: sizes do not fit each other.

    Example:
        A label for each of two graphs whose nodes are symbols.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.graphs import line_graph
        >>> from plstm_seq.models import GraphInputs, GraphModel, GraphModelConfig
        >>> graph = line_graph(
        ...     [[0, 1, 3], [1, 2, 4]], nodes=5, mode="PD", graph=[0, 0, 0, 1, 1]
        ... )
        >>> config = GraphModelConfig(width=16, num_blocks=2)
        >>> model = GraphModel(vocab_size=7, config=config, output_size=3, rngs=nnx.Rngs(0))
        >>> model(GraphInputs(graph, jnp.array([0, 6, 2, 2, 1]))).shape
        (2, 3)
    """

    def __init__(
        self,
        node_features: int | None = None,
        vocab_size: int | None = None,
        edge_features: int = 0,
        config: GraphModelConfig = _DEFAULT,
        *,
        output_size: int,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if edge_features < 0:
            raise ValueError(f"edge_features: got {edge_features}, expected 0 or more")
        require_positive(output_size=output_size)
        types: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.kept, self.dtype, self.output_size = Kept(config), dtype, output_size
        self.node_features, self.vocab_size = node_features, vocab_size
        self.edge_features, width = edge_features, config.width
        self.embedding = self._make_embedding(**types)
        self.blocks = nnx.List(
            [
                make_graph_block(
                    width, config.block, OverGraph(config.mixer, *way, edge_features), **types
                )
                for way in config.ways
            ]
        )
        self.norm = None if config.norm is None else Norm(width, config.norm, **types)
        self.head = nnx.Param(config.head_init(rngs.params(), (width, output_size), param_dtype))
        self.head_bias = nnx.Param(jnp.zeros((output_size,), param_dtype))

    def _make_embedding(self, **types: Any) -> nnx.Embed | nnx.Linear:
        width, init = self.config.width, self.config.embed_init
        match self.node_features, self.vocab_size:
            case None, int(symbols):
                require_positive(vocab_size=symbols)
                return nnx.Embed(symbols, width, embedding_init=init, **types)
            case int(features), None:
                require_positive(node_features=features)
                return nnx.Linear(features, width, kernel_init=init, **types)
        raise ValueError(
            f"node_features, vocab_size: got {self.node_features} and {self.vocab_size}, expected "
            "one of them: nodes have features or are symbols"
        )

    @property
    def uses_dropout(self) -> bool:
        """Whether training has to hand over a `dropout_key`."""
        return any(block.uses_dropout for block in self.blocks)

    def __call__(
        self, inputs: GraphInputs, *, dropout_key: Array | None = None
    ) -> Float[Array, "G V"] | Float[Array, "N V"]:
        """Read graphs.

        Args:
            inputs: see `GraphInputs`.
            dropout_key: typed key for the features to drop in training; None, and a model without
                dropout: all are kept.

        Returns:
            The logits [G, output_size]; with the pooling "node" [N, output_size]. Those of what is
            padding are of no meaning, and nothing else depends on it.

        Raises:
            TypeError: symbols are no integers, or features no floating-point numbers.
            ValueError: a shape does not fit, or a layer is in D-mode and the graph was built
                without its multitree.
        """
        self._check(inputs)
        graph, nodes, edges = inputs
        x = self.embedding(jnp.asarray(nodes))
        edges = None if edges is None else jnp.asarray(edges)
        keys: Sequence[Array | None] = (None,) * len(self.blocks)
        if dropout_key is not None and self.uses_dropout:
            keys = list(jax.random.split(dropout_key, len(self.blocks)))
        for block, key in zip(self.blocks, keys, strict=True):
            x = block(x, graph, edges, dropout_key=key)
        if self.norm is not None:
            x = self.norm(x)
        return self._logits(pooled(x, graph, self.config.pooling))

    def _logits(self, x: Array) -> Array:
        x, kernel = promote(x, self.head[...], dtype=self.dtype)
        wide = accumulation_dtype(x.dtype)
        logits = jnp.matmul(x, kernel, preferred_element_type=wide)
        logits = logits + self.head_bias[...].astype(wide)
        cap = self.config.logit_soft_cap
        return logits if cap is None else soft_cap(logits, cap)

    def _check(self, inputs: GraphInputs) -> None:
        symbols = self.vocab_size is not None
        kind, expected = (
            (jnp.integer, "integers [N]") if symbols else (jnp.floating, "floating-point [N, F]")
        )
        dtype = getattr(inputs.nodes, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, kind):
            got = type(inputs.nodes).__name__ if dtype is None else dtype
            raise TypeError(f"nodes: got {got}, expected an array of {expected}")
        N = inputs.graph.graph.shape[0]
        axes = (N,) if self.node_features is None else (N, self.node_features)
        require_shape("nodes", inputs.nodes, axes)
        if inputs.edges is None and self.edge_features:
            raise ValueError(f"edges: got None, expected [E, {self.edge_features}]")
        if inputs.edges is not None:
            axes = (inputs.graph.tail.shape[0], self.edge_features)
            require_shape("edges", inputs.edges, axes)


def pooled(x: Float[Array, "N D"], graph: Graphs, pooling: Pooling) -> Float[Array, "G D"]:
    """Return what the head reads; see `GraphModelConfig.pooling`.

    Args:
        x: the features of the nodes, [N, D].
        graph: the graph of each node and the sizes.
        pooling: which.

    Returns:
        [G, D]; with "node" `x` itself. A graph that is padding has zeros.
    """
    if pooling == "node":
        return x
    of_node, sizes = jnp.asarray(graph.graph), jnp.asarray(graph.sizes)
    if pooling == "max":
        most = jax.ops.segment_max(x, of_node, sizes.shape[0], mode="drop")
        return jnp.where(sizes[:, None] > 0, most, 0)
    wide = x.astype(accumulation_dtype(x.dtype))
    total = jax.ops.segment_sum(wide, of_node, sizes.shape[0], mode="drop")
    if pooling == "mean":
        total = total / jnp.maximum(sizes, 1)[:, None].astype(total.dtype)
    return total.astype(x.dtype)
