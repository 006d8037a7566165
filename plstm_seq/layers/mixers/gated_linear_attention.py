"""Gated linear attention."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from plstm_seq.layers.checks import require_positive
from plstm_seq.layers.mixers.base import Baseline, head_features, wide
from plstm_seq.layers.mixers.readout import Readout, ReadoutConfig
from plstm_seq.ops.linear import gated_delta_rule


@dataclass(frozen=True, kw_only=True)
class GatedLinearAttentionConfig(ReadoutConfig):
    """The options of a `GatedLinearAttention`.

    Attributes:
        num_heads: the number of heads, H.
        head_dim: DK = DV; None: input features / H.
        gate_rank: rank of the decays' linear function of the input.
        gate_temperature: decays are `sigmoid(...)^(1 / gate_temperature)`.
    """

    num_heads: int = 4
    head_dim: int | None = None
    gate_rank: int = 16
    gate_temperature: float = 16.0
    kind: Literal["gated_linear_attention"] = "gated_linear_attention"

    def __post_init__(self):
        require_positive(num_heads=self.num_heads, gate_rank=self.gate_rank)
        if self.head_dim is not None:
            require_positive(head_dim=self.head_dim)
        if not self.gate_temperature > 0:
            raise ValueError(f"gate_temperature: got {self.gate_temperature}, expected above 0")


class GatedLinearAttention(Baseline[GatedLinearAttentionConfig]):
    """`S_t = diag(a_t) S_{t-1} + k_t v_t^T`, read by `S_t^T q_t`, with `a` in [0, 1] a key feature.

    Source: Yang et al., arXiv 2312.06635 (there DK is half of DV).
    """

    def _make(self, **types: Any) -> int:
        config = self.config
        self.head_dim = head_features(self.input_dim, config.num_heads, config.head_dim)
        inner = config.num_heads * self.head_dim
        self.query = nnx.Linear(self.input_dim, inner, use_bias=False, **types)
        self.key = nnx.Linear(self.input_dim, inner, use_bias=False, **types)
        self.value = nnx.Linear(self.input_dim, inner, use_bias=False, **types)
        self.gate_down = nnx.Linear(self.input_dim, config.gate_rank, use_bias=False, **wide(types))
        self.gate_up = nnx.Linear(config.gate_rank, inner, **wide(types))
        self.readout = Readout(self.input_dim, config.num_heads, inner, config, **types)
        return inner

    def _start(self, batch_size: int, dtype: jnp.dtype) -> Array:
        shape = (batch_size, self.config.num_heads, self.head_dim, self.head_dim)
        return jnp.zeros(shape, dtype)

    def _read(self, x: Array, memory: Array) -> tuple[Array, Array]:
        heads = (*x.shape[:2], self.config.num_heads, self.head_dim)
        query, key, value, gate = (
            jnp.moveaxis(part.astype(memory.dtype).reshape(heads), 2, 1)
            for part in (
                self.query(x),
                self.key(x),
                self.value(x),
                self.gate_up(self.gate_down(x)),
            )
        )
        y, memory = gated_delta_rule(
            query * self.head_dim**-0.5,
            key[..., None, :],
            value[..., None, :],
            log_decay=jax.nn.log_sigmoid(gate) / self.config.gate_temperature,
            initial_state=memory,
        )
        y = jax.lax.collapse(jnp.moveaxis(y, 1, 2), 2)
        return self.readout(y.astype(x.dtype), x), memory
