"""Nonlinear recurrent networks: flax's own cells, one step after another."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from plstm_seq.layers.arguments import given, require_positive
from plstm_seq.layers.mixers.base import Baseline, BaselineConfig, wide


@dataclass(frozen=True, kw_only=True)
class CellConfig(BaselineConfig):
    """The options of every recurrent cell.

    Attributes:
        hidden_dim: the number of features of the state; None: that of the input.
    """

    hidden_dim: int | None = None

    def __post_init__(self):
        require_positive(**given(hidden_dim=self.hidden_dim))


@dataclass(frozen=True, kw_only=True)
class LSTMConfig(CellConfig):
    """The options of an LSTM (`flax.nnx.LSTMCell`); see `CellConfig`."""

    kind: Literal["lstm"] = "lstm"


@dataclass(frozen=True, kw_only=True)
class GRUConfig(CellConfig):
    """The options of a GRU (`flax.nnx.GRUCell`); see `CellConfig`."""

    kind: Literal["gru"] = "gru"


@dataclass(frozen=True, kw_only=True)
class RNNConfig(CellConfig):
    """The options of `h = tanh(W x + b + U h)` (`flax.nnx.SimpleCell`); see `CellConfig`."""

    kind: Literal["rnn"] = "rnn"


_CELLS = {LSTMConfig: nnx.LSTMCell, GRUConfig: nnx.GRUCell, RNNConfig: nnx.SimpleCell}


class CellMixer(Baseline[CellConfig]):
    """A recurrent network; what it computes and how it is initialised are flax's.

    The steps of such a network cannot be combined by a scan, so that a sequence of length T takes T
    steps one after another.

    Example:
        One class runs all three kinds of cells.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.mixers import CellMixer, GRUConfig, LSTMConfig, RNNConfig
        >>> for config in (LSTMConfig(), GRUConfig(), RNNConfig(hidden_dim=16)):
        ...     mixer = CellMixer(8, config, rngs=nnx.Rngs(0))
        ...     print(config.kind, mixer.hidden_dim)
        lstm 8
        gru 8
        rnn 16
        >>> jax.jit(mixer)(jnp.ones((3, 5, 8))).shape
        (3, 5, 8)
    """

    def _make(self, **types: Any) -> int:
        hidden = self.input_dim if self.config.hidden_dim is None else self.config.hidden_dim
        self.hidden_dim = hidden
        self.cell = _CELLS[type(self.config)](self.input_dim, hidden, **wide(types))
        return hidden

    def _start(self, batch_size: int, dtype: jnp.dtype) -> Any:
        zero = jnp.zeros((batch_size, self.hidden_dim), dtype)
        return (zero, zero) if isinstance(self.config, LSTMConfig) else zero

    def _read(self, x: Array, memory: Any) -> tuple[Array, Any]:
        def step(carry: Any, now: Array) -> tuple[Any, Array]:
            return self.cell(carry, now)

        memory, y = jax.lax.scan(step, memory, jnp.moveaxis(x, 1, 0))
        return jnp.moveaxis(y, 0, 1), memory
