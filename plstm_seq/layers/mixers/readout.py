"""How linear recurrences are read: a norm a head, and a gate."""

from dataclasses import dataclass, field
from typing import Any

import jax
from flax import nnx
from jax import Array

from plstm_seq.layers.mixers.base import BaselineConfig
from plstm_seq.layers.norm import Norm, NormConfig


@dataclass(frozen=True, kw_only=True)
class ReadoutConfig(BaselineConfig):
    """The options of every linear recurrence.

    Attributes:
        norm: the norm over what is read of each head; None: none.
        output_gate: whether `silu` of a linear function of the input multiplies it then.
    """

    norm: NormConfig | None = field(default_factory=NormConfig)
    output_gate: bool = True


class Readout(nnx.Module):
    """`norm(y) * silu(gate(x))`, as in gated linear attention (arXiv 2312.06635).

    Args:
        input_dim: the number of input features, I.
        num_heads: H, each with a norm of its own.
        features: F, over all heads.
        config: see `ReadoutConfig`.
        **types: `dtype`, `param_dtype` and `rngs` of the parameters.
    """

    def __init__(
        self, input_dim: int, num_heads: int, features: int, config: ReadoutConfig, **types: Any
    ):
        self.norm = (
            None
            if config.norm is None
            else Norm(features, config.norm, num_heads=num_heads, **types)
        )
        self.gate = (
            nnx.Linear(input_dim, features, use_bias=False, **types) if config.output_gate else None
        )

    def __call__(self, y: Array, x: Array) -> Array:
        """Map what was read [..., F] and the input [..., I] to [..., F]."""
        if self.norm is not None:
            y = self.norm(y, head_axis=None)
        return y if self.gate is None else y * jax.nn.silu(self.gate(x))
