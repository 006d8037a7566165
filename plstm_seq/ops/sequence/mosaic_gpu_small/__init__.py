"""The 1D op with small states on Hopper GPUs: one thread per sequence (README.md, section 11).

If a state has a few dozen numbers, as in word problems (DK = 2, DV = JT = 5), a thread holds it in
its registers and computes the recurrence, step after step. Thousands of sequences fill the device.
The kernels of `mosaic_gpu` would mostly multiply padding here.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.sequence import mosaic_gpu
from plstm_seq.ops.sequence.inputs import Inputs
from plstm_seq.ops.sequence.kernel import Limits

# The largest DK * DV * JT: a thread has 255 registers for the state and a step's gates.
STATE_MAX = 96
# These limits are a guess between times on an H100: `chunkwise` was faster on 256 sequences of
# 1,024 steps, and slower on 2,048 sequences of 256 steps and on 256 sequences of 40 steps.
FEW, SHORT = 512, 128


@dataclass(frozen=True)
class MosaicGPUSmall:
    """The kernel; see `kernel.Kernel`.

    Attributes:
        interpret: whether to run interpreted on the CPU, for tests.
    """

    name: ClassVar[str] = "mosaic_gpu_small"
    interpret: bool = False

    def rank(self, inputs: Inputs, platform: str) -> int:
        """Returns a late rank for few long sequences, and the last one for states that it declines.

        Axes that `vmap` maps, such as the members of a sweep, do not count as sequences.
        """
        if platform != "gpu":
            return 0
        if state_size(inputs) > STATE_MAX:
            return 2
        *batch, length = inputs.query.shape[:-2]
        numbers = all(isinstance(size, int) for size in (*batch, length))
        return int(numbers and math.prod(batch) < FEW and length > SHORT)

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform of programs for NVIDIA GPUs."""
        return () if self.interpret else ("cuda",)

    def check_device(self, device: Any) -> None:
        """Declines all devices except Hopper GPUs."""
        if not self.interpret:
            mosaic_gpu.check_device(device)

    def check(self, inputs: Inputs) -> None:
        """Declines what `mosaic_gpu` declines, and states of more than `STATE_MAX` numbers."""
        if not self.interpret:
            mosaic_gpu.check_version()
        check_arguments(inputs)

    def limits(self, core: Inputs) -> Limits:
        """Returns the call's own sizes as limits, so that nothing is cut or padded."""
        DK, DV, JT = core.query.shape[-2], core.value.shape[-2], core.transition.shape[-1]
        return Limits(DK_max=DK, columns_max=DV * JT)

    def chunk_size(self, core: Inputs, requested: int | None) -> int:  # noqa: ARG002
        """Return 1: this kernel goes step by step and has no chunks."""
        if requested is not None:
            raise NotImplementedError(f"there are no chunks: chunk_size is {requested}, not None")
        return 1

    def forward(
        self, core: Inputs, state: Array, *, scale: float, chunk: int, output_dtype: jnp.dtype
    ) -> tuple[Array, Array, Array]:
        """Returns the output, the last state, and the initial state for the backward pass."""
        del chunk
        from plstm_seq.ops.sequence.mosaic_gpu.call import interpreted
        from plstm_seq.ops.sequence.mosaic_gpu_small.threads import forward

        with interpreted(self.interpret):
            output, last = forward(mosaic_gpu.squeeze(core), state, scale=scale, dtype=output_dtype)
        return output, last, state

    def backward(
        self,
        core: Inputs,
        saved: Array,
        output_bar: Array,
        state_bar: Array,
        *,
        scale: float,
        chunk: int,
    ) -> tuple[Inputs, Array]:
        """Returns the cotangents of the inputs and of the initial state."""
        del chunk
        from plstm_seq.ops.sequence.mosaic_gpu.call import interpreted
        from plstm_seq.ops.sequence.mosaic_gpu_small.threads import backward

        with interpreted(self.interpret):
            bars, first_bar = backward(
                mosaic_gpu.squeeze(core), saved, output_bar, state_bar, scale=scale
            )
        return jax.tree.map(lambda bar, like: bar.reshape(like.shape), bars, core), first_bar


def check_arguments(inputs: Inputs) -> None:
    """Declines types and sizes that the kernel does not support.

    Raises:
        NotImplementedError: the type is neither float32 nor bfloat16, a size of a gate is above 8,
            the state is too large, or the batch or the length is symbolic.
    """
    if not all(isinstance(size, int) for size in inputs.query.shape):
        raise NotImplementedError("needs sizes that are numbers, the batch and T too")
    mosaic_gpu.check_arguments(inputs)
    if state_size(inputs) > STATE_MAX:
        raise NotImplementedError(f"supports states with DK * DV * JT up to {STATE_MAX}")


def state_size(inputs: Inputs) -> int:
    """Returns DK * DV * JT."""
    return math.prod(inputs.state_shape[-3:])
