"""The 1D op on Hopper GPUs, as Pallas kernels lowered by Mosaic GPU (README.md, section 10).

`states` computes the states at the chunks' starts, `outputs` the outputs and `gradients` the
cotangents. All three compute the levels of the gates themselves (`gates`) and multiply on tensor
cores (`tiles`). They are imported when they first run, because Pallas takes long to import and
older versions of jax lack functions that they need.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.device import gpu_capability
from plstm_seq.ops.sequence.inputs import Inputs
from plstm_seq.ops.sequence.kernel import Limits

VERSION = (0, 11, 2)
CHUNK = 64
# `chunkwise` was faster on an H100 where a state of DK = 2, DV = JT = 5 is padded to 82 times its
# size; at DK = 2, DV = JT = 6, 57 times, it is padded to the same and `chunkwise` saves less.
MOSTLY_PADDING = 50


@dataclass(frozen=True)
class MosaicGPU:
    """The kernel; see `kernel.Kernel`. All small matrices are J x J with J = 1, 2, 4 or 8.

    Attributes:
        interpret: whether to run interpreted on the CPU, for tests.
    """

    name: ClassVar[str] = "mosaic_gpu"
    interpret: bool = False

    def rank(self, inputs: Inputs, platform: str) -> int:
        """Returns a late rank if the kernel would mostly multiply padding."""
        return int(platform == "gpu" and padding(inputs) > MOSTLY_PADDING)

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform of programs for NVIDIA GPUs."""
        return () if self.interpret else ("cuda",)

    def check_device(self, device: Any) -> None:
        """Declines all devices except Hopper GPUs."""
        if not self.interpret:
            check_device(device)

    def check(self, inputs: Inputs) -> None:
        """Declines older versions of jax, float64 and more than 8 dimensions."""
        if not self.interpret:
            check_version()
        check_arguments(inputs)

    def limits(self, core: Inputs) -> Limits:
        """Returns the limits DK = 64 and J * DV = 64, with the same J for all gates."""
        J = next(size for size in (1, 2, 4, 8) if size >= max(_gate_sizes(core)))
        return Limits(
            DK_max=64, columns_max=64, DK_multiple=64, DV_multiple=64 // J, gate_sizes=(J,)
        )

    def chunk_size(self, core: Inputs, requested: int | None) -> int:  # noqa: ARG002
        """Returns 64, the number of rows of one product."""
        if requested not in (None, CHUNK):
            raise NotImplementedError(f"chunks have {CHUNK} steps: chunk_size is {requested}")
        return CHUNK

    def forward(
        self, core: Inputs, state: Array, *, scale: float, chunk: int, output_dtype: jnp.dtype
    ) -> tuple[Array, Array, Array]:
        """Returns output, last state, and the states at the chunks' starts [N, c, 64, 64]."""
        del chunk
        from plstm_seq.ops.sequence.mosaic_gpu.call import interpreted
        from plstm_seq.ops.sequence.mosaic_gpu.outputs import outputs
        from plstm_seq.ops.sequence.mosaic_gpu.states import contributions, walk

        x = squeeze(core)
        with interpreted(self.interpret):
            added, total = contributions(
                x.key, x.value, x.source, x.transition, scale=1.0, backward=False
            )
            states, last = walk(added, total, _flat(state), backward=False)
            output = outputs(x, states, scale=scale, dtype=output_dtype)
        return output, _unflat(last, state.shape), states

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
        from plstm_seq.ops.sequence.mosaic_gpu.gradients import gradients
        from plstm_seq.ops.sequence.mosaic_gpu.states import contributions, walk

        x = squeeze(core)
        with interpreted(self.interpret):
            added, total = contributions(
                x.query, output_bar, x.mark, x.transition, scale=scale, backward=True
            )
            after_bar, first_bar = walk(added, total, _flat(state_bar), backward=True)
            bars = gradients(x, saved, after_bar, output_bar, scale=scale)
        bars = jax.tree.map(lambda bar, like: bar.reshape(like.shape), bars, core)
        return bars, _unflat(first_bar, state_bar.shape)


def check_version() -> None:
    """Declines versions of jax that cannot compile the kernels.

    Raises:
        NotImplementedError: this version of jax is too old.
    """
    if jax.__version_info__ < VERSION:
        raise NotImplementedError(f"needs jax 0.11.2 or newer, this is {jax.__version__}")


def check_device(device: Any) -> None:
    """Declines devices that the kernels are not compiled for.

    Raises:
        NotImplementedError: the device is not a Hopper GPU.
    """
    capability = gpu_capability(device)
    if capability != "9.0":
        raise NotImplementedError(f"needs compute capability 9.0 (Hopper), not {capability}")


def check_arguments(inputs: Inputs) -> None:
    """Declines types and sizes that the kernels do not support.

    Raises:
        NotImplementedError: the type is neither float32 nor bfloat16, or JT, JV or JO is above 8.
    """
    if inputs.query.dtype not in (jnp.float32, jnp.bfloat16):
        raise NotImplementedError(f"supports float32 and bfloat16, not {inputs.query.dtype}")
    for name, size in zip(("JT", "JV", "JO"), _gate_sizes(inputs), strict=True):
        if size > 8:
            raise NotImplementedError(f"supports sizes to 8: {name} is {size}")


def padding(inputs: Inputs) -> float:
    """Returns how many times larger the kernels' [64, 64] states are than the call's states."""
    J = max(_gate_sizes(inputs))
    DK, DV, gates = inputs.query.shape[-2], inputs.value.shape[-2], inputs.transition.shape[-1]
    padded = next((size for size in (1, 2, 4, 8) if size >= J), J)
    tiles = -(-DK // 64) * -(-DV * padded // 64)
    return tiles * 64 * 64 / (DK * DV * gates)


def _gate_sizes(inputs: Inputs) -> tuple[int, int, int]:
    """Returns JT, JV and JO."""
    return inputs.transition.shape[-1], inputs.value.shape[-1], inputs.mark.shape[-3]


def squeeze(core: Inputs) -> Inputs:
    """Return the arguments without the axes JQ and JK, which have size 1."""
    return Inputs(
        core.query[..., 0],
        core.key[..., 0],
        core.value,
        core.source[..., 0, :],
        core.transition,
        core.mark[..., 0, :],
        None if core.direct is None else core.direct[..., 0, 0, :],
    )


def _flat(state: Array) -> Array:
    """Rearranges [N, DK, DV, J] to [N, DK, J * DV]."""
    return state.swapaxes(-1, -2).reshape(*state.shape[:2], -1)


def _unflat(state: Array, shape: tuple[int, ...]) -> Array:
    """Inverts `_flat`."""
    *_, DV, J = shape
    return state.reshape(*state.shape[:2], J, DV).swapaxes(-1, -2)
