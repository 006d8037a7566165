"""Linear maps of the input into heads, for query, key and value; blocks keep the weight small."""

from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.arguments import (
    accumulation_dtype,
    promote,
    require_choice,
    require_divisible,
    require_positive,
    require_shape,
)
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.initializers import Initializer, Small, Zeros
from plstm_seq.ops.products import repeat

Normalization = Literal["none", "l2", "published_l2"]
_EPS = 1e-5


@dataclass(frozen=True)
class HeadProjectionConfig:
    """How a query, key or value is computed.

    Attributes:
        bias: whether a bias is added.
        normalization: "l2" scales every column over the feature axis (DK or DV) to length 1,
            `x / sqrt(sum_d x_d^2 + 1e-5)`. "published_l2" is what the published code calls l2:
            `x / sqrt(mean_j x_j^2 + 1e-5)` over the state-tracking axis (JQ, JK or JV). If that
            axis has one entry, little more than its sign is left; use it for published weights.
        bias_init: the initialiser of the bias [H, D, J].
        weight_init: the initialiser of the weight [max(1, H / S), D / max(1, S / H), J, S, I / S],
            where S is the number of sub-heads.
    """

    bias: bool = True
    normalization: Normalization = "none"
    bias_init: Initializer = field(default_factory=Zeros)
    weight_init: Initializer = field(default_factory=Small)

    def __post_init__(self):
        require_choice("normalization", self.normalization, Normalization)


class HeadProjection(Configured[HeadProjectionConfig]):
    """Map input vectors [..., I] to [..., H, D, J]: a query, key or value.

    With `sub_heads` S the input is split into S blocks, and each block is read by 1/S of the
    outputs: the weight is block-diagonal and S times smaller. Either S divides H, or H divides S
    (then several blocks make one head).

    Args:
        num_heads: the number of heads, H.
        input_dim: the number of input features, I.
        features: the number of features of a head, D (DK or DV).
        tracking_dim: J, the state-tracking dimension (JQ, JK or JV).
        config: see `HeadProjectionConfig`.
        sub_heads: the number of blocks that the input is split into, S.
        dtype: the type to compute in; None: the common type of input and parameters.
        param_dtype: the type of the parameters.
        rngs: the random number generators for the parameters.

    Example:
        Queries with four features and JQ = 1 for two heads.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers import HeadProjection, HeadProjectionConfig
        >>> query = HeadProjection(2, 8, 4, 1, HeadProjectionConfig(), rngs=nnx.Rngs(0))
        >>> query(jnp.ones((5, 8))).shape
        (5, 2, 4, 1)
    """

    def __init__(
        self,
        num_heads: int,
        input_dim: int,
        features: int,
        tracking_dim: int,
        config: HeadProjectionConfig,
        *,
        sub_heads: int = 1,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        require_positive(
            num_heads=num_heads,
            input_dim=input_dim,
            features=features,
            tracking_dim=tracking_dim,
            sub_heads=sub_heads,
        )
        require_divisible("input_dim", input_dim, "sub_heads", sub_heads)
        if sub_heads <= num_heads:
            require_divisible("num_heads", num_heads, "sub_heads", sub_heads)
        else:
            require_divisible("sub_heads", sub_heads, "num_heads", num_heads)
            require_divisible("features", features, "sub_heads / num_heads", sub_heads // num_heads)
        self.input_dim, self.sub_heads = input_dim, sub_heads
        self.head_shape = (num_heads, features, tracking_dim)
        self.kept, self.dtype = Kept(config), dtype
        weight_shape = (
            max(1, num_heads // sub_heads),
            features // max(1, sub_heads // num_heads),
            tracking_dim,
            sub_heads,
            input_dim // sub_heads,
        )
        self.weight = nnx.Param(config.weight_init(rngs.params(), weight_shape, param_dtype))
        if config.bias:
            self.bias = nnx.Param(config.bias_init(rngs.params(), self.head_shape, param_dtype))

    def __call__(self, x: Float[Array, "*S I"]) -> Float[Array, "*S H D J"]:
        """Project every input vector into the heads.

        Args:
            x: [..., I].

        Returns:
            The projections [..., H, D, J] in the type computed in.

        Raises:
            ValueError: the last axis of `x` is not I.
        """
        require_shape("x", x, ("...", self.input_dim))
        lead = x.shape[:-1]
        x, weight = promote(x, self.weight[...], dtype=self.dtype)
        x = x.reshape(*lead, self.sub_heads, self.input_dim // self.sub_heads)
        y = jnp.einsum("hdjsi,...si->...hsdj", weight, x).reshape(lead + self.head_shape)
        if self.config.bias:
            y = y + repeat(self.bias[...].astype(y.dtype), lead)
        return _normalize(y, self.config.normalization)


def _normalize(y: Array, normalization: Normalization) -> Array:
    if normalization == "none":
        return y
    wide = y.astype(accumulation_dtype(y.dtype))
    squares = jnp.square(wide)
    if normalization == "l2":
        size = jnp.sum(squares, axis=-2, keepdims=True)
    else:
        size = jnp.mean(squares, axis=-1, keepdims=True)
    return (wide * jax.lax.rsqrt(size + _EPS)).astype(y.dtype)
