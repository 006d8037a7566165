"""Layers over directed acyclic graphs: the pLSTM, and message-passing layers as baselines."""

from typing import Any

from plstm_seq.layers.dag.message_passing import (
    GAT,
    GCN,
    GIN,
    MPNN,
    GATConfig,
    GCNConfig,
    GINConfig,
    MessagePassing,
    MPNNConfig,
)
from plstm_seq.layers.dag.plstm_dag import GraphMixer, PLSTMDAGConfig, PLSTMDAGLayer
from plstm_seq.layers.dag.walk import Direction, Graphs
from plstm_seq.layers.plstm import Mode

GraphMixerConfig = PLSTMDAGConfig | GCNConfig | GINConfig | GATConfig | MPNNConfig

_BASELINES: dict[type, type[MessagePassing]] = {
    GCNConfig: GCN,
    GINConfig: GIN,
    GATConfig: GAT,
    MPNNConfig: MPNN,
}


def make_graph_mixer(
    features: int,
    config: GraphMixerConfig,
    mode: Mode,
    direction: Direction,
    *,
    edge_features: int = 0,
    **types: Any,
) -> GraphMixer:
    """Build the mixer that a config describes, a map of nodes of so many features to as many.

    Args:
        features: of input and output.
        config: one of `GraphMixerConfig`.
        mode: of a pLSTM; the others have none.
        direction: of a pLSTM; the others have their own.
        edge_features: J, the features of an edge; 0: none.
        types: `dtype`, `param_dtype` and `rngs`.

    Raises:
        TypeError: the config is of no mixer over graphs.
        ValueError: sizes do not fit each other.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.graphs import line_graph
        >>> from plstm_seq.layers.dag import PLSTMDAGConfig, make_graph_mixer
        >>> graph = line_graph([[0, 1], [1, 2]], nodes=3)
        >>> config, way = PLSTMDAGConfig(num_heads=2), {"mode": "P", "direction": "forward"}
        >>> mixer = make_graph_mixer(16, config, **way, rngs=nnx.Rngs(0))
        >>> mixer(jnp.ones((3, 16)), graph).shape
        (3, 16)
    """
    if isinstance(config, PLSTMDAGConfig):
        return PLSTMDAGLayer(
            features, config, mode=mode, direction=direction, edge_features=edge_features, **types
        )
    if type(config) not in _BASELINES:
        expected = ", ".join(cls.__name__ for cls in (PLSTMDAGConfig, *_BASELINES))
        raise TypeError(f"mixer: got {type(config).__name__}, expected one of {expected}")
    return _BASELINES[type(config)](features, config, edge_features=edge_features, **types)


__all__ = [
    "GAT",
    "GCN",
    "GIN",
    "MPNN",
    "Direction",
    "GATConfig",
    "GCNConfig",
    "GINConfig",
    "GraphMixer",
    "GraphMixerConfig",
    "Graphs",
    "MPNNConfig",
    "MessagePassing",
    "Mode",
    "PLSTMDAGConfig",
    "PLSTMDAGLayer",
    "make_graph_mixer",
]
