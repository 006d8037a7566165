"""The 1D op on a TPU: Pallas kernels, lowered by Mosaic TPU (README.md, section 9).

`forward.py` and `backward.py` contain one kernel each. `gates.py` is the level algebra inside them,
`products.py` has the products of the matrix unit, `layout.py` the layout of arrays in memory, and
`chunk.py` what both kernels share. All files except this one are imported when a kernel first runs,
because Pallas takes long to import.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.choice import always_first
from plstm_seq.ops.sequence.inputs import Inputs
from plstm_seq.ops.sequence.kernel import Limits

# The tests compile the kernels for v5e and v6e.
COMPILED_FOR = ("TPU v5 lite", "TPU v6 lite")
DK_MAX = 256
COLUMNS_MAX = 256
GATE_MAX = 8
CHUNK_SIZES = (128, 256)


@dataclass(frozen=True)
class MosaicTPU:
    """The kernel (`kernel.Kernel`), with the devices and calls that it supports.

    Attributes:
        interpret: a `pltpu.InterpretParams` to run the kernel on the CPU, for tests.
    """

    name: ClassVar[str] = "mosaic_tpu"
    interpret: Any = None

    def rank(self, inputs: Inputs, platform: str) -> int:
        """Returns the first rank, since nothing was measured."""
        return always_first(inputs, platform)

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform of programs for TPUs."""
        return ("tpu",) if self.interpret is None else ()

    def check_device(self, device: Any) -> None:
        """Declines untested kinds of device, and several TPUs at once outside `shard_map`."""
        if self.interpret is None:
            _check_device(device)

    def check(self, inputs: Inputs) -> None:
        """Declines unsupported calls; see `kernel.Kernel.check`."""
        dtype = inputs.query.dtype
        if dtype not in (jnp.float32, jnp.bfloat16):
            raise NotImplementedError(f"inputs: got {dtype}, expected float32 or bfloat16")
        sizes = {
            "JT": inputs.transition.shape[-1],
            "JV": inputs.value.shape[-1],
            "JO": inputs.mark.shape[-3],
        }
        for letter, size in sizes.items():
            if size > GATE_MAX:
                raise NotImplementedError(f"{letter} is {size}, above {GATE_MAX}")

    def limits(self, core: Inputs) -> Limits:
        """Returns limits: sublanes fill registers, values and outputs are no larger than states."""
        JT, JV, JO = core.transition.shape[-1], core.value.shape[-1], core.mark.shape[-3]
        packed = 4 // core.query.dtype.itemsize
        return Limits(
            DK_max=DK_MAX,
            columns_max=COLUMNS_MAX * JT // max(JT, JV, JO),
            DK_multiple=8 * packed,
            DV_multiple=8,
        )

    def chunk_size(self, core: Inputs, requested: int | None) -> int:  # noqa: ARG002
        """Returns a number of steps that fills whole registers."""
        if requested is not None and requested not in CHUNK_SIZES:
            raise NotImplementedError(f"chunk_size: got {requested}, expected one of {CHUNK_SIZES}")
        return requested or CHUNK_SIZES[0]

    def forward(
        self, core: Inputs, state: Array, *, scale: float, chunk: int, output_dtype: jnp.dtype
    ) -> tuple[Array, Array, Any]:
        """Runs the forward kernel; see `kernel.Kernel.forward`."""
        from plstm_seq.ops.sequence.mosaic_tpu.forward import forward

        return forward(
            core,
            state,
            scale=scale,
            chunk=chunk,
            output_dtype=output_dtype,
            interpret=self.interpret,
        )

    def backward(
        self,
        core: Inputs,
        saved: Any,
        output_bar: Array,
        state_bar: Array,
        *,
        scale: float,
        chunk: int,
    ) -> tuple[Inputs, Array]:
        """Runs the backward kernel; see `kernel.Kernel.backward`."""
        from plstm_seq.ops.sequence.mosaic_tpu.backward import backward

        return backward(
            core,
            saved,
            output_bar,
            state_bar,
            scale=scale,
            chunk=chunk,
            interpret=self.interpret,
        )


def _check_device(device: Any) -> None:
    if device.platform != "tpu":
        raise NotImplementedError(f"needs a TPU, the default device is {device}")
    if device.device_kind not in COMPILED_FOR:
        raise NotImplementedError(
            f"compiled for {' and '.join(COMPILED_FOR)} alone, not for {device.device_kind}"
        )
    # A TPU's compiler does not support `custom_partitioning` (jax issue 38196), so that a program
    # for several devices would not compile. Here it is unknown whether the program is for several.
    mesh = jax.sharding.get_abstract_mesh()
    inside = not mesh.empty and set(mesh.manual_axes) == set(mesh.axis_names)
    if jax.device_count() > 1 and not inside:
        raise NotImplementedError(
            f"there are {jax.device_count()} TPUs, and plain jit cannot split a kernel over them: "
            "call it inside jax.shard_map"
        )
