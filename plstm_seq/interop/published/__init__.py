"""Configurations and parameters of the published implementation (github.com/ml-jku/plstm)."""

from plstm_seq.interop.published.config import (
    BlockArguments,
    LayerArguments,
    ModelArguments,
    read_config,
)
from plstm_seq.interop.published.parameters import load_parameters, parameter_name

__all__ = [
    "BlockArguments",
    "LayerArguments",
    "ModelArguments",
    "load_parameters",
    "parameter_name",
    "read_config",
]
