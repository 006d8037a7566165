"""The pLSTM layer over directed acyclic graphs: projections and gates around one op."""

from typing import Any, Protocol, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.checks import require_shape
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.dag.config import Mode, PLSTMDAGConfig
from plstm_seq.layers.dag.gates import EdgeGate, EdgeTransition, shared_out
from plstm_seq.layers.dag.walk import Direction, Graphs, Walk, walk
from plstm_seq.layers.gates import Gate
from plstm_seq.layers.projections import head_projections, out_projection, output_features
from plstm_seq.ops import plstm_dag
from plstm_seq.ops.dag.inputs import Inputs
from plstm_seq.ops.products import fused_einsum

_DEFAULT = PLSTMDAGConfig()


class GraphMixer(Protocol):
    """What a block asks of a mixer: a map of nodes to nodes."""

    def __call__(self, x: Any, graph: Graphs, edges: Any = None, /) -> Any:
        """Map [N, I] to [N, O]; `edges` are features [E, J]."""
        ...


class PLSTMDAGLayer(Configured[PLSTMDAGConfig]):
    """A pLSTM layer over a directed acyclic graph (arXiv 2506.11997, section 4).

    Query, key and value are made from the nodes; source, mark and transitions from the nodes they
    act at, the place of an edge among those of the node (the published node-gated layer, with
    `max_edges` above 1) and the features of the edges (the published edge-gated one, with 1). The
    op `plstm_seq.ops.plstm_dag` runs on each head; its output is normalised per head and projected.

    P-mode shares what an edge holds out to the edges behind it, so that it stays bounded whatever
    the graph. D-mode keeps all of it, along the lines of a multitree, where one way at most joins
    two edges.

    Args:
        input_dim: I, the features of a node.
        config: see `PLSTMDAGConfig`.
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

    def __init__(
        self,
        input_dim: int,
        config: PLSTMDAGConfig = _DEFAULT,
        *,
        mode: Mode = "P",
        direction: Direction = "forward",
        output_dim: int | None = None,
        edge_features: int = 0,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        for name, value, options in (("mode", mode, Mode), ("direction", direction, Direction)):
            if value not in get_args(options):
                raise ValueError(f"{name}: got {value!r}, expected one of {get_args(options)}")
        if config.published == "node" and edge_features:
            raise ValueError(
                f"edge_features: got {edge_features}, expected 0 with published='node'"
            )
        self.input_dim, self.kept, self.sizes = input_dim, Kept(config), config.sizes(input_dim)
        self.mode: Mode = mode
        self.direction: Direction = direction
        self.edge_features = edge_features
        self.dtype, self.param_dtype = dtype, param_dtype
        self.output_dim = output_features(
            input_dim, output_dim, self.sizes, outprojection=config.outprojection
        )
        types = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self._make_gates(**types)
        self._make_projections(**types)

    def _make_gates(self, **types: Any) -> None:
        config, input_dim, features = self.config, self.input_dim, self.edge_features
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
        self.direct = (
            None
            if config.direct is None
            else Gate(heads, input_dim, (jo, jq, jk, jv), config.direct, **types)
        )

    def _make_projections(self, **types: Any) -> None:
        config, sizes, input_dim = self.config, self.sizes, self.input_dim
        projections = head_projections(input_dim, sizes, config, **types)
        self.query, self.key, self.value = projections
        norm_and_map = out_projection(sizes, self.output_dim, config, **types)
        self.mhnorm, self.outprojection = norm_and_map

    def __call__(
        self, x: Float[Array, "N I"], graph: Graphs, edges: Float[Array, "E J"] | None = None
    ) -> Float[Array, "N O"]:
        """Run over a graph, or over several side by side.

        Args:
            x: [N, I].
            graph: index arrays, a `plstm_seq.graphs.LineGraph`, padded or not.
            edges: features of the edges, [E, J]; None without.

        Returns:
            The output [N, O]; that of a node that is padding is of no meaning.

        Raises:
            ValueError: a shape does not fit, or the layer is in D-mode and the graph was built
                without its multitree.
        """
        require_shape("x", x, ("N", self.input_dim))
        if edges is not None:
            require_shape("edges", edges, (len(graph.tail), self.edge_features))
        elif self.edge_features:
            raise ValueError(f"edges: got None, expected [E, {self.edge_features}]")
        computed = jnp.result_type(x.dtype, self.param_dtype) if self.dtype is None else self.dtype
        x = x.astype(computed)
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
        y = jax.lax.collapse(jnp.moveaxis(y, 0, 1), 1)
        if self.mhnorm is not None:
            y = self.mhnorm(y, head_axis=None)
        return y if self.outprojection is None else self.outprojection(y)

    def _op_inputs(self, x: Array, ways: Walk, transition: Array, edges: Array | None) -> Inputs:
        """The arguments of the op, rows first: [N, E or P, H, and their own axes]."""
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
        """The transition of every line, [P, H, JT, JT]."""
        node = ways.node
        if self.config.published == "edge":
            node = ways.tail.at[ways.before].get(mode="clip")
        last = self.config.max_edges - 1
        slots = (slot.at[line].get(mode="clip") for slot, line in self._line_ends(ways))
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

    @staticmethod
    def _line_ends(ways: Walk) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Where a line's edges stand among those into and out of the node between them."""
        return (ways.in_slot, ways.before), (ways.out_slot, ways.after)

    def _shared(
        self,
        share: EdgeGate,
        x: Array,
        ways: Walk,
        node: Array,
        pair: Array,
        edges: Array | None,
    ) -> Array:
        """The number of every line, [P, H]: shared out in P-mode, within 1 in D-mode."""
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
        """As `shared_out`, over all places for edges out of a node; see `PLSTMDAGConfig`."""
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
    """[P], 1 for the lines of the multitree."""
    if graph.multitree is None:
        raise ValueError(
            "graph.multitree is None: D-mode needs a line graph built with mode='D' or mode='PD'"
        )
    return jnp.asarray(graph.multitree)
