"""DeltaNet, gated DeltaNet and gated DeltaProduct."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from plstm_seq.layers.checks import require_count, require_positive
from plstm_seq.layers.mixers.base import Baseline, head_features, wide
from plstm_seq.layers.mixers.readout import Readout, ReadoutConfig
from plstm_seq.layers.transition.reflections import unit
from plstm_seq.ops.linear import gated_delta_rule

_RATES = (0.0, 16.0)
_STEPS = (0.001, 0.1)
"""Between which the decays' rates and step sizes start, as in Mamba-2 (arXiv 2405.21060)."""


@dataclass(frozen=True, kw_only=True)
class DeltaNetConfig(ReadoutConfig):
    """The options of a `DeltaNet`.

    Attributes:
        num_heads: the number of heads, H.
        head_dim: DK = DV; None: input features / H.
        num_reflections: n, factors of a transition: 1 is DeltaNet, more is DeltaProduct.
        beta_max: `beta = beta_max * sigmoid(...)`, in (0, 2]; 1 allows no negative eigenvalue.
        gate: whether a scalar a head in [0, 1] multiplies the state at every step.
    """

    num_heads: int = 4
    head_dim: int | None = None
    num_reflections: int = 1
    beta_max: float = 2.0
    gate: bool = False
    output_gate: bool = False
    kind: Literal["delta_net"] = "delta_net"

    def __post_init__(self):
        require_positive(num_heads=self.num_heads)
        require_count(num_reflections=self.num_reflections)
        if self.head_dim is not None:
            require_positive(head_dim=self.head_dim)
        if not 0 < self.beta_max <= 2:
            raise ValueError(f"beta_max: got {self.beta_max}, expected in (0, 2]")


class DeltaNet(Baseline[DeltaNetConfig]):
    """A memory whose transition is a product of n factors `1 - beta k k^T`, with unit keys.

    Each factor also writes: `S = (1 - beta k k^T) S + beta k v^T`; the output is `S^T q` after the
    last. Query, key and value are `silu` of linear functions of the input, query and key scaled
    to length 1. Gated: `S = exp(-rate * softplus(...)) S` before the first factor.

    Sources: DeltaNet, Yang et al., arXiv 2406.06484; gated, arXiv 2412.06464; beta up to 2, Grazzi
    et al., arXiv 2411.12537; products, Siems et al., arXiv 2502.10297. A sequence is computed in
    chunks, exactly (`plstm_seq.ops.linear.gated_delta_rule`).
    """

    def _make(self, **types: Any) -> int:
        config = self.config
        heads, parts = config.num_heads, config.num_reflections
        self.head_dim = head_features(self.input_dim, heads, config.head_dim)
        inner = heads * self.head_dim
        self.query = nnx.Linear(self.input_dim, inner, use_bias=False, **types)
        self.key = nnx.Linear(self.input_dim, parts * inner, use_bias=False, **types)
        self.value = nnx.Linear(self.input_dim, parts * inner, use_bias=False, **types)
        self.beta = nnx.Linear(self.input_dim, parts * heads, use_bias=False, **wide(types))
        if config.gate:
            self.decay = nnx.Linear(self.input_dim, heads, bias_init=_step_bias, **wide(types))
            rates = _log_rates(types["rngs"].params(), (heads,), types["param_dtype"])
            self.log_rate = nnx.Param(rates)
        self.readout = Readout(self.input_dim, heads, inner, config, **types)
        return inner

    def _start(self, batch_size: int, dtype: jnp.dtype) -> Array:
        shape = (batch_size, self.config.num_heads, self.head_dim, self.head_dim)
        return jnp.zeros(shape, dtype)

    def _read(self, x: Array, memory: Array) -> tuple[Array, Array]:
        config = self.config

        def heads_before_time(part: Array, *axes: int) -> Array:
            part = part.astype(memory.dtype).reshape(*x.shape[:2], config.num_heads, *axes)
            return jnp.moveaxis(part, 2, 1)

        parts = config.num_reflections
        query = unit(jax.nn.silu(heads_before_time(self.query(x), self.head_dim)))
        key = unit(jax.nn.silu(heads_before_time(self.key(x), parts, self.head_dim)))
        value = jax.nn.silu(heads_before_time(self.value(x), parts, self.head_dim))
        beta = config.beta_max * jax.nn.sigmoid(heads_before_time(self.beta(x), parts))
        log_decay = None
        if config.gate:
            rate = jnp.exp(self.log_rate[...].astype(memory.dtype))[:, None, None]
            log_decay = -rate * jax.nn.softplus(heads_before_time(self.decay(x), 1))
        y, memory = gated_delta_rule(
            query * self.head_dim**-0.5,
            key,
            beta[..., None] * value,
            beta,
            log_decay,
            initial_state=memory,
        )
        y = jax.lax.collapse(jnp.moveaxis(y, 1, 2), 2)
        return self.readout(y.astype(x.dtype), x), memory


def _log_rates(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    low, high = _RATES
    tiny = jnp.finfo(dtype).tiny
    return jnp.log(jax.random.uniform(key, shape, dtype, low + tiny, high))


def _step_bias(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """The inverse of softplus of step sizes drawn evenly in their logarithm."""
    low, high = map(math.log, _STEPS)
    steps = jnp.exp(jax.random.uniform(key, shape, dtype, low, high))
    return steps + jnp.log(-jnp.expm1(-steps))
