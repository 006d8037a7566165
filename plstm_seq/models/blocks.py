"""Residual blocks around a mixer: up-projection before it, or a feed-forward part after it."""

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
from plstm_seq.layers.by_token import ByToken, apply, at_positions
from plstm_seq.layers.checks import require_positive
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.dropout import check_dropout, drop_path, dropout
from plstm_seq.layers.hyperparameter import Hyperparameter, add_hyperparameters
from plstm_seq.layers.initializers import Initializer, Ones, Small, Zeros
from plstm_seq.layers.mixers import Mixer, MixerConfig, make_mixer

MixerState = Any
"""What the mixer keeps of a sequence's past; a tree of arrays, the batch axis first."""

GatingFunction = Literal["silu", "gelu"]
_GATING: dict[str, Callable[[Array], Array]] = {"silu": jax.nn.silu, "gelu": jax.nn.gelu}


@dataclass(frozen=True)
class PreUpConfig:
    """The options of a `PreUpBlock`; defaults as published.

    Attributes:
        projection_scaling: inner features per feature of the block, before rounding.
        projection_round: inner features are rounded up to a multiple of this.
        gated: whether a second up-projection gates the mixer's output.
        gating_function: the function of that gate.
        bias: whether the projections have biases.
        skip: whether the block adds to its input.
        norm: the norm in front; None: none.
        dropout: the probability with which training zeroes a feature of what the block adds to
            its input; None: no dropout, and no random numbers.
        drop_path: the probability with which training leaves out, for a whole sequence or image,
            what the block adds to its input; None: never.
        upproj_weight_init: of the up-projection's kernel.
        upproj_bias_init: of its bias.
        downproj_weight_init: of the down-projection's kernel.
        downproj_bias_init: of its bias.
        kind: tells this block from others.
    """

    leaf_fields: ClassVar[tuple[str, ...]] = ("dropout", "drop_path")

    projection_scaling: float = 2.0
    projection_round: int = 64
    gated: bool = True
    gating_function: GatingFunction = "silu"
    bias: bool = True
    skip: bool = True
    norm: NormConfig | None = field(default_factory=NormConfig)
    dropout: float | None = None
    drop_path: float | None = None
    upproj_weight_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    upproj_bias_init: Initializer = field(default_factory=Zeros)
    downproj_weight_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    downproj_bias_init: Initializer = field(default_factory=Zeros)
    kind: Literal["pre_up"] = "pre_up"

    def __post_init__(self):
        _check(self)


@dataclass(frozen=True)
class PostUpConfig:
    """The options of a `PostUpBlock`; defaults as published.

    Attributes:
        projection_scaling: hidden features per feature of the block, before rounding.
        projection_round: hidden features are rounded up to a multiple of this.
        gated: whether a second up-projection, through the gating function, gates the first; else
            the gating function acts on the one there is.
        gating_function: see `gated`.
        bias: whether the projections have biases.
        skip: whether each of the two parts adds to its input.
        use_scale: whether a learned factor a feature multiplies each part's output.
        scale_init: of these factors [D].
        norm: the norm in front of each part; None: none.
        dropout: the probability with which training zeroes a feature of each part's output; None:
            no dropout, and no random numbers.
        drop_path: the probability with which training leaves out, for a whole sequence or image,
            what a part adds to its input; None: never.
        upproj_weight_init: of the up-projection's kernel.
        upproj_bias_init: of its bias.
        downproj_weight_init: of the down-projection's kernel.
        downproj_bias_init: of its bias.
        kind: tells this block from others.
    """

    leaf_fields: ClassVar[tuple[str, ...]] = ("dropout", "drop_path")

    projection_scaling: float = 4.0
    projection_round: int = 64
    gated: bool = False
    gating_function: GatingFunction = "gelu"
    bias: bool = True
    skip: bool = True
    use_scale: bool = False
    scale_init: Initializer = field(default_factory=Ones)
    norm: NormConfig | None = field(default_factory=NormConfig)
    dropout: float | None = None
    drop_path: float | None = None
    upproj_weight_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    upproj_bias_init: Initializer = field(default_factory=Zeros)
    downproj_weight_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    downproj_bias_init: Initializer = field(default_factory=Zeros)
    kind: Literal["post_up"] = "post_up"

    def __post_init__(self):
        _check(self)


BlockConfig = PreUpConfig | PostUpConfig
C = TypeVar("C", PreUpConfig, PostUpConfig)


def _check(config: BlockConfig) -> None:
    require_positive(projection_round=config.projection_round)
    check_dropout(config.dropout)
    check_dropout(config.drop_path, "drop_path")
    if not config.projection_scaling > 0:
        raise ValueError(f"projection_scaling: got {config.projection_scaling}, expected above 0")
    if config.gating_function not in _GATING:
        raise ValueError(
            f"gating_function: got {config.gating_function!r}, expected one of {list(_GATING)}"
        )


def inner_dim(config: BlockConfig, width: int) -> int:
    """The features inside a block: `projection_scaling * width`, rounded up."""
    steps = (config.projection_scaling * width - 1) // config.projection_round + 1
    return int(steps) * config.projection_round


class Frame(Configured[C]):
    """What all blocks share: a mixer inside maps that act on each position alone.

    What a mixer is, and how the block is called, is said by a subclass.
    """

    mixer: Any
    dropout: Hyperparameter | None
    drop_path: Hyperparameter | None

    def _make_mixer(self, features: int, mixer: Any, **types: Any) -> Any:
        """Build what the config `mixer` describes, a map of so many features to as many."""
        raise NotImplementedError

    def _around(
        self,
        x: Array | ByToken,
        mix: Callable[[Array | ByToken], tuple[Array, MixerState]],
        dropout_key: Array | None = None,
    ) -> tuple[Array, MixerState]:
        raise NotImplementedError

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
        """Whether a `dropout_key` makes a difference."""
        return self.dropout is not None or self.drop_path is not None


class PreUp(Frame[PreUpConfig]):
    """Norm, up-projection, mixer, gate, down-projection: `x + down(mixer(u) * act(g))`.

    `u` and `g` are the two halves of the up-projection of `norm(x)`.

    Args:
        width: D, the features of the block.
        config: see `PreUpConfig`.
        mixer: the mixer's config; it maps the inner features to as many.
        dtype: the type to compute in; None: that of input and parameters.
        param_dtype: the type of the parameters.
        rngs: for the parameters.
    """

    def __init__(
        self,
        width: int,
        config: PreUpConfig,
        mixer: Any,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        types = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        inner = inner_dim(config, width)
        self.kept = Kept(config)
        add_hyperparameters(self, config, param_dtype)
        self.norm = None if config.norm is None else Norm(width, config.norm, **types)
        self.upproj = _upproj(width, inner * (2 if config.gated else 1), config, types)
        self.mixer = self._make_mixer(inner, mixer, **types)
        self.downproj = _downproj(inner, width, config, types)

    def _around(
        self,
        x: Array | ByToken,
        mix: Callable[[Array | ByToken], tuple[Array, MixerState]],
        dropout_key: Array | None = None,
    ) -> tuple[Array, MixerState]:
        h = apply(lambda x: self.upproj(x if self.norm is None else self.norm(x)), x)
        if self.config.gated:
            act = _GATING[self.config.gating_function]
            gate = apply(lambda h: act(jnp.split(h, 2, axis=-1)[1]), h)
            h, state = mix(apply(lambda h: jnp.split(h, 2, axis=-1)[0], h))
            h = h * at_positions(gate)
        else:
            h, state = mix(h)
        h = self._drop(self.downproj(h), dropout_key)
        return (at_positions(x) + h if self.config.skip else h), state


class PostUp(Frame[PostUpConfig]):
    """Mixer, then a feed-forward part: `h = x + mixer(norm(x))`, `h + feed_forward(norm2(h))`.

    The feed-forward part is `down(act(up(.)))`, gated `down(u * act(g))` with `u` and `g` the two
    halves of the up-projection.

    Args:
        width: D, the features of the block.
        config: see `PostUpConfig`.
        mixer: the mixer's config; it maps D features to as many.
        dtype: the type to compute in; None: that of input and parameters.
        param_dtype: the type of the parameters.
        rngs: for the parameters.
    """

    def __init__(
        self,
        width: int,
        config: PostUpConfig,
        mixer: Any,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        types = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        inner = inner_dim(config, width)
        self.kept = Kept(config)
        add_hyperparameters(self, config, param_dtype)
        self.norm = None if config.norm is None else Norm(width, config.norm, **types)
        self.mixer = self._make_mixer(width, mixer, **types)
        self.norm2 = None if config.norm is None else Norm(width, config.norm, **types)
        self.upproj = _upproj(width, inner * (2 if config.gated else 1), config, types)
        self.downproj = _downproj(inner, width, config, types)
        scale = partial(Scale, width, scale_init=config.scale_init, **types)
        self.scale1 = scale() if config.use_scale else None
        self.scale2 = scale() if config.use_scale else None

    def _around(
        self,
        x: Array | ByToken,
        mix: Callable[[Array | ByToken], tuple[Array, MixerState]],
        dropout_key: Array | None = None,
    ) -> tuple[Array, MixerState]:
        h, state = mix(x if self.norm is None else apply(self.norm, x))
        x = self._join(at_positions(x), h, self.scale1, dropout_key, 0)
        h = self._feed_forward(x if self.norm2 is None else self.norm2(x))
        return self._join(x, h, self.scale2, dropout_key, 1), state

    def _feed_forward(self, x: Array) -> Array:
        act = _GATING[self.config.gating_function]
        h = self.upproj(x)
        if self.config.gated:
            h, gate = jnp.split(h, 2, axis=-1)
            return self.downproj(h * act(gate))
        return self.downproj(act(h))

    def _join(
        self, x: Array, h: Array, scale: Scale | None, dropout_key: Array | None, part: int
    ) -> Array:
        if scale is not None:
            h = scale(h)
        h = self._drop(h, dropout_key, part)
        return x + h if self.config.skip else h


def _upproj(width: int, features: int, config: BlockConfig, types: dict) -> nnx.Linear:
    inits = {"kernel_init": config.upproj_weight_init, "bias_init": config.upproj_bias_init}
    return nnx.Linear(width, features, use_bias=config.bias, **inits, **types)


def _downproj(features: int, width: int, config: BlockConfig, types: dict) -> nnx.Linear:
    inits = {"kernel_init": config.downproj_weight_init, "bias_init": config.downproj_bias_init}
    return nnx.Linear(features, width, use_bias=config.bias, **inits, **types)


class _OverTime(Frame[C]):
    """A block whose mixer has a state, so that it can be run in pieces and step by step."""

    mixer: Mixer

    def _make_mixer(self, features: int, mixer: MixerConfig, **types: Any) -> Mixer:
        return make_mixer(features, mixer, output_dim=features, **types)

    @property
    def bounded_state(self) -> bool:
        """Whether the state's size does not grow with the length."""
        return self.mixer.bounded_state

    @property
    def needs_tokens(self) -> bool:
        """Whether the mixer has to know its tokens, so that inputs are `ByToken`, also in steps."""
        return getattr(self.mixer, "needs_tokens", False)

    def init_state(self, batch_size: int) -> MixerState:
        """Return the mixer's state before the first step."""
        return self.mixer.init_state(batch_size)

    def __call__(
        self,
        x: Float[Array, "B T D"] | ByToken,
        *,
        initial_state: MixerState | None = None,
        return_state: bool = False,
        dropout_key: Array | None = None,
    ) -> Float[Array, "B T D"] | tuple[Float[Array, "B T D"], MixerState]:
        """Run over a sequence, or over its next piece; arguments as those of the mixer.

        With `dropout_key`, a typed key, features are dropped as in training.
        """

        def mix(h: Array | ByToken) -> tuple[Array, MixerState]:
            return self.mixer(h, initial_state=initial_state, return_state=True)

        y, state = self._around(x, mix, dropout_key)
        return (y, state) if return_state else y

    def step(
        self, x: Float[Array, "B D"] | ByToken, state: MixerState
    ) -> tuple[Float[Array, "B D"], MixerState]:
        """Take one step; arguments as those of the mixer."""
        known = self.needs_tokens
        return self._around(x, lambda h: self.mixer.step(h if known else at_positions(h), state))


class PreUpBlock(_OverTime[PreUpConfig], PreUp):
    """`PreUp` over sequences; `mixer` is one of `MixerConfig`. `make_block` has an example."""


class PostUpBlock(_OverTime[PostUpConfig], PostUp):
    """`PostUp` over sequences; `mixer` is one of `MixerConfig`. `make_block` has an example."""


def make_block(
    width: int,
    config: BlockConfig,
    mixer: MixerConfig,
    *,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> PreUpBlock | PostUpBlock:
    """Build the block that a config describes; arguments as those of the blocks.

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
    types = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    if isinstance(config, PreUpConfig):
        return PreUpBlock(width, config, mixer, **types)
    return PostUpBlock(width, config, mixer, **types)
