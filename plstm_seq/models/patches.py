"""Embeddings of the patches of images and of the positions of cells, and a check of symbols."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int, UInt8

from plstm_seq.layers.arguments import (
    promote,
    require,
    require_dtype,
    require_positive,
    require_shape,
)
from plstm_seq.layers.initializers import Initializer

Pixels = Literal["unit", "imagenet"]

# The mean and standard deviation of red, green and blue over ImageNet's images divided by 255.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PatchEmbedding(nnx.Module):
    """A linear map of every patch of an image: a convolution whose stride is its size.

    Args:
        channels: The number of channels of an image (C).
        width: The number of features of a patch (D).
        patch_size: The side of a patch in pixels (P).
        pixels: The normalisation of pixels; see `VisionModelConfig`.
        embed_init: The initialiser of the kernel [P * P * C, D].
        dtype: The type to compute in. None means the common type of the image and the parameters,
            where uint8 images count as float32.
        param_dtype: The type of the parameters.
        rngs: The random number generators for the parameters.

    Raises:
        ValueError: If a size is below 1, or the normalisation needs another number of channels.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        patch_size: int,
        pixels: Pixels,
        embed_init: Initializer,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        require_positive(channels=channels, width=width, patch_size=patch_size)
        fits = pixels != "imagenet" or channels == len(IMAGENET_MEAN)
        require(fits, "channels", channels, "3 with pixels = 'imagenet'")
        self.channels, self.patch_size, self.pixels = channels, patch_size, pixels
        self.dtype, self.param_dtype = dtype, param_dtype
        shape = (patch_size * patch_size * channels, width)
        self.kernel = nnx.Param(embed_init(rngs.params(), shape, param_dtype))
        self.bias = nnx.Param(jnp.zeros((width,), param_dtype))

    def __call__(
        self, images: Float[Array, "B X Y C"] | UInt8[Array, "B X Y C"]
    ) -> Float[Array, "B X/P Y/P D"]:
        """Embed every patch of a batch of images.

        Args:
            images: The images [B, X, Y, C], where X counts rows and Y columns. They are uint8, or
                floating-point numbers that are normalised already.

        Returns:
            The embeddings [B, X / P, Y / P, D].

        Raises:
            TypeError: If the images have another type.
            ValueError: If the shape of the images does not fit.
        """
        require_shape("images", images, ("B", "X", "Y", self.channels))
        size = self.patch_size
        batch, *sides, _ = images.shape
        if any(side % size for side in sides):
            raise ValueError(
                f"images: got {sides[0]} x {sides[1]} pixels, expected multiples of patch_size = "
                f"{size}"
            )
        X, Y = (side // size for side in sides)
        patches = images.reshape(batch, X, size, Y, size, self.channels).swapaxes(2, 3)
        patches = jax.lax.collapse(self._prepared(patches), 3)
        patches, kernel, bias = promote(patches, self.kernel[...], self.bias[...], dtype=self.dtype)
        return patches @ kernel + bias

    def _prepared(self, pixels: Array) -> Array:
        """Convert pixels [..., C] to normalised floating-point numbers."""
        if jnp.issubdtype(pixels.dtype, jnp.floating):
            return pixels
        if pixels.dtype != jnp.uint8:
            raise TypeError(f"images: got {pixels.dtype}, expected uint8 or a floating-point type")
        pixels = pixels.astype(jnp.promote_types(self.param_dtype, jnp.float32))
        if self.pixels == "unit":
            return pixels / 255
        mean, std = (255 * np.asarray(x, pixels.dtype) for x in (IMAGENET_MEAN, IMAGENET_STD))
        return (pixels - mean) / std


class PositionEmbedding(nnx.Module):
    """A learned vector for each cell of a grid, which is resized for grids of other sizes.

    Args:
        grid: The numbers of rows and columns (X, Y) of the grid.
        width: The number of features of a patch (D).
        init: The initialiser of the embedding [X, Y, D].
        dtype: The type to compute in. None means the type of the input and the parameters.
        param_dtype: The type of the parameters.
        rngs: The random number generators for the parameters.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        width: int,
        init: Initializer,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.dtype = dtype
        self.embedding = nnx.Param(init(rngs.params(), (*grid, width), param_dtype))

    def __call__(self, x: Float[Array, "B X Y D"]) -> Float[Array, "B X Y D"]:
        """Add the embedding to the cells [B, X, Y, D] of grids of any size."""
        embedding = self.embedding[...]
        if x.shape[1:] != embedding.shape:
            embedding = jax.image.resize(embedding, x.shape[1:], "bicubic")
        x, embedding = promote(x, embedding, dtype=self.dtype)
        return x + embedding


def check_symbols(symbols: Int[Array, "B X Y"]) -> None:
    """Raise `TypeError` or `ValueError` unless the symbols are integers [B, X, Y]."""
    require_dtype("symbols", symbols, jnp.integer, "integers")
    require_shape("symbols", symbols, ("B", "X", "Y"))
