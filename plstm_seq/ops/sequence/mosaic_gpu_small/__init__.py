"""The 1D op with small states on Hopper GPUs: a thread for every sequence (README.md, section 11).

Where a state has a few dozen numbers, as in word problems (DK = 2, DV = JT = 5), a thread holds it
in its registers and runs the recurrence, step after step. Thousands of sequences fill the device;
the kernels of `mosaic_gpu` would mostly multiply padding.
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

# The largest DK * DV * JT: a thread has 255 registers, for this and a step's gates.
STATE_MAX = 96
# A guess between what was timed on an H100: `chunkwise` was faster on 256 sequences of 1,024 steps,
# slower on 2,048 of 256 and on 256 of 40.
FEW, SHORT = 512, 128


@dataclass(frozen=True)
class MosaicGPUSmall:
    """The kernel; see `kernel.Kernel`.

    Attributes:
        interpret: whether to run on the CPU, interpreted, for tests.
    """

    name: ClassVar[str] = "mosaic_gpu_small"
    interpret: bool = False

    def rank(self, inputs: Inputs, platform: str) -> int:
        """Late for few long sequences, last for states that it declines.

        Members of a sweep are not seen, as under `vmap`.
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
        """NVIDIA GPUs."""
        return () if self.interpret else ("cuda",)

    def check_device(self, device: Any) -> None:
        """Declines all but Hopper GPUs."""
        if not self.interpret:
            mosaic_gpu.check_device(device)

    def check(self, inputs: Inputs) -> None:
        """Declines what `mosaic_gpu` declines, and states of more than `STATE_MAX` numbers."""
        if not self.interpret:
            mosaic_gpu.check_version()
        check_arguments(inputs)

    def limits(self, core: Inputs) -> Limits:
        """Any sizes, as they are."""
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
        """Output, last state, and the initial state, all that is kept beside the arguments."""
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
        """Cotangents of the inputs and of the initial state."""
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
        NotImplementedError: neither float32 nor bfloat16, a gate above 8, too large a
            state, or a batch or length that is a symbol.
    """
    if not all(isinstance(size, int) for size in inputs.query.shape):
        raise NotImplementedError("needs sizes that are numbers, the batch and T too")
    mosaic_gpu.check_arguments(inputs)
    if state_size(inputs) > STATE_MAX:
        raise NotImplementedError(f"supports states with DK * DV * JT up to {STATE_MAX}")


def state_size(inputs: Inputs) -> int:
    """DK * DV * JT."""
    return math.prod(inputs.state_shape[-3:])
