"""Linear recurrent networks with block-diagonal, input-dependent transitions (SLiCE)."""

from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from plstm_seq.layers.checks import require_divisible, require_positive
from plstm_seq.layers.initializers import FanIn, Initializer, Normal, Zeros
from plstm_seq.layers.mixers.base import Baseline, wide
from plstm_seq.layers.mixers.readout import Readout, ReadoutConfig
from plstm_seq.ops import plstm_1d


@dataclass(frozen=True, kw_only=True)
class SliceConfig(ReadoutConfig):
    """The options of a `Slice`.

    Attributes:
        state_dim: N, entries of the state; None: input features.
        block_size: b, of each of the N / b blocks of a transition; None: N, a dense transition.
        transition_scale: A is this times a linear function of the input: what the optimizer changes
            in its weights moves the transitions as little (published: 1 / 40).
        drive: whether a linear function of the input is added to the state at every step.
        transition_weight_init: of that function's kernel [I, N b].
        transition_bias_init: of its bias [N b].
        initial_state_init: of the learned initial state [N].
        implementation: see `plstm_seq.ops.plstm_1d`. Steps one by one cost b^2 an entry, products
            of matrices over chunks b^3, which only a GPU has to spare.
    """

    state_dim: int | None = None
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
        sizes = {"state_dim": self.state_dim, "block_size": self.block_size}
        require_positive(**{name: size for name, size in sizes.items() if size is not None})
        if not self.transition_scale > 0:
            raise ValueError(f"transition_scale: got {self.transition_scale}, expected above 0")


class Slice(Baseline[SliceConfig]):
    """`h_t = (1 + A(x_t)) h_{t-1} + B x_t`, A linear in x with blocks of size b; h_0 is learned.

    Source: Walker et al., Structured linear controlled differential equations, arXiv 2505.17761.
    Their code has no B, and makes h_1 a linear function of x_1, which `A(x_1) h_0` also is.
    Transitions are not bounded: over long sequences the state may grow or vanish, and overflow.

    A block is a pLSTM head with JT = b that reads the state after its step: the op is `plstm_1d`.
    """

    def _make(self, **types: Any) -> int:
        config = self.config
        inner = self.input_dim if config.state_dim is None else config.state_dim
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
        # With one key, value and query feature the mark `transition` and the direct term `drive`
        # read the state after the step.
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
