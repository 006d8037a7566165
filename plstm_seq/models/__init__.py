"""Models: the modules that map inputs to logits.

The models over images and graphs are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from plstm_seq.models.blocks import (
    BlockConfig,
    PostUpBlock,
    PostUpConfig,
    PreUpBlock,
    PreUpConfig,
    make_block,
)
from plstm_seq.models.sequence import (
    SequenceModel,
    SequenceModelConfig,
    SequenceState,
    state_tracking,
)

if TYPE_CHECKING:
    from plstm_seq.models.graph import GraphInputs, GraphModel, GraphModelConfig
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
_MODULES = {
    "graph": ("GraphInputs", "GraphModel", "GraphModelConfig"),
    "vision": ("VisionModel", "VisionModelConfig"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "ModelConfig":
        return (
            SequenceModelConfig | __getattr__("VisionModelConfig") | __getattr__("GraphModelConfig")
        )
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
