"""A kernel in plain jax with narrow limits: what surrounds every kernel is tested around it."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from plstm_seq.ops.choice import always_first
from plstm_seq.ops.sequence.inputs import Inputs
from plstm_seq.ops.sequence.kernel import Limits, implementation_of
from plstm_seq.ops.sequence.recurrent import recurrent

NARROW = Limits(DK_max=4, columns_max=16, DK_multiple=2, DV_multiple=2, gate_sizes=(1, 2, 4, 8))


@dataclass(frozen=True)
class PlainKernel:
    """Scans the core form; its backward pass differentiates that scan.

    It checks what it gets, counts on nothing beyond the contract, and marks its calls in a program
    by the names `plain_forward` and `plain_backward`.
    """

    name: ClassVar[str] = "plain"
    platforms: ClassVar[tuple[str, ...]] = ()
    narrow: Limits = NARROW
    default_chunk: int = 4

    def rank(self, inputs: Inputs, platform: str) -> int:
        return always_first(inputs, platform)

    def check_device(self, device) -> None:
        pass

    def check(self, inputs: Inputs) -> None:
        if inputs.query.shape[-2] > 64:
            raise NotImplementedError(f"DK is {inputs.query.shape[-2]}, above 64")

    def limits(self, core: Inputs) -> Limits:
        assert core.query.shape[-1] == core.key.shape[-1] == 1
        return self.narrow

    def chunk_size(self, core: Inputs, requested: int | None) -> int:  # noqa: ARG002
        if requested is not None and requested > 8:
            raise NotImplementedError(f"chunk_size is {requested}, above 8")
        return requested or self.default_chunk

    def forward(self, core, state, *, scale, chunk, output_dtype):
        self._check_contract(core, state, chunk)
        assert isinstance(scale, float)

        def plain_forward(core, state):
            output, last = recurrent(core, state)
            return (scale * output).astype(output_dtype), last

        output, last = jax.jit(plain_forward)(core, state)
        return output, last, {"first": state}

    def backward(self, core, saved, output_bar, state_bar, *, scale, chunk):
        state = saved["first"]
        self._check_contract(core, state, chunk)
        assert state_bar.shape == state.shape
        assert state_bar.dtype == state.dtype

        def plain_backward(core, state, output_bar, state_bar):
            def function(core, state):
                output, last = recurrent(core, state)
                return (scale * output).astype(output_bar.dtype), last

            return jax.vjp(function, core, state)[1]((output_bar, state_bar))

        return jax.jit(plain_backward)(core, state, output_bar, state_bar)

    def _check_contract(self, core, state, chunk):
        N, T, DK, DV = *core.query.shape[:3], core.value.shape[2]
        JT, JV, JO = core.transition.shape[-1], core.value.shape[-1], core.mark.shape[2]
        shapes = [
            (N, T, DK, 1),
            (N, T, DK, 1),
            (N, T, DV, JV),
            (N, T, JT, 1, JV),
            (N, T, JT, JT),
            (N, T, JO, 1, JT),
            (N, T, JO, 1, 1, JV),
        ]
        given = [x.shape for x in core if x is not None]
        assert given == shapes[: len(given)]
        assert state.shape == (N, DK, DV, JT)
        assert T % chunk == 0
        limits = self.narrow
        assert limits.DK_max >= DK
        assert limits.columns_max >= JT * DV
        assert DK % limits.DK_multiple == DV % limits.DV_multiple == 0
        assert {JT, JV, JO} <= set(limits.gate_sizes)
        assert core.query.dtype == core.key.dtype == core.value.dtype
        assert {x.dtype for x in core if x is not None} <= {core.query.dtype, jnp.dtype("float32")}
        assert state.dtype == jnp.promote_types(core.query.dtype, jnp.float32)


plain = implementation_of(PlainKernel())
