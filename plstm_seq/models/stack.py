"""The base of all models: blocks one after another, between an embedding and a head."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from plstm_seq.layers import NormConfig
from plstm_seq.layers.activations import soft_cap
from plstm_seq.layers.arguments import (
    accumulation_dtype,
    given,
    promote,
    require,
    require_above_zero,
    require_count,
    require_positive,
)
from plstm_seq.layers.configured import Configured
from plstm_seq.layers.initializers import Initializer, Small
from plstm_seq.layers.plstm import Mode
from plstm_seq.models.blocks import BlockConfig, PostUpConfig


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """The options of every model.

    Attributes:
        width: the number of features between the blocks, D.
        num_blocks: the number of blocks.
        block: the kind of block and its options.
        logit_soft_cap: logits are capped smoothly at plus and minus this; None: no cap.
        head_init: the initialiser of the head's kernel.
    """

    width: int = 64
    num_blocks: int = 1
    block: BlockConfig = field(default_factory=PostUpConfig)
    logit_soft_cap: float | None = None
    head_init: Initializer = field(default_factory=lambda: Small(axis=-2))

    def __post_init__(self):
        require_positive(width=self.width)
        require_count(num_blocks=self.num_blocks)
        require_above_zero(**given(logit_soft_cap=self.logit_soft_cap))


@dataclass(frozen=True, kw_only=True)
class ModesConfig(StackConfig):
    """The options of a model over grids or graphs, whose pLSTM layers have modes.

    Attributes:
        mode: the modes of the pLSTM layers, one letter per block, repeated over the blocks: "PD",
            "P", "D", ... Other mixers have no mode, so that it has no effect on them.
        norm: the norm before the pooling; None: no norm.
        embed_init: the initialiser of the embedding's kernel [features, D] or table [symbols, D].
    """

    mode: str = "PD"
    norm: NormConfig | None = field(default_factory=NormConfig)
    embed_init: Initializer = field(default_factory=lambda: Small(axis=-2))

    def __post_init__(self):
        super().__post_init__()
        known = bool(self.mode) and set(self.mode) <= set(get_args(Mode))
        require(known, "mode", self.mode, f"letters among {', '.join(get_args(Mode))}")

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The mode of every block."""
        named: dict[str, Mode] = {mode: mode for mode in get_args(Mode)}
        return tuple(named[self.mode[i % len(self.mode)]] for i in range(self.num_blocks))


C = TypeVar("C", bound=StackConfig)


class Stack(Configured[C]):
    """Blocks and a head; a subclass makes these and the embedding, and says what the head reads."""

    blocks: nnx.List
    dtype: DTypeLike | None

    @property
    def uses_dropout(self) -> bool:
        """Whether training has to pass a `dropout_key`."""
        return any(block.uses_dropout for block in self.blocks)

    def record(self, *inputs: Any) -> tuple[Any, dict[int, dict[str, Array]]]:
        """Run the model, and keep what its mixers compute on the way.

        A mixer takes part if it has a method `record`, which takes the arguments of a call and
        returns arrays by name, as those of `PLSTM1DLayer` and `PLSTM2DLayer` do.

        Args:
            inputs: the arguments of a call.

        Returns:
            The result of a call, and the recorded arrays: by the number of each block whose mixer
            takes part, then by name; `outputs` is the output of the mixer. The model is not
            changed.

        Example:
            >>> import jax.numpy as jnp
            >>> from flax import nnx
            >>> from plstm_seq.models import SequenceModel
            >>> model = SequenceModel(3, rngs=nnx.Rngs(0))
            >>> logits, recorded = model.record(jnp.zeros((2, 5), int))
            >>> logits.shape, recorded[0]["transition"].shape
            ((2, 5, 3), (2, 5, 4, 4, 4))
        """
        recorded: dict[int, dict[str, Array]] = {}
        model = nnx.clone(self)
        for number, block in enumerate(model.blocks):
            if hasattr(block.mixer, "record"):
                block.mixer = _Recorded(block.mixer, partial(recorded.__setitem__, number))
        run: Any = model
        return run(*inputs), recorded

    def _blocks_and_keys(self, dropout_key: Array | None) -> Iterator[tuple[Any, Array | None]]:
        """Return each block and its own key for what to drop, None where nothing is dropped."""
        keys: Any = [None] * len(self.blocks)
        if dropout_key is not None and self.uses_dropout:
            keys = jax.random.split(dropout_key, len(self.blocks))
        return zip(self.blocks, keys, strict=True)

    def _make_head(
        self, features: int, output_size: int, param_dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        kernel = self.config.head_init(rngs.params(), (features, output_size), param_dtype)
        self.head = nnx.Param(kernel)
        self.head_bias = nnx.Param(jnp.zeros((output_size,), param_dtype))

    def _logits(self, x: Array, kernel: nnx.Param | Array, bias: nnx.Param | None = None) -> Array:
        """Map what the head reads [..., D] to the logits [..., V], in float32 at least."""
        x, kernel = promote(x, kernel[...], dtype=self.dtype)
        wide = accumulation_dtype(x.dtype)
        logits = jnp.matmul(x, kernel, preferred_element_type=wide)
        if bias is not None:
            logits = logits + bias[...].astype(wide)
        cap = self.config.logit_soft_cap
        return logits if cap is None else soft_cap(logits, cap)


class _Recorded(nnx.Module):
    """A mixer that reports what it computes on the way."""

    def __init__(self, mixer: Any, tell: Callable[[dict[str, Array]], None]):
        self.mixer, self.tell = mixer, tell
        self.needs_tokens = getattr(mixer, "needs_tokens", False)

    def __call__(self, x: Any, *inputs: Any, return_state: bool = False, **options: Any) -> Any:
        if return_state:
            options["return_state"] = True
        result = self.mixer(x, *inputs, **options)
        outputs = result[0] if return_state else result
        self.tell(self.mixer.record(x, *inputs) | {"outputs": outputs})
        return result
