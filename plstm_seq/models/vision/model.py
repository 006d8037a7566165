"""The vision model: images or grids of symbols in, logits an image or a cell out."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from plstm_seq.layers import Norm
from plstm_seq.layers.activations import soft_cap
from plstm_seq.layers.checks import ids_below, require_positive
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.precision import accumulation_dtype, promote
from plstm_seq.models.vision.blocks import make_grid_block
from plstm_seq.models.vision.config import Pooling, VisionModelConfig
from plstm_seq.models.vision.embedding import PatchEmbedding, PositionEmbedding, check_symbols

_DEFAULT = VisionModelConfig()


class VisionModel(Configured[VisionModelConfig]):
    """Patches, position embedding, blocks, norm, pooling and head, over grids of any size.

    Args:
        config: see `VisionModelConfig`.
        output_size: the number of labels; None with the pooling "features" alone.
        channels: of the images.
        vocab_size: the number of symbols, where the inputs are symbols and no images.
        dtype: the type to compute in; None: that of the parameters. Gates and logits are in float32
            at least.
        param_dtype: the type of the parameters.
        rngs: for the parameters.

    Raises:
        ValueError: sizes do not fit each other.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.models import VisionModel, VisionModelConfig
        >>> config = VisionModelConfig(width=24, num_blocks=2)
        >>> model = VisionModel(config, output_size=10, rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((2, 32, 48, 3), jnp.uint8)).shape
        (2, 10)
    """

    def __init__(
        self,
        config: VisionModelConfig = _DEFAULT,
        *,
        output_size: int | None,
        channels: int = 3,
        vocab_size: int | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if (output_size is None) != (config.pooling == "features"):
            expected = "None" if output_size is not None else "the number of labels"
            raise ValueError(
                f"output_size: got {output_size}, expected {expected} with pooling = "
                f"{config.pooling!r}"
            )
        types: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.kept, self.dtype, self.output_size = Kept(config), dtype, output_size
        self.vocab_size, width = vocab_size, config.width
        if vocab_size is None:
            self.embedding = PatchEmbedding(
                channels, width, config.patch_size, config.pixels, config.embed_init, **types
            )
        else:
            require_positive(vocab_size=vocab_size)
            self.embedding = nnx.Embed(vocab_size, width, embedding_init=config.embed_init, **types)
        self.position = (
            None
            if config.position == "none"
            else PositionEmbedding(config.position_grid, width, config.position_init, **types)
        )
        if config.pooling == "cls":
            token = config.position_init(rngs.params(), (1, width), param_dtype)
            self.cls_token = nnx.Param(token)
        self.blocks = nnx.List(
            [
                make_grid_block(width, config.block, config.mixer, mode, **types)
                for mode in config.modes
            ]
        )
        self.norm = None if config.norm is None else Norm(width, config.norm, **types)
        if output_size is not None:
            require_positive(output_size=output_size)
            features = width * (4 if config.pooling == "corners" else 1)
            shape = (features, output_size)
            self.head = nnx.Param(config.head_init(rngs.params(), shape, param_dtype))
            self.head_bias = nnx.Param(jnp.zeros((output_size,), param_dtype))

    @property
    def uses_dropout(self) -> bool:
        """Whether training has to hand over a `dropout_key`."""
        return any(block.uses_dropout for block in self.blocks)

    def __call__(
        self, inputs: Shaped[Array, "B X Y *C"], *, dropout_key: Array | None = None
    ) -> Float[Array, "B *S V"]:
        """Read images or grids.

        Args:
            inputs: images, uint8 or floating-point, [B, X, Y, C], sides multiples of the patch
                size; with `vocab_size` integers [B, X, Y]. X are rows, downwards.
            dropout_key: typed key for what to drop in training; None, and a model without dropout:
                all is kept.

        Returns:
            The logits [B, output_size]; with the pooling "cells" [B, X', Y', output_size], a cell
            being a patch or a symbol; with "features" the features [B, X', Y', width].

        Raises:
            TypeError: the inputs are of another type.
            ValueError: their shape does not fit.
        """
        if self.vocab_size is not None:
            check_symbols(inputs)
            inputs = ids_below(self.vocab_size, "symbols", inputs)
        x = self.embedding(inputs)
        if self.position is not None:
            x = self.position(x)
        if self.config.pooling == "cls":
            cells = jax.lax.collapse(x, 1, x.ndim - 1)
            token = self.cls_token[...].astype(x.dtype)
            token = jnp.broadcast_to(token, (x.shape[0], *token.shape))
            x = jnp.concatenate([token, cells], axis=1)
        keys: Sequence[Array | None] = (None,) * len(self.blocks)
        if dropout_key is not None and self.uses_dropout:
            keys = list(jax.random.split(dropout_key, len(self.blocks)))
        for block, key in zip(self.blocks, keys, strict=True):
            x = block(x, dropout_key=key)
        if self.norm is not None:
            x = self.norm(x)
        x = pooled(x, self.config.pooling)
        return x if self.output_size is None else self._logits(x)

    def _logits(self, x: Array) -> Array:
        x, kernel = promote(x, self.head[...], dtype=self.dtype)
        wide = accumulation_dtype(x.dtype)
        logits = jnp.matmul(x, kernel, preferred_element_type=wide)
        logits = logits + self.head_bias[...].astype(wide)
        cap = self.config.logit_soft_cap
        return logits if cap is None else soft_cap(logits, cap)


def pooled(x: Float[Array, "B *S D"], pooling: Pooling) -> Float[Array, "B *P F"]:
    """Return what the head reads; see `VisionModelConfig.pooling`.

    Args:
        x: the features of the cells, [B, X, Y, D]; for "cls" [B, 1 + X * Y, D].
        pooling: which.
    """
    match pooling:
        case "corners":
            corners = x[:, 0, 0], x[:, -1, 0], x[:, 0, -1], x[:, -1, -1]
            return jnp.concatenate(corners, axis=-1)
        case "mean":
            return jnp.mean(x, axis=(1, 2))
        case "sum":
            return jnp.sum(x, axis=(1, 2))
        case "center":
            return x[:, x.shape[1] // 2, x.shape[2] // 2]
        case "cls":
            return x[:, 0]
        case "features" | "cells":
            return x
