"""PD-SSM: transitions that are a column one-hot matrix times a diagonal one."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from plstm_seq.layers.checks import require_positive
from plstm_seq.layers.initializers import FanIn, Initializer
from plstm_seq.layers.mixers.base import Baseline, wide
from plstm_seq.layers.mixers.pairs import as_complex, as_pairs, polar
from plstm_seq.layers.mixers.readout import Readout, ReadoutConfig
from plstm_seq.ops.linear import column_one_hot_recurrence

Factors = Literal["complex", "real", "one"]


@dataclass(frozen=True, kw_only=True)
class PDConfig(ReadoutConfig):
    """The options of a `PD`.

    Attributes:
        state_dim: N, entries of the state; None: input features.
        dictionary_size: K, matrices of which each step mixes its own.
        factors: of the diagonal matrix: "complex": of modulus below 1; "real": in [-1, 1]; "one":
            none, the transition is the one-hot matrix alone.
        hidden_dim: features of the network of one hidden layer that makes a modulus or a phase;
            None: 2 N; of no effect with "one".
        dictionary_init: of the dictionary [K, N, N].
    """

    state_dim: int | None = None
    dictionary_size: int = 8
    factors: Factors = "complex"
    hidden_dim: int | None = None
    output_gate: bool = False
    dictionary_init: Initializer = field(default_factory=FanIn)
    kind: Literal["pd"] = "pd"

    def __post_init__(self):
        sizes = {
            "state_dim": self.state_dim,
            "dictionary_size": self.dictionary_size,
            "hidden_dim": self.hidden_dim,
        }
        require_positive(**{name: size for name, size in sizes.items() if size is not None})
        if self.factors not in get_args(Factors):
            raise ValueError(f"factors: got {self.factors!r}, expected one of {get_args(Factors)}")


class PD(Baseline[PDConfig]):
    """`h_t = P_t D_t h_{t-1} + B x_t`: entry j of the state is scaled, and goes to one place.

    P is one in the largest entry of each column of `sum_k softmax(S x)_k M_k`, differentiated as
    the softmax over the column; D is diagonal, made by small networks. The state before the first
    step is the first unit vector. A sequence is one associative scan with O(N) work a step, beside
    the N x N numbers a step that choose P.

    Source: Terzic et al., arXiv 2509.22284. (The released code makes the *rows* one-hot and scales
    after the move; the paper and we the columns, so that a one-hot state goes to the one-hot state
    of an automaton.) Of a complex state, real and imaginary parts are read.
    """

    def _make(self, **types: Any) -> int:
        config = self.config
        size = self.input_dim if config.state_dim is None else config.state_dim
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
    """`W gelu(V x + v) + w`."""

    def __init__(self, input_dim: int, hidden: int, output_dim: int, **types: Any):
        self.up = nnx.Linear(input_dim, hidden, **types)
        self.down = nnx.Linear(hidden, output_dim, **types)

    def __call__(self, x: Array) -> Array:
        return self.down(jax.nn.gelu(self.up(x)))
