"""Softmax attention between all cells of a grid, for the vision transformer."""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.arguments import (
    accumulation_dtype,
    given,
    require_choice,
    require_positive,
    require_shape,
)
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.initializers import Initializer, Small, Zeros
from plstm_seq.layers.mixers.base import head_features

AttentionImplementation = Literal["xla", "cudnn"]


@dataclass(frozen=True)
class GridAttentionConfig:
    """The options of a `GridAttention`.

    Attributes:
        num_heads: the number of heads, H.
        head_dim: features of a query, key or value; None: input features / H.
        bias: whether the four projections have biases.
        weight_init: of the kernels of query, key and value.
        out_weight_init: of the out projection's kernel.
        bias_init: of the biases.
        implementation: "xla", or "cudnn": the fused kernel of an NVIDIA GPU, in half precision.
        kind: tells this mixer from others.
    """

    num_heads: int = 3
    head_dim: int | None = None
    bias: bool = True
    weight_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    out_weight_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    bias_init: Initializer = field(default_factory=Zeros)
    implementation: AttentionImplementation = "xla"
    kind: Literal["attention"] = "attention"

    def __post_init__(self):
        require_positive(num_heads=self.num_heads, **given(head_dim=self.head_dim))
        require_choice("implementation", self.implementation, AttentionImplementation)


class GridAttention(Configured[GridAttentionConfig]):
    """Each cell reads all cells: `softmax(q k^T / sqrt(head_dim)) v`; it knows no positions.

    Sources: Vaswani et al., arXiv 1706.03762; on images Dosovitskiy et al., arXiv 2010.11929.

    Args:
        input_dim: the number of input features, I.
        config: see `GridAttentionConfig`.
        output_dim: the features of the output; None: I.
        dtype: the type to compute in; None: that of input and parameters. The softmax is in
            float32 at least.
        param_dtype: the type of the parameters.
        rngs: for the parameters.

    Raises:
        ValueError: sizes do not fit each other.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.grid import GridAttention, GridAttentionConfig
        >>> layer = GridAttention(16, GridAttentionConfig(num_heads=2), rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((3, 4, 5, 16))).shape
        (3, 4, 5, 16)
    """

    def __init__(
        self,
        input_dim: int,
        config: GridAttentionConfig = GridAttentionConfig(),
        *,
        output_dim: int | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        output_dim = input_dim if output_dim is None else output_dim
        require_positive(input_dim=input_dim, output_dim=output_dim)
        self.input_dim, self.kept = input_dim, Kept(config)
        inner = config.num_heads * head_features(input_dim, config.num_heads, config.head_dim)

        types = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        linear = partial(nnx.Linear, use_bias=config.bias, bias_init=config.bias_init, **types)
        self.query = linear(input_dim, inner, kernel_init=config.weight_init)
        self.key = linear(input_dim, inner, kernel_init=config.weight_init)
        self.value = linear(input_dim, inner, kernel_init=config.weight_init)
        self.outprojection = linear(inner, output_dim, kernel_init=config.out_weight_init)

    def __call__(self, x: Float[Array, "B *S I"]) -> Float[Array, "B *S F"]:
        """Let every cell attend to all cells.

        Args:
            x: The input [B, ..., I]: a grid [B, X, Y, I], or cells in any order [B, T, I].

        Returns:
            The output [B, ..., output_dim].

        Raises:
            ValueError: If the shape of `x` does not fit.
        """
        require_shape("x", x, ("...", self.input_dim))
        cells = jax.lax.collapse(x, 1, x.ndim - 1)
        heads = self.config.num_heads
        query, key, value = (
            part(cells).reshape(*cells.shape[:2], heads, part.out_features // heads)
            for part in (self.query, self.key, self.value)
        )
        if self.config.implementation == "cudnn":
            y = jax.nn.dot_product_attention(query, key, value, implementation="cudnn")
        else:
            y = _attention(query, key, value)
        y = self.outprojection(jax.lax.collapse(y, 2))
        return y.reshape(*x.shape[:-1], y.shape[-1])


def _attention(query: Array, key: Array, value: Array) -> Array:
    """Compute attention between arrays [B, T, H, D].

    Unlike `jax.nn.dot_product_attention`, this takes the softmax of float64 inputs in float64.
    """
    wide = accumulation_dtype(query.dtype)
    scores = jnp.einsum("bthd,bshd->bhts", query, key, preferred_element_type=wide)
    weights = jax.nn.softmax(scores * query.shape[-1] ** -0.5, axis=-1)
    return jnp.einsum("bhts,bshd->bthd", weights.astype(value.dtype), value)
