"""The pLSTM layer over directed acyclic graphs, and its options."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.arguments import (
    computed,
    require,
    require_above_zero,
    require_choice,
    require_positive,
    require_shape,
)
from plstm_seq.layers.dag.gates import EdgeGate, EdgeTransition, shared_out
from plstm_seq.layers.dag.walk import Direction, Graphs, Walk, require_edges, walk
from plstm_seq.layers.gates import GateConfig
from plstm_seq.layers.initializers import Constant
from plstm_seq.layers.plstm import Mode, PLSTMConfig, PLSTMLayer
from plstm_seq.layers.transition import TransitionConfig
from plstm_seq.ops import plstm_dag
from plstm_seq.ops.dag.inputs import Inputs
from plstm_seq.ops.products import fused_einsum

MarkReads = Literal["before", "after"]
Published = Literal["node", "edge"]


def _gate() -> GateConfig:
    return GateConfig(weight=True, activation="sigmoid", bias_init=Constant(-5.0))


def _share() -> GateConfig:
    return GateConfig(weight=True, activation="identity", bias_init=Constant(3.0))


@dataclass(frozen=True, kw_only=True)
class PLSTMDAGConfig(PLSTMConfig):
    """The options of a `PLSTMDAGLayer`; one config serves both modes.

    The options of every pLSTM layer are documented at `PLSTMConfig` in `plstm_seq.layers.plstm`;
    these are the ones that differ or come on top.

    Attributes:
        max_edges: the places among the edges of a node that have gates of their own, for edges in
            and out each; further edges have those of the last place. With 1 the order of edges
            makes no difference, and edges are told apart by their features.
        source: the gate [JT, JK, JV] through which a node writes to an edge that leaves it.
        share: the number of each line. P-mode divides it by `share_offset` and the absolute values
            of all lines out of the same edge. Without `transition` D-mode takes its tanh.
        share_offset: see `share`; what it keeps back.
        transition: the matrix [JT, JT] of each line, in P-mode times its share; None: JT = 1, and
            the number alone.
        mark: the gate [JO, JQ, JT] through which a node reads an edge that enters it.
        mark_reads: "before": a node reads the state of an edge as it comes; "after": multiplied by
            a transition of the node's own, as on the way to a further edge (needs `transition`).
        scale: factor of the op's output; None: `DK ** -0.5`.
        published: None; or for published weights what the published layers do otherwise. "node":
            an edge is written to at its place among those that enter its head, and read at that
            among those that leave its tail; P-mode sums over all `max_edges` places, whether there
            are edges or not, and places beyond the edges into a node carry nothing. "edge": P-mode
            sums over the lines *into* an edge, which bounds what arrives and not what leaves, and
            a line reads the node that its first edge leaves, not the one between the two.
        kind: tells this mixer from others.
    """

    num_heads: int = 4
    max_edges: int = 1
    source: GateConfig = field(default_factory=_gate)
    share: GateConfig = field(default_factory=_share)
    share_offset: float = 0.5
    transition: TransitionConfig | None = None
    mark: GateConfig = field(default_factory=_gate)
    mark_reads: MarkReads = "before"
    direct: GateConfig | None = field(default_factory=_gate)
    sub_heads: int = 1
    scale: float | None = None
    outprojection_bias: bool = True
    published: Published | None = None
    kind: Literal["plstm_dag"] = "plstm_dag"

    def __post_init__(self):
        super().__post_init__()
        require_positive(max_edges=self.max_edges, sub_heads=self.sub_heads)
        require_above_zero(share_offset=self.share_offset)
        require_choice("mark_reads", self.mark_reads, MarkReads)
        require_choice("published", self.published, (None, "node", "edge"))
        if self.mark_reads == "after" and self.transition is None:
            raise ValueError(
                "mark_reads: got 'after', expected 'before' without a transition: what is read "
                "after a number alone is that of the mark"
            )


class GraphMixer(Protocol):
    """What a block needs of a mixer over graphs: a map from nodes to nodes.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.graphs import line_graph
        >>> from plstm_seq.layers.dag import GCN, GCNConfig, GraphMixer
        >>> mixer: GraphMixer = GCN(4, GCNConfig(), rngs=nnx.Rngs(0))
        >>> mixer(jnp.ones((3, 4)), line_graph([[0, 1], [1, 2]], nodes=3)).shape
        (3, 4)
    """

    def __call__(self, x: Any, graph: Graphs, edges: Any = None, /) -> Any:
        """Map the features of nodes [N, I] to [N, O]; `edges` are features of edges [E, J]."""
        ...


class PLSTMDAGLayer(PLSTMLayer[PLSTMDAGConfig]):
    """A pLSTM layer over a directed acyclic graph (arXiv 2506.11997, section 4).

    Query, key and value are made from the nodes; source, mark and transitions from the nodes they
    act at, the place of an edge among those of the node (the published node-gated layer, with
    `max_edges` above 1) and the features of the edges (the published edge-gated one, with 1). The
    op `plstm_seq.ops.plstm_dag` runs on each head; its output is normalised per head and projected.

    P-mode divides the state of an edge among the edges that follow it, so that states stay bounded
    in every graph. D-mode passes the whole state on, but only along the lines of a multitree, in
    which at most one path joins two edges.

    Args:
        input_dim: I, the features of a node.
        config: see `PLSTMDAGConfig`; None: its defaults.
        mode: "P" or "D".
        direction: "forward" along the edges, or "reverse".
        output_dim: O, the features of the output; None: I, or without an out projection those of
            the op, H * DV * JO.
        edge_features: J, the features of an edge; 0: none.
        dtype: the type to compute in; None: that of input and parameters. Gates, transitions and
            the states are in float32 at least.
        param_dtype: the type of the parameters.
        rngs: for the parameters.

    Raises:
        ValueError: sizes do not fit each other, or an option is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.graphs import line_graph
        >>> from plstm_seq.layers.dag import PLSTMDAGConfig, PLSTMDAGLayer
        >>> graph = line_graph([[0, 0, 1, 2], [1, 2, 3, 3]], nodes=4)
        >>> layer = PLSTMDAGLayer(16, PLSTMDAGConfig(num_heads=2), mode="P", rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((4, 16)), graph).shape
        (4, 16)
    """

    options = PLSTMDAGConfig

    def __init__(
        self,
        input_dim: int,
        config: PLSTMDAGConfig | None = None,
        *,
        mode: Mode = "P",
        direction: Direction = "forward",
        output_dim: int | None = None,
        edge_features: int = 0,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        require_choice("mode", mode, Mode)
        require_choice("direction", direction, Direction)
        self.mode: Mode = mode
        self.direction: Direction = direction
        self.edge_features = edge_features
        types: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        super().__init__(input_dim, config, output_dim=output_dim, **types)

    def _make_gates(self, **types: Any) -> None:
        config, input_dim, features = self.config, self.input_dim, self.edge_features
        none = config.published != "node" or not features
        require(none, "edge_features", features, "0 with published='node'")
        heads, _, _, jk, jq, jv, jt, jo = self.sizes
        slots = config.max_edges
        on_edges = {"slots": slots, "edge_features": features, **types}
        on_lines = {"slots": slots**2, "edge_features": 2 * features, **types}
        self.source = EdgeGate(heads, input_dim, (jt, jk, jv), config.source, **on_edges)
        self.mark = EdgeGate(heads, input_dim, (jo, jq, jt), config.mark, **on_edges)
        shared = self.mode == "P" or config.transition is None
        self.share = EdgeGate(heads, input_dim, (), config.share, **on_lines) if shared else None
        transition, after = config.transition, config.mark_reads == "after"

        def matrices(options: dict[str, Any]) -> EdgeTransition | None:
            if transition is None:
                return None
            return EdgeTransition(heads, input_dim, transition, **options)

        self.transition = matrices(on_lines)
        self.reading = matrices(on_edges) if after else None

    def __call__(
        self, x: Float[Array, "N I"], graph: Graphs, edges: Float[Array, "E J"] | None = None
    ) -> Float[Array, "N O"]:
        """Run the layer over one graph, or over the union of several.

        Args:
            x: The features of the nodes, [N, I].
            graph: The index arrays: a `plstm_seq.graphs.LineGraph`, padded or not.
            edges: The features of the edges, [E, J], or None.

        Returns:
            The output [N, O]. The rows of padding nodes are meaningless.

        Raises:
            ValueError: If a shape does not fit, or the layer is in D-mode and the graph was built
                without its multitree.
        """
        require_shape("x", x, ("N", self.input_dim))
        require_edges(edges, graph, self.edge_features)
        x = computed(x, self.dtype, self.param_dtype)
        ways = walk(graph, self.direction)
        if self.config.published == "node":
            ways = ways._replace(out_slot=ways.in_slot, in_slot=ways.out_slot)
        inputs = self._op_inputs(x, ways, self._transition(x, ways, graph, edges), edges)
        heads_first = jax.tree.map(lambda rows: jnp.moveaxis(rows, 1, 0), inputs)
        y = plstm_dag(
            *heads_first,
            graph=ways,
            scale=self.config.scale,
            implementation=self.config.implementation,
        )
        return self._leave(self._normed(jnp.moveaxis(y, 0, 1)))

    def _op_inputs(self, x: Array, ways: Walk, transition: Array, edges: Array | None) -> Inputs:
        """Compute the arguments of the op, each of shape [N, E or P, H, ...]."""
        mark = self.mark(x, ways.head, ways.in_slot, edges)
        if self.reading is not None:
            own = self.reading(x, ways.head, ways.in_slot, edges)
            mark = fused_einsum("...oqi,...ij->...oqj", mark, own)
        return Inputs(
            query=self.query(x),
            key=(self.query if self.key is None else self.key)(x),
            value=self.value(x),
            source=self.source(x, ways.tail, ways.out_slot, edges),
            transition=transition,
            mark=mark,
            direct=None if self.direct is None else self.direct(x),
        )

    def _transition(self, x: Array, ways: Walk, graph: Graphs, edges: Array | None) -> Array:
        """Compute the transition of every line, [P, H, JT, JT]."""
        node = ways.node
        if self.config.published == "edge":
            node = ways.tail.at[ways.before].get(mode="clip")
        last = self.config.max_edges - 1
        # The slots of a line's two edges among the edges into and out of the node between them.
        ends = ((ways.in_slot, ways.before), (ways.out_slot, ways.after))
        slots = (slot.at[line].get(mode="clip") for slot, line in ends)
        row, column = (jnp.minimum(slot, last) for slot in slots)
        pair = row * self.config.max_edges + column
        of_line = None
        if edges is not None:
            ends = (edges.at[line].get(mode="clip") for line in (ways.before, ways.after))
            of_line = jnp.concatenate(tuple(ends), axis=-1)
        factor = None
        if self.share is not None:
            factor = self._shared(self.share, x, ways, node, pair, of_line)
        if self.transition is None:
            matrix = jnp.ones((1, 1, 1, 1), jnp.float32)
        else:
            matrix = self.transition(x, node, pair, of_line)
        if factor is not None:
            matrix = factor[..., None, None] * matrix
        if self.mode == "D":
            matrix = matrix * _kept(graph)[:, None, None, None].astype(matrix.dtype)
        return matrix

    def _shared(
        self,
        share: EdgeGate,
        x: Array,
        ways: Walk,
        node: Array,
        pair: Array,
        edges: Array | None,
    ) -> Array:
        """Compute the number of every line, [P, H], normalised in P-mode, in (-1, 1) in D-mode."""
        numbers = share(x, node, pair, edges)
        if self.mode == "D":
            return jnp.tanh(numbers)
        published, offset = self.config.published, self.config.share_offset
        if published == "node":
            return self._published_share(share, x, ways, pair, numbers)
        edge = ways.after if published == "edge" else ways.before
        return shared_out(numbers, edge, ways.tail.shape[0], offset)

    def _published_share(
        self, share: EdgeGate, x: Array, ways: Walk, pair: Array, numbers: Array
    ) -> Array:
        """Normalise like `shared_out`, but sum over all slots for edges out of a node.

        See the option `published` of `PLSTMDAGConfig`.
        """
        slots = self.config.max_edges
        row = pair // slots
        places = row[:, None] * slots + jnp.arange(slots)
        nodes = jnp.broadcast_to(ways.node[:, None], places.shape)
        total = jnp.sum(jnp.abs(share(x, nodes, places, None)), axis=1)
        ones = jnp.ones_like(ways.head)
        degree = jax.ops.segment_sum(ones, ways.head, x.shape[0], mode="drop")
        inside = row < degree.at[ways.node].get(mode="clip")
        return jnp.where(inside[:, None], numbers / (self.config.share_offset + total), 0)


def _kept(graph: Graphs) -> Array:
    """Return an array [P] that is 1 for the lines of the multitree and 0 for the others."""
    if graph.multitree is None:
        raise ValueError("graph.multitree: got None, expected a line graph of mode 'D' or 'PD'")
    return jnp.asarray(graph.multitree)
