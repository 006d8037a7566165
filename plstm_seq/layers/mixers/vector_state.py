"""Linear recurrences whose state is a vector; they differ in what multiplies it at a step.

This is a diagonal matrix, a column one-hot matrix times a diagonal one (PD-SSM), or a
block-diagonal matrix (SLiCE). Complex states are stored as real numbers, [real parts, imaginary
parts] along the last axis, so that states, projections and checkpoints hold only real arrays.
"""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Complex, Float

from plstm_seq.layers.arguments import (
    given,
    require_above_zero,
    require_choice,
    require_divisible,
    require_positive,
)
from plstm_seq.layers.initializers import Constant, FanIn, Initializer, Normal, Zeros
from plstm_seq.layers.mixers.base import Baseline, Readout, ReadoutConfig, wide
from plstm_seq.ops.linear import column_one_hot_recurrence, diagonal_recurrence
from plstm_seq.ops.sequence.api import plstm_1d

Entries = Literal["positive", "signed", "complex"]
Factors = Literal["complex", "real", "one"]


def as_complex(pairs: Float[Array, "*S 2N"]) -> Complex[Array, "*S N"]:
    """Join the halves of the last axis as real and imaginary parts."""
    return jax.lax.complex(*jnp.split(pairs, 2, axis=-1))


def as_pairs(numbers: Complex[Array, "*S N"]) -> Float[Array, "*S 2N"]:
    """Write the real parts, then the imaginary parts, along the last axis."""
    return jnp.concatenate([numbers.real, numbers.imag], axis=-1)


def polar(modulus: Float[Array, "*S"], phase: Float[Array, "*S"]) -> Complex[Array, "*S"]:
    """Return `modulus * exp(i phase)`."""
    return jax.lax.complex(modulus * jnp.cos(phase), modulus * jnp.sin(phase))


@dataclass(frozen=True, kw_only=True)
class VectorStateConfig(ReadoutConfig):
    """The options of every mixer in this file.

    Attributes:
        state_dim: the number of entries of the state, N; None: the number of input features.
    """

    state_dim: int | None = None

    def __post_init__(self):
        require_positive(**given(state_dim=self.state_dim))

    def state_size(self, input_dim: int) -> int:
        """The number of entries of the state, N."""
        return input_dim if self.state_dim is None else self.state_dim


@dataclass(frozen=True, kw_only=True)
class DiagonalConfig(VectorStateConfig):
    """The options of a `DiagonalMixer`.

    Attributes:
        entries: the kind of the transition's entries, where `e` is a linear function of the input.
            "positive": `sigmoid(eigenvalue_factor e)`, in [0, 1]; "signed":
            `tanh(eigenvalue_factor e)`, in [-1, 1]; "complex":
            `sigmoid(eigenvalue_factor e) exp(i phase)`, of modulus at most 1, with a phase linear
            in the input, and a complex state.
        eigenvalue_factor: the factor of `e`, positive.
        eigenvalue_bias_init: the initialiser of the bias of `e` [N].
        eigenvalue_weight_init: the initialiser of the kernel of `e` [I, N].
        phase_bias_init: the initialiser of the bias of the phase [N]; only used with "complex".
        phase_weight_init: the initialiser of the phase's kernel [I, N]; only used with "complex".
    """

    entries: Entries = "signed"
    eigenvalue_factor: float = 10.0
    eigenvalue_bias_init: Initializer = field(default_factory=lambda: Constant(0.4))
    eigenvalue_weight_init: Initializer = field(default_factory=lambda: FanIn(0.3, axis=-2))
    phase_bias_init: Initializer = field(default_factory=Normal)
    phase_weight_init: Initializer = field(default_factory=lambda: FanIn(axis=-2))
    kind: Literal["diagonal"] = "diagonal"

    def __post_init__(self):
        super().__post_init__()
        require_choice("entries", self.entries, Entries)
        require_above_zero(eigenvalue_factor=self.eigenvalue_factor)


class DiagonalMixer(Baseline[DiagonalConfig]):
    """`h_t = a_t * h_{t-1} + sigmoid(g_t) * v_t`, for each entry; a, g and v come from the input.

    All states come from one associative scan. Positive entries cannot track a parity; signed ones
    track nothing beyond parities in one layer (Grazzi et al., arXiv 2411.12537). Complex ones can
    count modulo any number, but diagonal matrices commute.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.mixers import DiagonalMixer, DiagonalConfig
        >>> config = DiagonalConfig(entries="complex")
        >>> mixer = DiagonalMixer(8, config, rngs=nnx.Rngs(0))
        >>> jax.jit(mixer)(jnp.ones((3, 5, 8))).shape
        (3, 5, 8)
    """

    def _make(self, **types: Any) -> int:
        config = self.config
        self.state_dim = config.state_size(self.input_dim)
        self.complex = config.entries == "complex"
        inner = (1 + self.complex) * self.state_dim
        linear = partial(nnx.Linear, self.input_dim, self.state_dim, **wide(types))
        self.eigenvalue = linear(
            kernel_init=config.eigenvalue_weight_init, bias_init=config.eigenvalue_bias_init
        )
        self.phase = (
            linear(kernel_init=config.phase_weight_init, bias_init=config.phase_bias_init)
            if self.complex
            else None
        )
        self.input_gate = linear()
        self.value = nnx.Linear(self.input_dim, inner, use_bias=False, **types)
        self.readout = Readout(self.input_dim, 1, inner, config, **types)
        return inner

    def _start(self, batch_size: int, dtype: jnp.dtype) -> Array:
        return jnp.zeros((batch_size, self.value.out_features), dtype)

    def _read(self, x: Array, memory: Array) -> tuple[Array, Array]:
        dtype = memory.dtype
        decay = self.config.eigenvalue_factor * self.eigenvalue(x).astype(dtype)
        gate = jax.nn.sigmoid(self.input_gate(x).astype(dtype))
        value = self.value(x).astype(dtype)
        if self.phase is None:
            decay = jnp.tanh(decay) if self.config.entries == "signed" else jax.nn.sigmoid(decay)
            states = diagonal_recurrence(decay, gate * value, memory)
        else:
            decay = polar(jax.nn.sigmoid(decay), self.phase(x).astype(dtype))
            drive = gate * as_complex(value)
            states = as_pairs(diagonal_recurrence(decay, drive, as_complex(memory)))
        return self.readout(states.astype(x.dtype), x), states[:, -1]


@dataclass(frozen=True, kw_only=True)
class PDConfig(VectorStateConfig):
    """The options of a `PD`.

    Attributes:
        dictionary_size: the number of matrices K; each step makes its own mixture of them.
        factors: the entries of the diagonal matrix. "complex": of modulus below 1; "real": in
            [-1, 1]; "one": there is none, the transition is the one-hot matrix alone.
        hidden_dim: the number of features of the hidden layer in the network that makes a modulus
            or a phase; None: 2 N. It has no effect with "one".
        dictionary_init: the initialiser of the dictionary [K, N, N].
    """

    dictionary_size: int = 8
    factors: Factors = "complex"
    hidden_dim: int | None = None
    output_gate: bool = False
    dictionary_init: Initializer = field(default_factory=FanIn)
    kind: Literal["pd"] = "pd"

    def __post_init__(self):
        super().__post_init__()
        sizes = given(hidden_dim=self.hidden_dim)
        require_positive(dictionary_size=self.dictionary_size, **sizes)
        require_choice("factors", self.factors, Factors)


class PD(Baseline[PDConfig]):
    """`h_t = P_t D_t h_{t-1} + B x_t`: entry j of the state is scaled and moves to one place.

    P is one in the largest entry of each column of `sum_k softmax(S x)_k M_k`; its derivative is
    that of the softmax over the column. D is diagonal, made by small networks. The state before the
    first step is the first unit vector. A sequence is one associative scan with O(N) work per step;
    choosing P takes N x N numbers per step in addition.

    Source: Terzic et al., arXiv 2509.22284. (The released code makes the *rows* one-hot and scales
    after the move. The paper and this module make the columns one-hot, so that a one-hot state
    moves to the one-hot state of an automaton.) If the state is complex, its real and imaginary
    parts are read.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.mixers import PD, PDConfig
        >>> config = PDConfig(state_dim=4)
        >>> mixer = PD(8, config, rngs=nnx.Rngs(0))
        >>> jax.jit(mixer)(jnp.ones((3, 5, 8))).shape
        (3, 5, 8)
    """

    def _make(self, **types: Any) -> int:
        config = self.config
        size = config.state_size(self.input_dim)
        self.state_dim = size
        gates = wide(types)
        self.select = nnx.Linear(self.input_dim, config.dictionary_size, use_bias=False, **gates)
        shape = (config.dictionary_size, size, size)
        key, param_dtype = types["rngs"].params(), types["param_dtype"]
        self.dictionary = nnx.Param(config.dictionary_init(key, shape, param_dtype))
        hidden = 2 * size if config.hidden_dim is None else config.hidden_dim
        network = partial(_Network, self.input_dim, hidden, size, **gates)
        self.size = network() if config.factors != "one" else None
        self.phase = network() if config.factors == "complex" else None
        inner = size if self.phase is None else 2 * size
        self.drive = nnx.Linear(self.input_dim, inner, use_bias=False, **types)
        self.readout = Readout(self.input_dim, 1, inner, config, **types)
        return inner

    def _start(self, batch_size: int, dtype: jnp.dtype) -> Array:
        return jnp.zeros((batch_size, self.drive.out_features), dtype).at[:, 0].set(1)

    def _read(self, x: Array, memory: Array) -> tuple[Array, Array]:
        dtype = memory.dtype
        weights = jax.nn.softmax(self.select(x).astype(dtype), axis=-1)
        logits = jnp.einsum("btk,kij->btij", weights, self.dictionary[...].astype(dtype))
        drive = self.drive(x).astype(dtype)
        if self.size is None:
            factor = jnp.ones_like(drive)
        elif self.phase is None:
            factor = jnp.tanh(self.size(x).astype(dtype))
        else:
            modulus, phase = (
                jax.nn.sigmoid(part(x).astype(dtype)) for part in (self.size, self.phase)
            )
            factor = polar(modulus, 2 * math.pi * phase)
            drive, memory = as_complex(drive), as_complex(memory)
        states = column_one_hot_recurrence(logits, factor, drive, memory)
        states = as_pairs(states) if self.phase is not None else states
        return self.readout(states.astype(x.dtype), x), states[:, -1]


class _Network(nnx.Module):
    """A network with one hidden layer: `W gelu(V x + v) + w`."""

    def __init__(self, input_dim: int, hidden: int, output_dim: int, **types: Any):
        self.up = nnx.Linear(input_dim, hidden, **types)
        self.down = nnx.Linear(hidden, output_dim, **types)

    def __call__(self, x: Array) -> Array:
        return self.down(jax.nn.gelu(self.up(x)))


@dataclass(frozen=True, kw_only=True)
class SliceConfig(VectorStateConfig):
    """The options of a `Slice`.

    Attributes:
        block_size: the size b of each of the N / b blocks of a transition; None: N, which makes the
            transition dense.
        transition_scale: A is this times a linear function of the input, so that a change of that
            function's weights by the optimizer moves the transitions less (published: 1 / 40).
        drive: whether a linear function of the input is added to the state at every step.
        transition_weight_init: the initialiser of the transition's kernel [I, N b].
        transition_bias_init: the initialiser of the transition's bias [N b].
        initial_state_init: the initialiser of the learned initial state [N].
        implementation: see `plstm_seq.ops.plstm_1d`. Single steps cost b^2 per entry, products of
            matrices over chunks b^3, which only a GPU computes fast enough.
    """

    block_size: int | None = 4
    transition_scale: float = 0.1
    drive: bool = False
    output_gate: bool = False
    transition_weight_init: Initializer = field(default_factory=lambda: FanIn(2.0, axis=-2))
    transition_bias_init: Initializer = field(default_factory=Zeros)
    initial_state_init: Initializer = field(default_factory=Normal)
    implementation: str | None = "recurrent"
    kind: Literal["slice"] = "slice"

    def __post_init__(self):
        super().__post_init__()
        require_positive(**given(block_size=self.block_size))
        require_above_zero(transition_scale=self.transition_scale)


class Slice(Baseline[SliceConfig]):
    """`h_t = (1 + A(x_t)) h_{t-1} + B x_t`, A linear in x with blocks of size b; h_0 is learned.

    Source: Walker et al., Structured linear controlled differential equations, arXiv 2505.17761.
    Their code has no B, and makes h_1 a linear function of x_1, which `A(x_1) h_0` also is.
    Transitions are not bounded: over long sequences the state may grow until it overflows, or
    vanish.

    A block is a pLSTM head with JT = b that reads the state after its step: the op is `plstm_1d`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.mixers import Slice, SliceConfig
        >>> config = SliceConfig(block_size=2)
        >>> mixer = Slice(8, config, rngs=nnx.Rngs(0))
        >>> jax.jit(mixer)(jnp.ones((3, 5, 8))).shape
        (3, 5, 8)
    """

    def _make(self, **types: Any) -> int:
        config = self.config
        inner = config.state_size(self.input_dim)
        self.block = inner if config.block_size is None else config.block_size
        require_divisible("state_dim", inner, "block_size", self.block)
        self.transition = nnx.Linear(
            self.input_dim,
            inner * self.block,
            kernel_init=config.transition_weight_init,
            bias_init=config.transition_bias_init,
            **wide(types),
        )
        self.drive = (
            nnx.Linear(self.input_dim, inner, use_bias=False, **types) if config.drive else None
        )
        rngs, param_dtype = types["rngs"], types["param_dtype"]
        initial_state = config.initial_state_init(rngs.params(), (inner,), param_dtype)
        self.initial_state = nnx.Param(initial_state)
        self.readout = Readout(self.input_dim, 1, inner, config, **types)
        return inner

    def _start(self, batch_size: int, dtype: jnp.dtype) -> Array:
        start = self.initial_state[...].astype(dtype)
        return jnp.broadcast_to(start, (batch_size, *start.shape))

    def _read(self, x: Array, memory: Array) -> tuple[Array, Array]:
        b, dtype = self.block, memory.dtype
        lead = (*x.shape[:2], memory.shape[-1] // b)

        def heads_before_time(part: Array) -> Array:
            return jnp.moveaxis(part, 2, 1)

        change = self.config.transition_scale * self.transition(x).astype(dtype)
        transition = heads_before_time(jnp.eye(b, dtype=dtype) + change.reshape(*lead, b, b))
        one = jnp.ones((*transition.shape[:3], 1, 1), dtype)
        drive = jnp.zeros((*lead, b), dtype)
        if self.drive is not None:
            drive = self.drive(x).astype(dtype).reshape(*lead, b)
        drive = heads_before_time(drive)
        # With one key, value and query feature each, the mark `transition` and the direct term
        # `drive` read the state after the step.
        y, last = plstm_1d(
            one,
            one,
            one,
            drive[..., None, None],
            transition,
            transition[..., None, :],
            None if self.drive is None else drive[..., None, None, None],
            initial_state=memory.reshape(lead[0], lead[-1], 1, 1, b),
            scale=1.0,
            implementation=self.config.implementation,
            return_state=True,
        )
        y = jax.lax.collapse(jnp.moveaxis(y, 1, 2), 2)
        return self.readout(y.astype(x.dtype), x), last.reshape(memory.shape)
