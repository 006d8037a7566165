"""Gated linear recurrent networks with a diagonal transition."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from plstm_seq.layers.checks import require_positive
from plstm_seq.layers.initializers import Constant, FanIn, Initializer, Normal
from plstm_seq.layers.mixers.base import Baseline, wide
from plstm_seq.layers.mixers.pairs import as_complex, as_pairs, polar
from plstm_seq.layers.mixers.readout import Readout, ReadoutConfig
from plstm_seq.ops.linear import diagonal_recurrence

Entries = Literal["positive", "signed", "complex"]


@dataclass(frozen=True, kw_only=True)
class DiagonalConfig(ReadoutConfig):
    """The options of a `DiagonalMixer`.

    Attributes:
        state_dim: N, entries of the state; None: input features.
        entries: of the transition, with `e` a linear function of the input: "positive":
            `sigmoid(eigenvalue_factor e)`, in [0, 1]; "signed": `tanh(eigenvalue_factor e)`, in
            [-1, 1]; "complex": `sigmoid(eigenvalue_factor e) exp(i phase)`, of modulus at most 1,
            with a phase linear in the input, and a complex state.
        eigenvalue_factor: positive.
        eigenvalue_bias_init: of the bias of `e` [N].
        eigenvalue_weight_init: of its kernel [I, N].
        phase_bias_init: of the bias of the phase [N]; of effect with "complex" alone, as the next.
        phase_weight_init: of its kernel [I, N].
    """

    state_dim: int | None = None
    entries: Entries = "signed"
    eigenvalue_factor: float = 10.0
    eigenvalue_bias_init: Initializer = field(default_factory=lambda: Constant(0.4))
    eigenvalue_weight_init: Initializer = field(default_factory=lambda: FanIn(0.3, axis=-2))
    phase_bias_init: Initializer = field(default_factory=Normal)
    phase_weight_init: Initializer = field(default_factory=lambda: FanIn(axis=-2))
    kind: Literal["diagonal"] = "diagonal"

    def __post_init__(self):
        if self.state_dim is not None:
            require_positive(state_dim=self.state_dim)
        if self.entries not in get_args(Entries):
            raise ValueError(f"entries: got {self.entries!r}, expected one of {get_args(Entries)}")
        if not self.eigenvalue_factor > 0:
            raise ValueError(f"eigenvalue_factor: got {self.eigenvalue_factor}, expected above 0")


class DiagonalMixer(Baseline[DiagonalConfig]):
    """`h_t = a_t * h_{t-1} + sigmoid(g_t) * v_t`, entry by entry, a, g and v made of the input.

    All states come from one associative scan. Positive entries cannot track a parity, signed ones
    nothing beyond parities in one layer (Grazzi et al., arXiv 2411.12537); complex ones can count
    modulo any number, but diagonal matrices commute.
    """

    def _make(self, **types: Any) -> int:
        config = self.config
        self.state_dim = self.input_dim if config.state_dim is None else config.state_dim
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
