"""Vision models: what stands between images, or grids of symbols, and logits."""

from plstm_seq.models.vision.blocks import GridPostUpBlock, GridPreUpBlock, make_grid_block
from plstm_seq.models.vision.config import (
    VisionModelConfig,
    published_mixer,
    vision_plstm,
    vision_transformer,
)
from plstm_seq.models.vision.model import VisionModel

__all__ = [
    "GridPostUpBlock",
    "GridPreUpBlock",
    "VisionModel",
    "VisionModelConfig",
    "make_grid_block",
    "published_mixer",
    "vision_plstm",
    "vision_transformer",
]
