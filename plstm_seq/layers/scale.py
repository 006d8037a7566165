"""A learned factor for every feature: the passthrough of a layer, the scales of a block."""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.checks import require_positive, require_shape
from plstm_seq.layers.initializers import Initializer, Ones
from plstm_seq.layers.precision import promote

_ONES = Ones()


class Scale(nnx.Module):
    """`scale * x`, one factor a feature.

    Args:
        features: the number of features, I.
        scale_init: of the factors [I].
        dtype: the type to compute in; None: that of input and parameters.
        param_dtype: the type of the parameters.
        rngs: for the parameters.

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
