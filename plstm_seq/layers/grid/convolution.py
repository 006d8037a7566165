"""A short depthwise convolution over a grid."""

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

_kernel_init = jax.nn.initializers.lecun_normal(in_axis=(0, 1, 2))


@dataclass(frozen=True)
class GridConvolutionConfig:
    """The options of a `GridConvolution`.

    Attributes:
        kernel_size: cells seen in X and in Y, the cell itself included.
        causal: whether the cell is the last that is seen, in X and in Y, as in the published code
            whatever its option says; else the middle one (of an even number the later).
        bias: whether one is added.
    """

    kernel_size: tuple[int, int] = (3, 3)
    causal: bool = False
    bias: bool = True

    def __post_init__(self):
        x, y = self.kernel_size
        require_positive(**{"kernel_size[0]": x, "kernel_size[1]": y})


class GridConvolution(Configured[GridConvolutionConfig]):
    """`y = bias + sum over cells nearby of kernel * x`, each feature for itself, zero outside.

    A sum of shifted products, as `CausalConvolution`.

    Args:
        features: the number of features, I.
        config: see `GridConvolutionConfig`.
        dtype: the type to compute in; None: that of input and parameters.
        param_dtype: the type of the parameters.
        rngs: for the parameters; the kernel [KX, KY, 1, I] starts as in flax (LeCun normal).

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.grid import GridConvolution
        >>> convolution = GridConvolution(2, rngs=nnx.Rngs(0))
        >>> convolution(jnp.ones((3, 4, 5, 2))).shape
        (3, 4, 5, 2)
    """

    def __init__(
        self,
        features: int,
        config: GridConvolutionConfig = GridConvolutionConfig(),
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        require_positive(features=features)
        self.features, self.kept, self.dtype = features, Kept(config), dtype
        shape = (*config.kernel_size, 1, features)
        self.kernel = nnx.Param(_kernel_init(rngs.params(), shape, param_dtype))
        if config.bias:
            self.bias = nnx.Param(jnp.zeros((features,), param_dtype))

    def __call__(self, x: Float[Array, "B X Y I"]) -> Float[Array, "B X Y I"]:
        """Convolve [B, X, Y, I]; raises `ValueError` for another shape."""
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
