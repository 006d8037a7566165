"""What mixers share: the protocol that blocks expect of them, and the base of the baselines.

The base has a convolution before the mixer and an out projection after it. Linear recurrences are
read through the `Readout`: a norm for each head, and a gate.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.arguments import (
    accumulation_dtype,
    computed,
    require,
    require_divisible,
    require_positive,
    require_shape,
)
from plstm_seq.layers.by_token import ByToken, at_positions
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.convolution import CausalConvolution, ConvolutionConfig
from plstm_seq.layers.norm import Norm, NormConfig

Memory = Any
"""A tree of arrays whose first axis is the batch."""


class Mixer(Protocol):
    """What a block needs of a mixer: a map from sequences to sequences that has a state.

    A whole sequence, its pieces with the state passed on, and single steps give the same outputs.
    `bounded_state` says whether the state's size does not grow with the length. A mixer that has to
    know the tokens of its input has a true attribute `needs_tokens`; it gets `ByToken` in calls
    and in steps.

    Example:
        A block uses nothing else of a mixer.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.mixers import CellMixer, Mixer, RNNConfig
        >>> mixer: Mixer = CellMixer(4, RNNConfig(), rngs=nnx.Rngs(0))
        >>> y, state = mixer.step(jnp.ones((2, 4)), mixer.init_state(2))
        >>> y.shape, mixer.bounded_state
        ((2, 4), True)
    """

    @property
    def bounded_state(self) -> bool: ...  # noqa: D102
    def init_state(self, batch_size: int, /) -> Any: ...  # noqa: D102
    def __call__(self, x: Any, /, *, initial_state: Any, return_state: Literal[True]) -> Any:
        """Run over [B, T, I], or over its next piece; return the output [B, T, O] and the state."""
        ...

    def step(self, x: Any, state: Any, /) -> tuple[Array, Any]:
        """Take one step from [B, I] to [B, O]; return the next state too."""
        ...


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """The options of every baseline.

    Attributes:
        convolution: the causal convolution before the mixer; None: no convolution.
    """

    convolution: ConvolutionConfig | None = None


C = TypeVar("C", bound=BaselineConfig)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BaselineState:
    """The state of a baseline within a sequence; every leaf begins with the batch axis.

    Attributes:
        convolution: the last inputs that the convolution still needs, [B, K - 1, I]; None without
            a convolution.
        memory: the state of the mixer itself, in float32 at least.
    """

    convolution: Float[Array, "B K-1 I"] | None
    memory: Memory


class Baseline(Configured[C]):
    """A mixer between an optional causal convolution and an out projection.

    A subclass makes its parameters, returns how many features it passes to the out projection,
    makes its memory before the first step, and reads a piece of a sequence.

    Args:
        input_dim: the number of features of the input, I.
        config: the options of the kind.
        output_dim: the number of features of the output, O; None: I.
        dtype: the type to compute in; None: the common type of input and parameters. Gates and
            memory are in float32 at least.
        param_dtype: the type of the parameters.
        rngs: the random number generators for the parameters.

    Raises:
        ValueError: sizes do not fit each other.

    Example:
        A mixer whose memory is the sum of all inputs so far.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.mixers import Baseline, BaselineConfig, BaselineState
        >>> class Total(Baseline[BaselineConfig]):
        ...     def _make(self, **types):
        ...         return self.input_dim
        ...
        ...     def _start(self, batch_size, dtype):
        ...         return jnp.zeros((batch_size, self.input_dim), dtype)
        ...
        ...     def _read(self, x, memory):
        ...         sums = memory[:, None] + jnp.cumsum(x, axis=1)
        ...         return sums, sums[:, -1]
        >>> mixer = Total(1, BaselineConfig(), rngs=nnx.Rngs(0))
        >>> y, state = mixer(jnp.array([[[1.0], [2.0], [3.0]]]), return_state=True)
        >>> y.shape, isinstance(state, BaselineState), state.memory.tolist()
        ((1, 3, 1), True, [[6.0]])
    """

    bounded_state = True

    def __init__(
        self,
        input_dim: int,
        config: C,
        *,
        output_dim: int | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        output_dim = input_dim if output_dim is None else output_dim
        require_positive(input_dim=input_dim, output_dim=output_dim)
        self.input_dim, self.output_dim, self.kept = input_dim, output_dim, Kept(config)
        self.dtype, self.param_dtype = dtype, param_dtype
        types = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.conv = (
            None
            if config.convolution is None
            else CausalConvolution(input_dim, config.convolution, **types)
        )
        inner = self._make(**types)
        self.outprojection = nnx.Linear(inner, output_dim, use_bias=False, **types)

    def _make(self, **types: Any) -> int:
        """Make the parameters; return the number of features before the out projection."""
        raise NotImplementedError

    def _start(self, batch_size: int, dtype: jnp.dtype) -> Memory:
        """Return the memory before the first step, in `dtype`."""
        raise NotImplementedError

    def _read(self, x: Array, memory: Memory) -> tuple[Array, Memory]:
        """Read [B, T, I]; return [B, T, inner] and the memory after the last step."""
        raise NotImplementedError

    def init_state(self, batch_size: int) -> BaselineState:
        """Return the state of `batch_size` sequences before the first step."""
        require_positive(batch_size=batch_size)
        return self._fresh(batch_size, self.param_dtype if self.dtype is None else self.dtype)

    def __call__(
        self,
        x: Float[Array, "B T I"] | ByToken,
        *,
        initial_state: BaselineState | None = None,
        return_state: bool = False,
    ) -> Float[Array, "B T O"] | tuple[Float[Array, "B T O"], BaselineState]:
        """Run over a sequence, or over its next piece.

        Args:
            x: [B, T, I].
            initial_state: the state that the previous piece returned; None: that of `init_state`.
            return_state: whether to return the state after the last step too.

        Returns:
            The output [B, T, O]; with `return_state` the state too.

        Raises:
            ValueError: the shape of `x` or of the state does not fit.
        """
        require_shape("x", x, ("B", "T", self.input_dim))
        y, state = self._run(at_positions(x), initial_state)
        return (y, state) if return_state else y

    def step(
        self, x: Float[Array, "B I"], state: BaselineState
    ) -> tuple[Float[Array, "B O"], BaselineState]:
        """Take one step, which is a piece of length 1.

        Args:
            x: [B, I].
            state: a state from `init_state`, a call or a step.

        Returns:
            The output [B, O] and the next state.

        Raises:
            ValueError: the shape of `x` or of the state does not fit.
        """
        require_shape("x", x, ("B", self.input_dim))
        y, state = self._run(x[:, None], state)
        return y[:, 0], state

    def _run(self, x: Array, state: BaselineState | None) -> tuple[Array, BaselineState]:
        x = computed(x, self.dtype, self.param_dtype)
        dtype = x.dtype
        fresh = self._fresh(x.shape[0], dtype)
        state = fresh if state is None else self._checked(state, fresh)
        history = None
        if self.conv is not None:
            x, history = self.conv(x, state.convolution)
        y, memory = self._read(x, state.memory)
        return self.outprojection(y.astype(dtype)), BaselineState(history, memory)

    def _fresh(self, batch_size: int, dtype: DTypeLike) -> BaselineState:
        history = None
        if self.conv is not None:
            history = jnp.zeros((batch_size, self.conv.history_length, self.input_dim), dtype)
        return BaselineState(history, self._start(batch_size, accumulation_dtype(dtype)))

    def _checked(self, state: BaselineState, fresh: BaselineState) -> BaselineState:
        """Return the state if it has the shapes of a fresh one; an unbounded one has any length."""
        (given, tree), (expected, fresh_tree) = map(jax.tree.flatten_with_path, (state, fresh))
        require(tree == fresh_tree, "state", tree, str(fresh_tree))
        for (path, leaf), (_, like) in zip(given, expected, strict=True):
            axes = list(like.shape)
            if not self.bounded_state:
                axes[1] = "S"
            require_shape(f"state{jax.tree_util.keystr(path)}", leaf, axes)
        return state


def wide(types: dict[str, Any]) -> dict[str, Any]:
    """Return the types for gates: those of other parameters, but computed in float32 at least."""
    dtype = types["dtype"]
    return types | {"dtype": None if dtype is None else accumulation_dtype(dtype)}


def head_features(input_dim: int, num_heads: int, head_dim: int | None) -> int:
    """Return the features of a head: `head_dim`, or if it is None the input's share per head."""
    if head_dim is not None:
        return head_dim
    require_divisible("input_dim, where head_dim is None,", input_dim, "num_heads", num_heads)
    return input_dim // num_heads


@dataclass(frozen=True, kw_only=True)
class ReadoutConfig(BaselineConfig):
    """The options of every linear recurrence.

    Attributes:
        norm: the norm over the features read from each head; None: no norm.
        output_gate: whether the result is then multiplied by `silu` of a linear function of the
            input.
    """

    norm: NormConfig | None = field(default_factory=NormConfig)
    output_gate: bool = True


class Readout(nnx.Module):
    """`norm(y) * silu(gate(x))`, as in gated linear attention (arXiv 2312.06635).

    Args:
        input_dim: the number of input features, I.
        num_heads: the number of heads H, each with a norm of its own.
        features: the number of features over all heads, F.
        config: see `ReadoutConfig`.
        **types: `dtype`, `param_dtype` and `rngs` of the parameters.
    """

    def __init__(
        self, input_dim: int, num_heads: int, features: int, config: ReadoutConfig, **types: Any
    ):
        self.norm = (
            None
            if config.norm is None
            else Norm(features, config.norm, num_heads=num_heads, **types)
        )
        self.gate = (
            nnx.Linear(input_dim, features, use_bias=False, **types) if config.output_gate else None
        )

    def __call__(self, y: Array, x: Array) -> Array:
        """Map the features that were read [..., F] and the input [..., I] to [..., F]."""
        if self.norm is not None:
            y = self.norm(y, head_axis=None)
        return y if self.gate is None else y * jax.nn.silu(self.gate(x))
