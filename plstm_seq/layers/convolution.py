"""A short depthwise convolution that looks backwards only, and can be stepped."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.checks import require_positive, require_shape
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.precision import promote
from plstm_seq.ops.products import repeat

_kernel_init = jax.nn.initializers.lecun_normal(in_axis=(0, 1))


@dataclass(frozen=True)
class ConvolutionConfig:
    """Attributes: kernel_size: K, steps seen, the current one included; bias: whether added."""

    kernel_size: int = 4
    bias: bool = True

    def __post_init__(self):
        require_positive(kernel_size=self.kernel_size)


class CausalConvolution(Configured[ConvolutionConfig]):
    """`y_t = bias + sum_k kernel_k * x_{t - K + 1 + k}`, each feature for itself.

    A sum of K shifted products rather than a grouped convolution of the backend, which is slow
    where a group has one feature.

    Args:
        features: the number of features, I.
        config: see `ConvolutionConfig`.
        dtype: the type to compute in; None: that of input and parameters.
        param_dtype: the type of the parameters.
        rngs: for the parameters; the kernel [K, 1, I] starts as in flax (LeCun normal).

    Example:
        Whole, or in two pieces.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers import CausalConvolution
        >>> convolution = CausalConvolution(2, rngs=nnx.Rngs(0))
        >>> x = jnp.arange(12.0).reshape(1, 6, 2)
        >>> whole, _ = convolution(x)
        >>> first, history = convolution(x[:, :4])
        >>> second, _ = convolution(x[:, 4:], history)
        >>> bool(jnp.allclose(whole, jnp.concatenate([first, second], axis=1)))
        True
    """

    def __init__(
        self,
        features: int,
        config: ConvolutionConfig = ConvolutionConfig(),
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        require_positive(features=features)
        self.features, self.kept, self.dtype = features, Kept(config), dtype
        shape = (config.kernel_size, 1, features)
        self.kernel = nnx.Param(_kernel_init(rngs.params(), shape, param_dtype))
        if config.bias:
            self.bias = nnx.Param(jnp.zeros((features,), param_dtype))

    @property
    def history_length(self) -> int:
        """K - 1, the number of past inputs that an output needs."""
        return self.config.kernel_size - 1

    def __call__(
        self, x: Float[Array, "B T I"], history: Float[Array, "B K-1 I"] | None = None
    ) -> tuple[Float[Array, "B T I"], Float[Array, "B K-1 I"]]:
        """Convolve a sequence, or its next piece.

        Args:
            x: [B, T, I].
            history: the K - 1 inputs before `x`, [B, K - 1, I]; None: zeros.

        Returns:
            The output [B, T, I], and the last K - 1 inputs [B, K - 1, I], from which the next
            piece goes on.

        Raises:
            ValueError: a shape is wrong.
        """
        require_shape("x", x, ("B", "T", self.features))
        batch, length, _ = x.shape
        past = self.history_length
        if history is None:
            history = jnp.zeros((batch, past, self.features), x.dtype)
        require_shape("history", history, (batch, past, self.features))
        x, history, kernel = promote(x, history, self.kernel[...], dtype=self.dtype)
        padded = jnp.concatenate([history, x], axis=1)
        lead = (batch, length)
        shifted = (repeat(kernel[k, 0], lead) * padded[:, k : k + length] for k in range(past + 1))
        y = functools.reduce(jnp.add, shifted)
        if self.config.bias:
            y = y + repeat(self.bias[...].astype(y.dtype), lead)
        return y, padded[:, length:]
