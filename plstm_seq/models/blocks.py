"""Residual blocks around a mixer: up-projection before it, or a feed-forward part after it.

A mixer may be over sequences, grids or graphs: a block passes all but its first argument on to it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers import Norm, NormConfig, Scale
from plstm_seq.layers.arguments import require, require_above_zero, require_choice, require_positive
from plstm_seq.layers.by_token import ByToken, apply, at_positions
from plstm_seq.layers.configured import Configured, Hyperparameter, Kept, add_hyperparameters
from plstm_seq.layers.initializers import Initializer, Ones, Small, Zeros
from plstm_seq.layers.mixers import MixerConfig, make_mixer

MixerState = Any
"""The state of a mixer within a sequence: a tree of arrays whose first axis is the batch."""

Mix = Callable[[Any], tuple[Array, MixerState]]
"""Maps the mixer's input to its output and its state; the state is None if it has none."""

GatingFunction = Literal["silu", "gelu"]
_GATING: dict[str, Callable[[Array], Array]] = {"silu": jax.nn.silu, "gelu": jax.nn.gelu}


@dataclass(frozen=True, kw_only=True)
class BlockOptions:
    """The options of every block.

    Attributes:
        projection_scaling: inner features per feature of the block, before rounding.
        projection_round: inner features are rounded up to a multiple of this.
        bias: whether the projections have biases.
        norm: the norm before the block, or before each of its parts; None: no norm.
        dropout: the probability with which training zeroes a feature of what the block, or each
            part, adds to its input; None: no dropout, and no random numbers.
        drop_path: the probability with which training leaves out, for a whole sequence or image,
            what the block, or a part, adds to its input; None: never.
        upproj_weight_init: the initialiser of the up-projection's kernel.
        upproj_bias_init: the initialiser of its bias.
        downproj_weight_init: the initialiser of the down-projection's kernel.
        downproj_bias_init: the initialiser of its bias.
    """

    leaf_fields: ClassVar[tuple[str, ...]] = ("dropout", "drop_path")

    projection_scaling: float
    projection_round: int = 64
    gated: bool
    gating_function: GatingFunction
    bias: bool = True
    skip: bool = True
    norm: NormConfig | None = field(default_factory=NormConfig)
    dropout: float | None = None
    drop_path: float | None = None
    upproj_weight_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    upproj_bias_init: Initializer = field(default_factory=Zeros)
    downproj_weight_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    downproj_bias_init: Initializer = field(default_factory=Zeros)

    def __post_init__(self):
        require_positive(projection_round=self.projection_round)
        check_dropout(self.dropout)
        check_dropout(self.drop_path, "drop_path")
        require_above_zero(projection_scaling=self.projection_scaling)
        require_choice("gating_function", self.gating_function, list(_GATING))


@dataclass(frozen=True, kw_only=True)
class PreUpConfig(BlockOptions):
    """The options of a `PreUpBlock`; the defaults are the published ones.

    The options that both blocks share are documented at `BlockOptions`.

    Attributes:
        gated: whether a second up-projection gates the mixer's output.
        gating_function: the function of that gate.
        skip: whether the block adds to its input.
        kind: the name of this kind of block in a config.
    """

    projection_scaling: float = 2.0
    gated: bool = True
    gating_function: GatingFunction = "silu"
    kind: Literal["pre_up"] = "pre_up"


@dataclass(frozen=True, kw_only=True)
class PostUpConfig(BlockOptions):
    """The options of a `PostUpBlock`; the defaults are the published ones.

    The options that both blocks share are documented at `BlockOptions`.

    Attributes:
        gated: whether a second up-projection, through the gating function, gates the first one. If
            not, the gating function acts on the only up-projection.
        gating_function: see `gated`.
        skip: whether each of the two parts adds to its input.
        use_scale: whether each part's output is multiplied by a learned factor per feature.
        scale_init: the initialiser of these factors [D].
        kind: the name of this kind of block in a config.
    """

    projection_scaling: float = 4.0
    gated: bool = False
    gating_function: GatingFunction = "gelu"
    use_scale: bool = False
    scale_init: Initializer = field(default_factory=Ones)
    kind: Literal["post_up"] = "post_up"


BlockConfig = PreUpConfig | PostUpConfig
C = TypeVar("C", PreUpConfig, PostUpConfig)


def inner_dim(config: BlockConfig, width: int) -> int:
    """Return the number of features in a block: `projection_scaling * width`, rounded up."""
    steps = (config.projection_scaling * width - 1) // config.projection_round + 1
    return int(steps) * config.projection_round


class Block(Configured[C]):
    """The base of both blocks: a mixer inside maps that act on each position by itself.

    Args:
        width: the number of features of the block, D.
        config: see `PreUpConfig` and `PostUpConfig`.
        mixer: a config among `MixerConfig`; or a function that builds another mixer from a number
            of features, `dtype`, `param_dtype` and `rngs`. It maps these features to as many.
        dtype: the type to compute in; None: the common type of input and parameters.
        param_dtype: the type of the parameters.
        rngs: the random number generators for the parameters.
    """

    mixer: Any
    dropout: Hyperparameter | None
    drop_path: Hyperparameter | None

    def __init__(
        self,
        width: int,
        config: C,
        mixer: MixerConfig | Callable[..., Any],
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        types: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.kept = Kept(config)
        add_hyperparameters(self, config, param_dtype)
        self.norm = None if config.norm is None else Norm(width, config.norm, **types)
        self._make(width, inner_dim(config, width), mixer, **types)

    def _make(self, width: int, inner: int, mixer: Any, **types: Any) -> None:
        """Make the mixer and the projections, given the number of inner features."""
        raise NotImplementedError

    def _around(
        self, x: Array | ByToken, mix: Mix, dropout_key: Array | None = None
    ) -> tuple[Array, MixerState]:
        """Run the block with the function `mix` in the place of its mixer."""
        raise NotImplementedError

    def _make_mixer(self, features: int, mixer: Any, **types: Any) -> Any:
        if callable(mixer):
            return mixer(features, **types)
        return make_mixer(features, mixer, output_dim=features, **types)

    def _upproj(self, width: int, inner: int, **types: Any) -> nnx.Linear:
        config = self.config
        inits = {"kernel_init": config.upproj_weight_init, "bias_init": config.upproj_bias_init}
        features = inner * (2 if config.gated else 1)
        return nnx.Linear(width, features, use_bias=config.bias, **inits, **types)

    def _downproj(self, inner: int, width: int, **types: Any) -> nnx.Linear:
        config = self.config
        inits = {"kernel_init": config.downproj_weight_init, "bias_init": config.downproj_bias_init}
        return nnx.Linear(inner, width, use_bias=config.bias, **inits, **types)

    def _act(self, x: Array) -> Array:
        return _GATING[self.config.gating_function](x)

    def _drop(self, h: Array, key: Array | None, part: int = 0) -> Array:
        if key is None:
            return h
        if self.dropout is not None:
            h = dropout(h, self.dropout.constant(), jax.random.fold_in(key, part))
        if self.drop_path is not None:
            h = drop_path(h, self.drop_path.constant(), jax.random.fold_in(key, 2 + part))
        return h

    @property
    def uses_dropout(self) -> bool:
        """Whether a `dropout_key` has any effect."""
        return self.dropout is not None or self.drop_path is not None

    @property
    def bounded_state(self) -> bool:
        """Whether a mixer over sequences has a state whose size does not grow with the length."""
        return self.mixer.bounded_state

    @property
    def needs_tokens(self) -> bool:
        """Whether the mixer has to know its tokens: inputs are then `ByToken`, also in `step`."""
        return getattr(self.mixer, "needs_tokens", False)

    def init_state(self, batch_size: int) -> MixerState:
        """Return the state of a mixer over sequences before the first step."""
        return self.mixer.init_state(batch_size)

    def __call__(
        self,
        x: Float[Array, "*S D"] | ByToken,
        *inputs: Any,
        dropout_key: Array | None = None,
        return_state: bool = False,
        **options: Any,
    ) -> Any:
        """Run the block.

        Args:
            x: [..., D].
            inputs: what the mixer reads besides `x`, such as a graph and the features of its edges.
            dropout_key: typed key that draws what training drops; None: nothing is dropped.
            return_state: whether to return the state of a mixer over sequences too.
            options: options of the mixer's call, such as `initial_state` over sequences.

        Returns:
            The output [..., D]; with `return_state` the state too.
        """
        if return_state:
            options["return_state"] = True

        def mix(h: Any) -> tuple[Array, MixerState]:
            mixed = self.mixer(h, *inputs, **options)
            return mixed if return_state else (mixed, None)

        y, state = self._around(x, mix, dropout_key)
        return (y, state) if return_state else y

    def step(
        self, x: Float[Array, "B D"] | ByToken, state: MixerState
    ) -> tuple[Float[Array, "B D"], MixerState]:
        """Take one step; the arguments are those of a mixer over sequences."""
        known = self.needs_tokens
        return self._around(x, lambda h: self.mixer.step(h if known else at_positions(h), state))


class PreUpBlock(Block[PreUpConfig]):
    """Norm, up-projection, mixer, gate, down-projection: `x + down(mixer(u) * act(g))`.

    `u` and `g` are the two halves of the up-projection of `norm(x)`; the mixer acts on the inner
    features. The arguments are those of `Block`; `make_block` has an example.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.mixers import RNNConfig
        >>> from plstm_seq.models import PreUpBlock, PreUpConfig
        >>> config = PreUpConfig(projection_round=8)
        >>> block = PreUpBlock(8, config, RNNConfig(), rngs=nnx.Rngs(0))
        >>> jax.jit(block)(jnp.ones((3, 5, 8))).shape, block.mixer.input_dim
        ((3, 5, 8), 16)
    """

    def _make(self, width: int, inner: int, mixer: Any, **types: Any) -> None:
        self.upproj = self._upproj(width, inner, **types)
        self.mixer = self._make_mixer(inner, mixer, **types)
        self.downproj = self._downproj(inner, width, **types)

    def _around(
        self, x: Array | ByToken, mix: Mix, dropout_key: Array | None = None
    ) -> tuple[Array, MixerState]:
        h = apply(lambda x: self.upproj(x if self.norm is None else self.norm(x)), x)
        if self.config.gated:
            gate = apply(lambda h: self._act(jnp.split(h, 2, axis=-1)[1]), h)
            h, state = mix(apply(lambda h: jnp.split(h, 2, axis=-1)[0], h))
            h = h * at_positions(gate)
        else:
            h, state = mix(h)
        h = self._drop(self.downproj(h), dropout_key)
        return (at_positions(x) + h if self.config.skip else h), state


class PostUpBlock(Block[PostUpConfig]):
    """Mixer, then a feed-forward part: `h = x + mixer(norm(x))`, `h + feed_forward(norm2(h))`.

    The feed-forward part is `down(act(up(.)))`; if gated, `down(u * act(g))` with the halves `u`
    and `g` of the up-projection. The arguments are those of `Block`; `make_block` has an example.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.mixers import RNNConfig
        >>> from plstm_seq.models import PostUpBlock, PostUpConfig
        >>> config = PostUpConfig(projection_round=8)
        >>> block = PostUpBlock(8, config, RNNConfig(), rngs=nnx.Rngs(0))
        >>> jax.jit(block)(jnp.ones((3, 5, 8))).shape, block.mixer.input_dim
        ((3, 5, 8), 8)
    """

    def _make(self, width: int, inner: int, mixer: Any, **types: Any) -> None:
        config = self.config
        self.mixer = self._make_mixer(width, mixer, **types)
        self.norm2 = None if config.norm is None else Norm(width, config.norm, **types)
        self.upproj = self._upproj(width, inner, **types)
        self.downproj = self._downproj(inner, width, **types)
        scale = partial(Scale, width, scale_init=config.scale_init, **types)
        self.scale1 = scale() if config.use_scale else None
        self.scale2 = scale() if config.use_scale else None

    def _around(
        self, x: Array | ByToken, mix: Mix, dropout_key: Array | None = None
    ) -> tuple[Array, MixerState]:
        h, state = mix(x if self.norm is None else apply(self.norm, x))
        x = self._join(at_positions(x), h, self.scale1, dropout_key, 0)
        h = self._feed_forward(x if self.norm2 is None else self.norm2(x))
        return self._join(x, h, self.scale2, dropout_key, 1), state

    def _feed_forward(self, x: Array) -> Array:
        h = self.upproj(x)
        if self.config.gated:
            h, gate = jnp.split(h, 2, axis=-1)
            return self.downproj(h * self._act(gate))
        return self.downproj(self._act(h))

    def _join(
        self, x: Array, h: Array, scale: Scale | None, dropout_key: Array | None, part: int
    ) -> Array:
        if scale is not None:
            h = scale(h)
        h = self._drop(h, dropout_key, part)
        return x + h if self.config.skip else h


def make_block(
    width: int, config: BlockConfig, mixer: MixerConfig | Callable[..., Any], **types: Any
) -> PreUpBlock | PostUpBlock:
    """Build the block that a config describes; the arguments are those of `Block`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.mixers import AttentionConfig
        >>> from plstm_seq.models import PostUpConfig, PreUpConfig, make_block
        >>> for config in (PreUpConfig(), PostUpConfig()):
        ...     block = make_block(16, config, AttentionConfig(num_heads=2), rngs=nnx.Rngs(0))
        ...     block(jnp.ones((3, 10, 16))).shape
        (3, 10, 16)
        (3, 10, 16)
    """
    if isinstance(config, PreUpConfig):
        return PreUpBlock(width, config, mixer, **types)
    return PostUpBlock(width, config, mixer, **types)


def dropout(x: Float[Array, "*S"], rate: Float[Array, ""], key: Array) -> Float[Array, "*S"]:
    """Zero entries at random and scale the others by `1 / (1 - rate)`.

    Source: Srivastava et al., Dropout, JMLR 15 (2014). With rate 0 the result is `x` itself.

    Args:
        x: the values, of any shape.
        rate: the probability of a zero, in [0, 1); a number or a traced array of shape [].
        key: typed key.

    Returns:
        The result, in the shape and type of `x`. `key`, shape and rate decide which entries are 0.
    """
    # Drawn in float32 for all types, so that float64 computes with the same zeros.
    kept = jax.random.uniform(key, x.shape, jnp.float32) >= jnp.asarray(rate, jnp.float32)
    scale = jnp.asarray(1 / (1 - rate), x.dtype)
    return jnp.where(kept, x * scale, jnp.zeros_like(x))


def drop_path(x: Float[Array, "B *S"], rate: Float[Array, ""], key: Array) -> Float[Array, "B *S"]:
    """Zero whole entries of the first axis at random and scale the others by `1 / (1 - rate)`.

    Source: Huang et al., Deep networks with stochastic depth, arXiv 1603.09382. The arguments and
    the result are those of `dropout`.
    """
    return x * dropout(jnp.ones((x.shape[0], *[1] * (x.ndim - 1)), x.dtype), rate, key)


def check_dropout(rate: float | None, name: str = "dropout") -> None:
    """Raise `ValueError` unless the rate is None (no dropout) or in [0, 1)."""
    holds = rate is None or 0 <= rate < 1
    require(holds, name, rate, "None or a probability in [0, 1)")
