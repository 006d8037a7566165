"""Models: what stands between inputs and logits."""

from plstm_seq.models.blocks import (
    BlockConfig,
    PostUpBlock,
    PostUpConfig,
    PreUpBlock,
    PreUpConfig,
    make_block,
)
from plstm_seq.models.graph import GraphInputs, GraphModel, GraphModelConfig
from plstm_seq.models.presets import state_tracking
from plstm_seq.models.sequence import SequenceModel, SequenceModelConfig, SequenceState
from plstm_seq.models.vision import VisionModel, VisionModelConfig

ModelConfig = SequenceModelConfig | VisionModelConfig | GraphModelConfig

__all__ = [
    "BlockConfig",
    "GraphInputs",
    "GraphModel",
    "GraphModelConfig",
    "ModelConfig",
    "PostUpBlock",
    "PostUpConfig",
    "PreUpBlock",
    "PreUpConfig",
    "SequenceModel",
    "SequenceModelConfig",
    "SequenceState",
    "VisionModel",
    "VisionModelConfig",
    "make_block",
    "state_tracking",
]
