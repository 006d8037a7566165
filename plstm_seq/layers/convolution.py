"""Short depthwise convolutions: a causal one over a sequence or in steps, and one over a grid."""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.arguments import promote, require_positive, require_shape
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.ops.products import repeat


@dataclass(frozen=True)
class ConvolutionConfig:
    """The options of a `CausalConvolution`.

    Attributes:
        kernel_size: K, the number of steps that an output depends on, its own step included.
        bias: whether a bias is added.

    Example:
        >>> from flax import nnx
        >>> from plstm_seq.layers import CausalConvolution, ConvolutionConfig
        >>> CausalConvolution(8, ConvolutionConfig(kernel_size=3), rngs=nnx.Rngs(0)).history_length
        2
    """

    kernel_size: int = 4
    bias: bool = True

    def __post_init__(self):
        require_positive(kernel_size=self.kernel_size)


@dataclass(frozen=True)
class GridConvolutionConfig:
    """The options of a `GridConvolution`.

    Attributes:
        kernel_size: the numbers of cells in X and in Y that an output depends on, its own cell
            included.
        causal: whether an output depends on no cell after its own, in X and in Y. The published
            code always computes this, whatever its option says. Otherwise the output's own cell
            is the middle one; if the size is even, the later one of the two in the middle.
        bias: whether a bias is added.

    Example:
        A kernel of one row and three columns.

        >>> from flax import nnx
        >>> from plstm_seq.layers.grid import GridConvolution, GridConvolutionConfig
        >>> config = GridConvolutionConfig(kernel_size=(1, 3))
        >>> GridConvolution(8, config, rngs=nnx.Rngs(0)).kernel.shape
        (1, 3, 1, 8)
    """

    kernel_size: tuple[int, int] = (3, 3)
    causal: bool = False
    bias: bool = True

    def __post_init__(self):
        x, y = self.kernel_size
        require_positive(**{"kernel_size[0]": x, "kernel_size[1]": y})


C = TypeVar("C", ConvolutionConfig, GridConvolutionConfig)


class _Depthwise(Configured[C]):
    """A kernel [*kernel_size, 1, I] and a bias [I] that act on each of I features by itself."""

    options: ClassVar[type]

    def __init__(
        self,
        features: int,
        config: C | None = None,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        require_positive(features=features)
        chosen: Any = self.options() if config is None else config
        self.features, self.kept, self.dtype = features, Kept(chosen), dtype
        sizes = chosen.kernel_size
        shape = (*((sizes,) if isinstance(sizes, int) else sizes), 1, features)
        kernel_init = jax.nn.initializers.lecun_normal(in_axis=tuple(range(len(shape) - 1)))
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, param_dtype))
        if chosen.bias:
            self.bias = nnx.Param(jnp.zeros((features,), param_dtype))


class CausalConvolution(_Depthwise[ConvolutionConfig]):
    """`y_t = bias + sum_k kernel_k * x_{t - K + 1 + k}`, for each feature by itself.

    It is computed as a sum of K shifted products. A grouped convolution of the backend is slow
    where a group has one feature.

    Args:
        features: the number of features, I.
        config: see `ConvolutionConfig`; None: its defaults.
        dtype: the type to compute in; None: the common type of input and parameters.
        param_dtype: the type of the parameters.
        rngs: the random number generators; the kernel [K, 1, I] starts as in flax (LeCun normal).

    Example:
        A sequence as a whole gives the same result as its two pieces.

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

    options = ConvolutionConfig

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


class GridConvolution(_Depthwise[GridConvolutionConfig]):
    """`y = bias + sum over cells nearby of kernel * x`, for each feature by itself.

    Cells outside of the grid are zero. It is a sum of shifted products, as in `CausalConvolution`.

    Args:
        features: the number of features, I.
        config: see `GridConvolutionConfig`; None: its defaults.
        dtype: the type to compute in; None: the common type of input and parameters.
        param_dtype: the type of the parameters.
        rngs: the random number generators; the kernel [KX, KY, 1, I] starts as in flax (LeCun
            normal).

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.grid import GridConvolution
        >>> convolution = GridConvolution(2, rngs=nnx.Rngs(0))
        >>> convolution(jnp.ones((3, 4, 5, 2))).shape
        (3, 4, 5, 2)
    """

    options = GridConvolutionConfig

    def __call__(self, x: Float[Array, "B X Y I"]) -> Float[Array, "B X Y I"]:
        """Convolve a grid [B, X, Y, I]; raises `ValueError` for another shape."""
        require_shape("x", x, ("B", "X", "Y", self.features))
        _, X, Y, _ = x.shape
        x, kernel = promote(x, self.kernel[...], dtype=self.dtype)
        sizes = self.config.kernel_size
        before = [size - 1 if self.config.causal else size // 2 for size in sizes]
        widths = [(past, size - 1 - past) for past, size in zip(before, sizes, strict=True)]
        padded = jnp.pad(x, [(0, 0), *widths, (0, 0)])
        shifted = (
            kernel[i, j] * padded[:, i : i + X, j : j + Y]
            for i in range(sizes[0])
            for j in range(sizes[1])
        )
        y = functools.reduce(jnp.add, shifted)
        return y + self.bias[...].astype(y.dtype) if self.config.bias else y
