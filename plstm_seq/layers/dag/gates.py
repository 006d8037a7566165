"""Gates and transitions of edges and lines, computed from node features, slots and edge features.

Padding gets the gates of the last node: they are finite, and nothing reads them.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float, Int

from plstm_seq.layers.activations import activation
from plstm_seq.layers.arguments import accumulation_dtype
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.gates import Gate, GateConfig
from plstm_seq.layers.sub_heads import sub_head_linear
from plstm_seq.layers.transition import Transition, TransitionConfig

Edges = Float[Array, "n J"] | None


class EdgeGate(Configured[GateConfig]):
    """The gate `activation(bias[slot] + weight[slot] . x[node] + edge_weight . edge)`.

    A slot is the position of an edge among the edges of a node. All positions from the last slot on
    use the last slot.

    Args:
        num_heads: The number of heads (H).
        input_dim: The number of features of a node (I).
        shape: The axes of the gate.
        config: See `GateConfig`; with `weight` the gate depends on the node and on the edge.
        slots: The number of slots.
        edge_features: The number of features (J) of the `edges` in a call; 0 if there are none.
        types: The arguments `dtype`, `param_dtype` and `rngs`.
    """

    def __init__(
        self,
        num_heads: int,
        input_dim: int,
        shape: tuple[int, ...],
        config: GateConfig,
        *,
        slots: int,
        edge_features: int = 0,
        **types: Any,
    ):
        self.kept, self.dtype = Kept(config), types["dtype"]
        linear = replace(config, activation="identity", activation_scale=1.0)
        self.nodes = Gate(num_heads, input_dim, (slots, *shape), linear, **types)
        self.edges = (
            EdgeLinear(num_heads, shape, edge_features, config.weight_init, **types)
            if config.weight and edge_features
            else None
        )

    def __call__(
        self, x: Float[Array, "N I"], node: Int[Array, "*n"], slot: Int[Array, "*n"], edges: Edges
    ) -> Float[Array, "..."]:
        """Compute the gates of edges.

        Args:
            x: The features of the nodes, [N, I].
            node: The node that each edge reads, [...].
            slot: The slot of each edge at that node, [...].
            edges: The features of the edges, [..., J].

        Returns:
            The gates [..., H, *shape], in float32 at least.
        """
        heads_last = jnp.moveaxis(self.nodes(x), 1, 2)
        gate = heads_last.at[node, slot].get(mode="clip")
        if self.edges is not None:
            gate = gate + self.edges(edges)
        return activation(self.config.activation, self.config.activation_scale)(gate)


class EdgeLinear(nnx.Module):
    """The linear map `weight . edge`, with a weight [H, 1, *shape, J] and no bias.

    Args:
        num_heads: The number of heads (H).
        shape: The axes of the result after H.
        features: The number of features of an edge (J).
        weight_init: The initialiser of the weight.
        types: The arguments `dtype`, `param_dtype` and `rngs`.
    """

    def __init__(
        self, num_heads: int, shape: tuple[int, ...], features: int, weight_init: Any, **types: Any
    ):
        self.shape, self.dtype = (num_heads, *shape), types["dtype"]
        weight_shape = (num_heads, 1, *shape, features)
        weight = weight_init(types["rngs"].params(), weight_shape, types["param_dtype"])
        self.weight = nnx.Param(weight)

    def __call__(self, edges: Edges) -> Float[Array, "n H *shape"]:
        """Map edge features [n, J] to [n, H, *shape], in float32 at least."""
        if edges is None:
            raise ValueError(
                f"edges: got None, expected features [E, J]: the layer was built with "
                f"edge_features = {self.weight.shape[-1]} of them for this gate"
            )
        weight = self.weight[...]
        zero = jnp.zeros(self.shape, weight.dtype)
        return sub_head_linear(edges, weight, zero, dtype=self.dtype)


class EdgeTransition(nnx.Module):
    """A transition whose quantities depend on node, slot and edge, as those of an `EdgeGate` do.

    Args:
        num_heads: The number of heads (H).
        input_dim: The number of features of a node (I).
        config: The parametrisation.
        slots: The number of slots.
        edge_features: The number of features (J) of the `edges` in a call; 0 if there are none.
        types: The arguments `dtype`, `param_dtype` and `rngs`.
    """

    def __init__(
        self,
        num_heads: int,
        input_dim: int,
        config: TransitionConfig,
        *,
        slots: int,
        edge_features: int = 0,
        **types: Any,
    ):
        config.check_heads(num_heads)
        self.num_heads, self.slots, self.dtype = num_heads, slots, types["dtype"]
        # The heads vary fastest, so that options that differ by head are the same in every slot.
        self.nodes = Transition(slots * num_heads, input_dim, config, **types)
        self.edges = nnx.Dict(
            {
                name: EdgeLinear(num_heads, q.shape, edge_features, q.weight_init, **types)
                for name, q in config.quantities().items()
                if config.weight and edge_features
            }
        )

    def __call__(
        self, x: Float[Array, "N I"], node: Int[Array, " n"], slot: Int[Array, " n"], edges: Edges
    ) -> Float[Array, "n H JT JT"]:
        """Compute the transitions of edges; the arguments are those of an `EdgeGate`."""
        slot, config = jnp.minimum(slot, self.slots - 1), self.nodes.config
        # Without weights a quantity is the same at every node.
        row = node if config.weight else jnp.zeros_like(node)
        quantities = {}
        for name, quantity in self.nodes.quantities(x).items():
            shape = config.quantities()[name].shape
            table = quantity.reshape(-1, self.slots, self.num_heads, *shape)
            quantities[name] = table.at[row, slot].get(mode="clip")
            if name in self.edges:
                quantities[name] = quantities[name] + self.edges[name](edges)
        matrix = self.nodes.matrices(quantities, self.num_heads)
        if not quantities:
            matrix = matrix.astype(accumulation_dtype(self.dtype or x.dtype))
        return jnp.broadcast_to(matrix, (*node.shape, self.num_heads, config.dim, config.dim))


def shared_out(
    numbers: Float[Array, "P H"], edge: Int[Array, " P"], count: int, offset: float
) -> Float[Array, "P H"]:
    """Return `t / (offset + sum |t|)`, where the sum runs over all lines with the same edge.

    This is the normalisation of P-mode. The absolute values of the results for one edge sum to less
    than 1, so if `edge` is the edge that a line leaves, no edge passes on more than it holds.
    Source: arXiv 2506.11997, section 4 on P-mode.

    Args:
        numbers: The number t of each line and head.
        edge: The edge that each line belongs to, below `count` unless the line is padding.
        count: The number of edges.
        offset: A positive number.
    """
    total = jax.ops.segment_sum(jnp.abs(numbers), edge, count, mode="drop")
    return numbers / (offset + total.at[edge].get(mode="fill", fill_value=0))
