"""RMS and layer norm, over all features or those of each head, and learned factors of features.

The norms are built on those of flax.
"""

from dataclasses import dataclass, field
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.arguments import (
    promote,
    require_choice,
    require_divisible,
    require_non_negative,
    require_positive,
    require_shape,
)
from plstm_seq.layers.initializers import Initializer, Ones, Zeros

NormKind = Literal["rms", "layer"]


@dataclass(frozen=True)
class NormConfig:
    """The options of a `Norm`: which norm it is, and what it learns.

    Attributes:
        kind: "rms": `x / sqrt(mean(x^2) + eps)`; "layer": `(x - mean(x)) / sqrt(var(x) + eps)`.
        eps: see `kind`.
        scale: whether the result is multiplied by a learned factor for each feature.
        bias: whether a learned bias is added to each feature.
        scale_init: the initialiser of the scale.
        bias_init: the initialiser of the bias.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers import Norm, NormConfig
        >>> norm = Norm(2, NormConfig(kind="layer"), rngs=nnx.Rngs(0))
        >>> norm(jnp.array([1.0, 3.0])).round(2).tolist()
        [-1.0, 1.0]
    """

    kind: NormKind = "rms"
    eps: float = 1e-5
    scale: bool = True
    bias: bool = False
    scale_init: Initializer = field(default_factory=Ones)
    bias_init: Initializer = field(default_factory=Zeros)

    def __post_init__(self):
        require_choice("kind", self.kind, NormKind)
        require_non_negative(eps=self.eps)


class Norm(nnx.Module):
    """A norm over the last axis, or over the features of each of H heads.

    Args:
        num_features: the number of features over all heads, F.
        config: see `NormConfig`.
        num_heads: the number of heads H, which have statistics of their own; None: no head axis.
        dtype: the type of the result; None: the common type of input and parameters. Statistics
            are in float32 at least.
        param_dtype: the type of the parameters.
        rngs: the random number generators for the parameters.

    Example:
        Each of two heads is normalised by itself.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers import Norm
        >>> norm = Norm(4, num_heads=2, rngs=nnx.Rngs(0))
        >>> norm(jnp.array([[3.0, 3.0], [0.5, 0.5]])).round(2).tolist()
        [[1.0, 1.0], [1.0, 1.0]]
    """

    def __init__(
        self,
        num_features: int,
        config: NormConfig = NormConfig(),
        *,
        num_heads: int | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        heads = 1 if num_heads is None else num_heads
        require_positive(num_features=num_features, num_heads=heads)
        require_divisible("num_features", num_features, "num_heads", heads)
        per_head = (heads, num_features // heads)
        self.axes = per_head[1:] if num_heads is None else per_head
        self.dtype = dtype
        options = {
            "epsilon": config.eps,
            "use_scale": config.scale,
            "scale_init": config.scale_init,
            "reduction_axes": -1,
            "feature_axes": tuple(range(-len(self.axes), 0)),
            "use_fast_variance": False,  # E[x^2] - E[x]^2 loses digits if the mean is large
            "dtype": dtype,
            "param_dtype": param_dtype,
            "rngs": rngs,
        }
        if config.kind == "layer":
            self.norm = nnx.LayerNorm(
                num_features, use_bias=config.bias, bias_init=config.bias_init, **options
            )
        else:
            self.norm = nnx.RMSNorm(num_features, **options)
        # flax's RMS norm has no bias.
        self.adds_bias = config.bias and config.kind == "rms"
        if self.adds_bias:
            self.bias = nnx.Param(config.bias_init(rngs.params(), (num_features,), param_dtype))

    def __call__(self, x: Float[Array, "*S F"], *, head_axis: int | None = -2) -> Array:
        """Normalise.

        Args:
            x: [..., F]; with heads [..., H, F / H], where the head axis is at `head_axis`.
            head_axis: the head axis, if the norm has heads; None: `x` is [..., F], and the heads
                follow each other along its last axis.

        Returns:
            The normalised `x`, in its shape.

        Raises:
            ValueError: the shape of `x` does not fit.
        """
        if len(self.axes) == 1:
            require_shape("x", x, ("...", *self.axes))
            return self._normalize(x)
        if head_axis is None:
            heads, features = self.axes
            require_shape("x", x, ("...", heads * features))
            return self._normalize(x.reshape(*x.shape[:-1], heads, features)).reshape(x.shape)
        heads_last = jnp.moveaxis(x, head_axis, -2)
        require_shape("x, its heads moved before its features,", heads_last, ("...", *self.axes))
        return jnp.moveaxis(self._normalize(heads_last), -2, head_axis)

    def _normalize(self, x: Array) -> Array:
        x = self.norm(x)
        if not self.adds_bias:
            return x
        x, bias = promote(x, self.bias[...].reshape(self.axes), dtype=self.dtype)
        return x + bias


_ONES = Ones()


class Scale(nnx.Module):
    """`scale * x`, with one factor for each feature.

    Args:
        features: the number of features, I.
        scale_init: the initialiser of the factors [I].
        dtype: the type to compute in; None: the common type of input and parameters.
        param_dtype: the type of the parameters.
        rngs: the random number generators for the parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers import Scale
        >>> Scale(2, rngs=nnx.Rngs(0))(jnp.array([3.0, 4.0])).tolist()
        [3.0, 4.0]
    """

    def __init__(
        self,
        features: int,
        *,
        scale_init: Initializer = _ONES,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        require_positive(features=features)
        self.features, self.dtype = features, dtype
        self.scale = nnx.Param(scale_init(rngs.params(), (features,), param_dtype))

    def __call__(self, x: Float[Array, "*S I"]) -> Float[Array, "*S I"]:
        """Scale every feature of `x` [..., I]; raises `ValueError` for another last axis."""
        require_shape("x", x, ("...", self.features))
        x, scale = promote(x, self.scale[...], dtype=self.dtype)
        return x * scale
