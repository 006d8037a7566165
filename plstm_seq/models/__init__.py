"""Models: what stands between tokens and logits."""

from plstm_seq.models.blocks import (
    BlockConfig,
    PostUpBlock,
    PostUpConfig,
    PreUpBlock,
    PreUpConfig,
    make_block,
)
from plstm_seq.models.presets import state_tracking
from plstm_seq.models.sequence import SequenceModel, SequenceModelConfig, SequenceState

__all__ = [
    "BlockConfig",
    "PostUpBlock",
    "PostUpConfig",
    "PreUpBlock",
    "PreUpConfig",
    "SequenceModel",
    "SequenceModelConfig",
    "SequenceState",
    "make_block",
    "state_tracking",
]
