"""Graph models: what stands between graphs and the logits of graphs or nodes."""

from plstm_seq.models.graph.blocks import GraphPostUpBlock, GraphPreUpBlock, make_graph_block
from plstm_seq.models.graph.config import GraphModelConfig
from plstm_seq.models.graph.model import GraphInputs, GraphModel, pooled

__all__ = [
    "GraphInputs",
    "GraphModel",
    "GraphModelConfig",
    "GraphPostUpBlock",
    "GraphPreUpBlock",
    "make_graph_block",
    "pooled",
]
