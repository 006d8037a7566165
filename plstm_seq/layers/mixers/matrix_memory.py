"""Linear recurrences whose state is a matrix per head: gated linear attention, DeltaNet.

DeltaNet with a gate is gated DeltaNet; with several reflections it is DeltaProduct.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from plstm_seq.layers.arguments import (
    given,
    require,
    require_above_zero,
    require_count,
    require_positive,
)
from plstm_seq.layers.mixers.base import Baseline, Readout, ReadoutConfig, head_features, wide
from plstm_seq.layers.transition.matrices import unit
from plstm_seq.ops.linear import gated_delta_rule


@dataclass(frozen=True, kw_only=True)
class MatrixMemoryConfig(ReadoutConfig):
    """The options of every `MatrixMemory`.

    Attributes:
        num_heads: the number of heads, H.
        head_dim: the size of DK and DV; None: input features / H.
    """

    num_heads: int = 4
    head_dim: int | None = None

    def __post_init__(self):
        require_positive(num_heads=self.num_heads, **given(head_dim=self.head_dim))


C = TypeVar("C", bound=MatrixMemoryConfig)


class MatrixMemory(Baseline[C]):
    """A state [DK, DV] per head, which `gated_delta_rule` decays, corrects and writes to."""

    readout: Readout

    def _make_heads(self, parts: int = 1, **types: Any) -> int:
        """Make queries, and `parts` keys and values per step; return the features of all heads."""
        config = self.config
        self.head_dim = head_features(self.input_dim, config.num_heads, config.head_dim)
        inner = config.num_heads * self.head_dim
        self.query = nnx.Linear(self.input_dim, inner, use_bias=False, **types)
        self.key = nnx.Linear(self.input_dim, parts * inner, use_bias=False, **types)
        self.value = nnx.Linear(self.input_dim, parts * inner, use_bias=False, **types)
        return inner

    def _start(self, batch_size: int, dtype: jnp.dtype) -> Array:
        shape = (batch_size, self.config.num_heads, self.head_dim, self.head_dim)
        return jnp.zeros(shape, dtype)

    def _heads_first(self, part: Array, dtype: jnp.dtype, *axes: int) -> Array:
        """Split features into heads: [B, T, features] -> [B, H, T, *axes]."""
        part = part.astype(dtype).reshape(*part.shape[:2], self.config.num_heads, *axes)
        return jnp.moveaxis(part, 2, 1)

    def _recall(self, x: Array, query: Array, *written: Array, **options: Any) -> Any:
        """Run the recurrence and read it; the remaining arguments are passed to the op."""
        y, memory = gated_delta_rule(query * self.head_dim**-0.5, *written, **options)
        y = jax.lax.collapse(jnp.moveaxis(y, 1, 2), 2)
        return self.readout(y.astype(x.dtype), x), memory


@dataclass(frozen=True, kw_only=True)
class GatedLinearAttentionConfig(MatrixMemoryConfig):
    """The options of a `GatedLinearAttention`.

    Attributes:
        gate_rank: the rank of the linear function of the input that makes the decays.
        gate_temperature: the decays are `sigmoid(...)^(1 / gate_temperature)`.
    """

    gate_rank: int = 16
    gate_temperature: float = 16.0
    kind: Literal["gated_linear_attention"] = "gated_linear_attention"

    def __post_init__(self):
        super().__post_init__()
        require_positive(gate_rank=self.gate_rank)
        require_above_zero(gate_temperature=self.gate_temperature)


class GatedLinearAttention(MatrixMemory[GatedLinearAttentionConfig]):
    """`S_t = diag(a_t) S_{t-1} + k_t v_t^T`, whose output is `S_t^T q_t`.

    The decay `a` is a number in [0, 1] for each key feature. Source: Yang et al., arXiv 2312.06635
    (where DK is half of DV).

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.mixers import GatedLinearAttention, GatedLinearAttentionConfig
        >>> config = GatedLinearAttentionConfig(num_heads=2)
        >>> mixer = GatedLinearAttention(8, config, rngs=nnx.Rngs(0))
        >>> jax.jit(mixer)(jnp.ones((3, 5, 8))).shape
        (3, 5, 8)
    """

    def _make(self, **types: Any) -> int:
        config = self.config
        inner = self._make_heads(**types)
        self.gate_down = nnx.Linear(self.input_dim, config.gate_rank, use_bias=False, **wide(types))
        self.gate_up = nnx.Linear(config.gate_rank, inner, **wide(types))
        self.readout = Readout(self.input_dim, config.num_heads, inner, config, **types)
        return inner

    def _read(self, x: Array, memory: Array) -> tuple[Array, Array]:
        parts = (self.query(x), self.key(x), self.value(x), self.gate_up(self.gate_down(x)))
        query, key, value, gate = (
            self._heads_first(part, memory.dtype, self.head_dim) for part in parts
        )
        return self._recall(
            x,
            query,
            key[..., None, :],
            value[..., None, :],
            log_decay=jax.nn.log_sigmoid(gate) / self.config.gate_temperature,
            initial_state=memory,
        )


_RATES = (0.0, 16.0)
_STEPS = (0.001, 0.1)
"""Bounds of the initial rates of decay and step sizes, as in Mamba-2 (arXiv 2405.21060)."""


@dataclass(frozen=True, kw_only=True)
class DeltaNetConfig(MatrixMemoryConfig):
    """The options of a `DeltaNet`.

    Attributes:
        num_reflections: the number n of factors of a transition: 1 is DeltaNet, more is
            DeltaProduct.
        beta_max: `beta = beta_max * sigmoid(...)`, in (0, 2]; up to 1 there are no negative
            eigenvalues.
        gate: whether a number in [0, 1] per head multiplies the state at every step.
    """

    num_reflections: int = 1
    beta_max: float = 2.0
    gate: bool = False
    output_gate: bool = False
    kind: Literal["delta_net"] = "delta_net"

    def __post_init__(self):
        super().__post_init__()
        require_count(num_reflections=self.num_reflections)
        require(0 < self.beta_max <= 2, "beta_max", self.beta_max, "in (0, 2]")


class DeltaNet(MatrixMemory[DeltaNetConfig]):
    """A memory whose transition is a product of n factors `1 - beta k k^T`, with unit keys.

    Each factor also writes: `S = (1 - beta k k^T) S + beta k v^T`; the output is `S^T q` after the
    last factor. Query, key and value are `silu` of linear functions of the input; query and key are
    scaled to length 1. With a gate, `S = exp(-rate * softplus(...)) S` before the first factor.

    Sources: DeltaNet, Yang et al., arXiv 2406.06484; gated, arXiv 2412.06464; beta up to 2, Grazzi
    et al., arXiv 2411.12537; products, Siems et al., arXiv 2502.10297. A sequence is computed in
    chunks, exactly (`plstm_seq.ops.linear.gated_delta_rule`).

    Example:
        A product of two reflections at every step (DeltaProduct).

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.mixers import DeltaNet, DeltaNetConfig
        >>> config = DeltaNetConfig(num_heads=2, num_reflections=2)
        >>> mixer = DeltaNet(8, config, rngs=nnx.Rngs(0))
        >>> jax.jit(mixer)(jnp.ones((3, 5, 8))).shape
        (3, 5, 8)
    """

    def _make(self, **types: Any) -> int:
        config = self.config
        heads, parts = config.num_heads, config.num_reflections
        inner = self._make_heads(parts, **types)
        self.beta = nnx.Linear(self.input_dim, parts * heads, use_bias=False, **wide(types))
        if config.gate:
            self.decay = nnx.Linear(self.input_dim, heads, bias_init=_step_bias, **wide(types))
            rates = _log_rates(types["rngs"].params(), (heads,), types["param_dtype"])
            self.log_rate = nnx.Param(rates)
        self.readout = Readout(self.input_dim, heads, inner, config, **types)
        return inner

    def _read(self, x: Array, memory: Array) -> tuple[Array, Array]:
        config, parts = self.config, self.config.num_reflections
        query = unit(jax.nn.silu(self._heads_first(self.query(x), memory.dtype, self.head_dim)))
        key, value = (
            jax.nn.silu(self._heads_first(part(x), memory.dtype, parts, self.head_dim))
            for part in (self.key, self.value)
        )
        beta = self._heads_first(self.beta(x), memory.dtype, parts)
        beta = config.beta_max * jax.nn.sigmoid(beta)
        log_decay = None
        if config.gate:
            rate = jnp.exp(self.log_rate[...].astype(memory.dtype))[:, None, None]
            decay = self._heads_first(self.decay(x), memory.dtype, 1)
            log_decay = -rate * jax.nn.softplus(decay)
        return self._recall(
            x,
            query,
            unit(key),
            beta[..., None] * value,
            erase=beta,
            log_decay=log_decay,
            initial_state=memory,
        )


def _log_rates(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    low, high = _RATES
    tiny = jnp.finfo(dtype).tiny
    return jnp.log(jax.random.uniform(key, shape, dtype, low + tiny, high))


def _step_bias(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Draw step sizes evenly in their logarithm, and return their inverse under softplus."""
    low, high = map(math.log, _STEPS)
    steps = jnp.exp(jax.random.uniform(key, shape, dtype, low, high))
    return steps + jnp.log(-jnp.expm1(-steps))
