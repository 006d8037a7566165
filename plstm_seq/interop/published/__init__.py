"""Configurations and parameters of the published implementation (github.com/ml-jku/plstm)."""

from plstm_seq.interop.published.config import (
    Arguments,
    BlockArguments,
    LayerArguments,
    ModelArguments,
    read_config,
)
from plstm_seq.interop.published.grid import GridLayerArguments
from plstm_seq.interop.published.parameters import load_parameters, parameter_name
from plstm_seq.interop.published.vision import GridBlockArguments, VisionArguments

__all__ = [
    "Arguments",
    "BlockArguments",
    "GridBlockArguments",
    "GridLayerArguments",
    "LayerArguments",
    "ModelArguments",
    "VisionArguments",
    "load_parameters",
    "parameter_name",
    "read_config",
]
