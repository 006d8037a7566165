"""Reads the published graph layers: their configurations and their torch parameters."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from plstm_seq.interop.published.fields import Fields
from plstm_seq.interop.published.parts import ignore_types, read_initializer, read_norm
from plstm_seq.layers import GateConfig, HeadProjectionConfig
from plstm_seq.layers.dag import Mode, PLSTMDAGConfig, PLSTMDAGLayer
from plstm_seq.layers.dag.plstm_dag import Published
from plstm_seq.layers.initializers import Initializer, Ones

GRAPH_LAYERS: dict[str, Published] = {"pLSTMGraphLayer": "node", "pLSTMGraphEdgeLayer": "edge"}
_GATES = {"source": "source", "mark": "mark", "transition": "share"}


class GraphLayerArguments(NamedTuple):
    """What `PLSTMDAGLayer` is built from."""

    input_dim: int
    config: PLSTMDAGConfig
    mode: Mode
    output_dim: int
    edge_features: int

    def build(self, **types: Any) -> PLSTMDAGLayer:
        """Build the layer; `dtype`, `param_dtype` and `rngs` are passed on."""
        return PLSTMDAGLayer(
            self.input_dim,
            self.config,
            mode=self.mode,
            output_dim=self.output_dim,
            edge_features=self.edge_features,
            **types,
        )


def read_graph_layer(fields: Fields, class_name: str) -> GraphLayerArguments:
    """Read the configuration of a graph layer, its `class_name` already taken.

    The published layer of nodes gives places to edges the wrong way round, and both share out in
    P-mode otherwise than ours: `PLSTMDAGConfig.published`. The diagonal initialiser of transitions
    becomes one of ones: ours hold the places in one axis.
    """
    ignore_types(fields)
    fields.take("memeff_variant", None)
    fields.take("bias", None)  # the published layers have biases whatever it says
    published, heads = GRAPH_LAYERS[class_name], fields.take("num_heads")
    input_dim, output_dim = fields.take("input_dim"), fields.take("output_dim")
    value_features, max_edges = fields.take("hv_head_dim"), fields.take("max_edges")
    project = HeadProjectionConfig(
        bias_init=read_initializer(fields, "qkvo_bias_init"),
        weight_init=read_initializer(fields, "qkvo_weight_init"),
    )
    norm = fields.below("mhnorm")
    return GraphLayerArguments(
        input_dim,
        PLSTMDAGConfig(
            num_heads=heads,
            DK=fields.take("qk_head_dim"),
            DV=value_features,
            max_edges=max_edges if published == "node" else 1,
            source=_gate(fields, "source"),
            share=_gate(fields, "transition", "identity"),
            mark=_gate(fields, "mark"),
            direct=_gate(fields, "direct"),
            query=project,
            key=project,
            value=project,
            scale=1.0,
            norm=None if norm is None else read_norm(norm, heads * value_features, heads),
            outprojection=fields.take("out"),
            published=published,
        ),
        fields.take("mode"),
        output_dim,
        fields.take("edge_input_dim", 0),
    )


def _gate(fields: Fields, name: str, activation: Any = "sigmoid") -> GateConfig:
    return GateConfig(
        weight=True,
        activation=activation,
        bias_init=_initializer(fields, f"{name}_bias_init"),
        weight_init=_initializer(fields, f"{name}_weight_init"),
    )


def _initializer(fields: Fields, name: str) -> Initializer:
    given = fields.take(name)
    if given["class_name"] == "DiagonalInit":
        return Ones()
    return read_initializer(Fields({name: given}), name)


def graph_parameters(
    layer: PLSTMDAGLayer, parameters: Mapping[str, ArrayLike]
) -> dict[str, np.ndarray]:
    """Return published torch parameters of a graph layer by our names, and in our shapes.

    Published kernels are [out, in]. Those of gates read node and edge features side by side: of the
    edge alone behind the node's, of a line's two edges before them.

    Args:
        layer: of the shape that `read_config` gives.
        parameters: dotted published name -> array.
    """
    ours: dict[str, np.ndarray] = {}
    for published, given in parameters.items():
        part, _, name = published.partition(".")
        array = np.asarray(given)
        if part in _GATES:
            target, nodes = _GATES[part], layer.input_dim
            if name == "weight" and array.shape[-1] > nodes:
                at = -nodes if target == "share" else nodes
                first, last = array[:, :at], array[:, at:]
                array, edges = (last, first) if target == "share" else (first, last)
                ours[f"{target}.edges.weight"] = edges
            ours[f"{target}.nodes.{name}"] = array
        elif part == "out":
            ours[f"outprojection.{'kernel' if name == 'weight' else name}"] = array.T
        elif part == "mhnorm":
            ours[f"mhnorm.norm.{name}"] = array
        else:
            ours[f"{part.removesuffix('_')}.{name}"] = array
    for path, variable in nnx.to_flat_state(nnx.state(layer, nnx.Param)):
        name = ".".join(map(str, path))
        if name in ours and ours[name].size == variable.size:
            ours[name] = ours[name].reshape(variable.shape)
    return ours
