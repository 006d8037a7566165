"""The blocks of `plstm_seq.models.blocks` over graphs, where a mixer has no state."""

from typing import Any, NamedTuple, TypeVar

from jax import Array
from jaxtyping import Float

from plstm_seq.layers.dag import (
    Direction,
    GraphMixer,
    GraphMixerConfig,
    Graphs,
    Mode,
    make_graph_mixer,
)
from plstm_seq.models.blocks import BlockConfig, Frame, PostUp, PostUpConfig, PreUp, PreUpConfig

C = TypeVar("C", PreUpConfig, PostUpConfig)


class OverGraph(NamedTuple):
    """What a block's mixer is built from beside its features.

    Attributes:
        config: of the mixer.
        mode: of a pLSTM.
        direction: of a pLSTM.
        edge_features: J, the features of an edge; 0: none.
    """

    config: GraphMixerConfig
    mode: Mode = "P"
    direction: Direction = "forward"
    edge_features: int = 0


class _OverGraph(Frame[C]):
    """A block whose mixer maps the nodes of graphs."""

    def _make_mixer(self, features: int, mixer: OverGraph, **types: Any) -> GraphMixer:
        config, mode, direction, edge_features = mixer
        return make_graph_mixer(
            features, config, mode, direction, edge_features=edge_features, **types
        )

    def __call__(
        self,
        x: Float[Array, "N D"],
        graph: Graphs,
        edges: Float[Array, "E J"] | None = None,
        *,
        dropout_key: Array | None = None,
    ) -> Float[Array, "N D"]:
        """Run over graphs; arguments as those of the mixer.

        With `dropout_key`, a typed key, features are dropped as in training.
        """
        return self._around(x, lambda h: (self.mixer(h, graph, edges), None), dropout_key)[0]


class GraphPreUpBlock(_OverGraph[PreUpConfig], PreUp):
    """`PreUp` over graphs."""


class GraphPostUpBlock(_OverGraph[PostUpConfig], PostUp):
    """`PostUp` over graphs."""


def make_graph_block(
    width: int, config: BlockConfig, mixer: OverGraph, **types: Any
) -> GraphPreUpBlock | GraphPostUpBlock:
    """Build the block that a config describes.

    Args:
        width: D, the features of the block.
        config: see `PreUpConfig` and `PostUpConfig`.
        mixer: the mixer's config, and what else it is built from.
        types: `dtype`, `param_dtype` and `rngs`.
    """
    if isinstance(config, PreUpConfig):
        return GraphPreUpBlock(width, config, mixer, **types)
    return GraphPostUpBlock(width, config, mixer, **types)
