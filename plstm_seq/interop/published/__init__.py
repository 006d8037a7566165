"""Configurations and parameters of the published implementation (github.com/ml-jku/plstm)."""

from plstm_seq.interop.published.config import (
    Arguments,
    BlockArguments,
    GridBlockArguments,
    ModelArguments,
    VisionArguments,
    read_config,
)
from plstm_seq.interop.published.layers import GridLayerArguments, LayerArguments
from plstm_seq.interop.published.parameters import load_parameters, parameter_name

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
