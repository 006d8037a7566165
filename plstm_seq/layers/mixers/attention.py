"""Causal softmax attention."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from plstm_seq.layers.arguments import given, require, require_choice, require_positive
from plstm_seq.layers.mixers.base import Baseline, BaselineConfig, head_features
from plstm_seq.ops.attention import causal_attention

Position = Literal["rope", "none"]


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(BaselineConfig):
    """The options of an `Attention`.

    Attributes:
        num_heads: the number of heads, H.
        head_dim: the number of features of a query, key or value; None: input features / H. It has
            to be even with "rope".
        position: "rope": queries and keys are rotated by their positions; "none": order is known
            from the causal mask alone.
        rope_base: the angles are `position * rope_base^(-2 i / head_dim)`; it has no effect without
            "rope".
    """

    num_heads: int = 4
    head_dim: int | None = None
    position: Position = "rope"
    rope_base: float = 10_000.0
    kind: Literal["attention"] = "attention"

    def __post_init__(self):
        require_positive(num_heads=self.num_heads, **given(head_dim=self.head_dim))
        require_choice("position", self.position, Position)
        require(self.rope_base > 1, "rope_base", self.rope_base, "above 1")


class Attention(Baseline[AttentionConfig]):
    """Each position reads itself and all before it: `softmax(q k^T / sqrt(head_dim)) v`.

    Sources: Vaswani et al., arXiv 1706.03762; rotary positions: Su et al., arXiv 2104.09864.

    The state holds all keys and values so far, and grows with the length. A step returns arrays of
    a new shape, so that compiled programs cannot carry the state along a loop.

    Attributes:
        bounded_state: False.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.mixers import Attention, AttentionConfig
        >>> config = AttentionConfig(num_heads=2)
        >>> mixer = Attention(8, config, rngs=nnx.Rngs(0))
        >>> jax.jit(mixer)(jnp.ones((3, 5, 8))).shape
        (3, 5, 8)
    """

    bounded_state = False

    def _make(self, **types: Any) -> int:
        config = self.config
        self.head_dim = head_features(self.input_dim, config.num_heads, config.head_dim)
        fits = config.position != "rope" or self.head_dim % 2 == 0
        require(fits, "head_dim", self.head_dim, "an even number with rope")
        inner = config.num_heads * self.head_dim
        self.query = nnx.Linear(self.input_dim, inner, use_bias=False, **types)
        self.key = nnx.Linear(self.input_dim, inner, use_bias=False, **types)
        self.value = nnx.Linear(self.input_dim, inner, use_bias=False, **types)
        return inner

    def _start(self, batch_size: int, dtype: jnp.dtype) -> tuple[Array, Array]:
        empty = jnp.zeros((batch_size, 0, self.config.num_heads, self.head_dim), dtype)
        return empty, empty

    def _read(self, x: Array, memory: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        past, length = memory[0].shape[1], x.shape[1]
        heads = (*x.shape[:2], self.config.num_heads, self.head_dim)
        query, key, value = (part(x).reshape(heads) for part in (self.query, self.key, self.value))
        positions = past + jnp.arange(length)
        if self.config.position == "rope":
            query, key = (rotated(part, positions, self.config.rope_base) for part in (query, key))
        keys, values = (
            jnp.concatenate([old, new.astype(old.dtype)], axis=1)
            for old, new in zip(memory, (key, value), strict=True)
        )
        y = causal_attention(query.astype(keys.dtype), keys, values)
        return jax.lax.collapse(y, 2), (keys, values)


def rotated(
    x: Float[Array, "B T H D"], positions: Float[Array, " T"], base: float
) -> Float[Array, "B T H D"]:
    """Turn each pair of features (i, i + D / 2) by the angle `position * base^(-2 i / D)`.

    Angles are in float32 at least. A product of a rotated query and key depends only on the
    difference of their positions.
    """
    half = x.shape[-1] // 2
    wide = jnp.promote_types(x.dtype, jnp.float32)
    rates = base ** (-jnp.arange(half, dtype=wide) / half)
    angles = (positions.astype(wide)[:, None] * rates)[:, None]
    first, second = jnp.split(x.astype(wide), 2, axis=-1)
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    turned = [first * cosine - second * sine, first * sine + second * cosine]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
