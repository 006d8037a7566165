"""The graph model: it maps graphs to logits for each graph or each node."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from plstm_seq.layers import Norm
from plstm_seq.layers.arguments import (
    accumulation_dtype,
    require,
    require_choice,
    require_dtype,
    require_non_negative,
    require_positive,
    require_shape,
)
from plstm_seq.layers.configured import Kept
from plstm_seq.layers.dag import (
    Direction,
    GraphMixerConfig,
    Graphs,
    Mode,
    PLSTMDAGConfig,
    make_graph_mixer,
)
from plstm_seq.layers.dag.walk import require_edges
from plstm_seq.models.blocks import BlockConfig, PostUpConfig, make_block
from plstm_seq.models.stack import ModesConfig, Stack

Pooling = Literal["sum", "mean", "max", "node"]


@dataclass(frozen=True, kw_only=True)
class GraphModelConfig(ModesConfig):
    """The options of a `GraphModel`, in addition to those of `StackConfig` and `ModesConfig`.

    Attributes:
        mode: see `ModesConfig`; a model with a "D" needs graphs built with their multitree.
        directions: the directions of the pLSTM layers. Each is kept for a whole round of `mode`,
            and they are repeated over the rounds. They have no effect on other mixers.
        mixer: the mixer in each block.
        pooling: what the head reads. "sum", "mean", "max": over the nodes of a graph; "node":
            every node, which gets logits of its own.
        kind: the name of this kind of model in a config.
    """

    num_blocks: int = 4
    directions: tuple[Direction, ...] = ("forward",)
    block: BlockConfig = field(default_factory=lambda: PostUpConfig(projection_scaling=2.0))
    mixer: GraphMixerConfig = field(default_factory=PLSTMDAGConfig)
    pooling: Pooling = "mean"
    kind: Literal["graph"] = "graph"

    def __post_init__(self):
        super().__post_init__()
        known = bool(self.directions) and set(self.directions) <= set(get_args(Direction))
        require(known, "directions", self.directions, f"some of {', '.join(get_args(Direction))}")
        require_choice("pooling", self.pooling, Pooling)
        if self.block.drop_path is not None:
            raise ValueError(
                f"block.drop_path: got {self.block.drop_path}, expected None: it leaves out whole "
                "examples, and nodes of one graph are none"
            )

    @property
    def ways(self) -> tuple[tuple[Mode, Direction], ...]:
        """The mode and the direction of every block."""
        letters, count = len(self.mode), len(self.directions)
        return tuple(
            (mode, self.directions[i // letters % count]) for i, mode in enumerate(self.modes)
        )


class GraphInputs(NamedTuple):
    """Graphs side by side, with the features of their nodes and edges; a pytree of arrays.

    Attributes:
        graph: the index arrays, a `plstm_seq.graphs.LineGraph`, padded or not.
        nodes: the features of the nodes [N, F], or their symbols [N], integers.
        edges: the features of the edges [E, J], in the order of the graph's edges; None: none.
    """

    graph: Graphs
    nodes: Shaped[Array, "N *F"]
    edges: Float[Array, "E J"] | None = None


class GraphModel(Stack[GraphModelConfig]):
    """Embedding, blocks, norm, pooling and head, over graphs of any size.

    Args:
        node_features: the number of features of a node, F; None with `vocab_size`.
        vocab_size: the number of symbols, if the nodes are symbols; None with `node_features`.
        edge_features: the number of features of an edge, J; 0: none.
        config: see `GraphModelConfig`.
        output_size: the number of labels, or of numbers to predict.
        dtype: the type to compute in; None: the type of the parameters. Gates and logits are in
            float32 at least.
        param_dtype: the type of the parameters.
        rngs: the random number generators for the parameters.

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
        config: GraphModelConfig = GraphModelConfig(),
        *,
        output_size: int,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        require_non_negative(edge_features=edge_features)
        require_positive(output_size=output_size)
        types: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.kept, self.dtype, self.output_size = Kept(config), dtype, output_size
        self.node_features, self.vocab_size = node_features, vocab_size
        self.edge_features, width = edge_features, config.width
        self.embedding = self._make_embedding(**types)
        self.blocks = nnx.List(
            [
                make_block(
                    width,
                    config.block,
                    partial(
                        make_graph_mixer,
                        config=config.mixer,
                        mode=mode,
                        direction=direction,
                        edge_features=edge_features,
                    ),
                    **types,
                )
                for mode, direction in config.ways
            ]
        )
        self.norm = None if config.norm is None else Norm(width, config.norm, **types)
        self._make_head(width, output_size, param_dtype, rngs)

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

    def __call__(
        self, inputs: GraphInputs, *, dropout_key: Array | None = None
    ) -> Float[Array, "G V"] | Float[Array, "N V"]:
        """Compute the logits of graphs.

        Args:
            inputs: see `GraphInputs`.
            dropout_key: typed key that draws what training drops; None: nothing is dropped. A
                model without dropout ignores it.

        Returns:
            The logits [G, output_size]; with the pooling "node" [N, output_size]. The logits of
            padding have no meaning, and nothing else depends on padding.

        Raises:
            TypeError: the symbols are not integers, or the features not floating-point numbers.
            ValueError: a shape does not fit, or a layer is in D-mode and the graph was built
                without its multitree.
        """
        self._check(inputs)
        graph, nodes, edges = inputs
        x = self.embedding(jnp.asarray(nodes))
        edges = None if edges is None else jnp.asarray(edges)
        for block, key in self._blocks_and_keys(dropout_key):
            x = block(x, graph, edges, dropout_key=key)
        if self.norm is not None:
            x = self.norm(x)
        x = pooled(x, graph, self.config.pooling)
        return self._logits(x, self.head, self.head_bias)

    def _check(self, inputs: GraphInputs) -> None:
        if self.vocab_size is None:
            require_dtype("nodes", inputs.nodes, jnp.floating, "an array of floating-point [N, F]")
        else:
            require_dtype("nodes", inputs.nodes, jnp.integer, "an array of integers [N]")
        N = inputs.graph.graph.shape[0]
        axes = (N,) if self.node_features is None else (N, self.node_features)
        require_shape("nodes", inputs.nodes, axes)
        require_edges(inputs.edges, inputs.graph, self.edge_features)


def pooled(x: Float[Array, "N D"], graph: Graphs, pooling: Pooling) -> Float[Array, "G D"]:
    """Return what the head reads; see `GraphModelConfig.pooling`.

    Args:
        x: the features of the nodes, [N, D].
        graph: has the graph of each node and the sizes.
        pooling: the kind of pooling.

    Returns:
        The pooled features [G, D]; with "node" `x` itself. They are zero for graphs of padding.
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
