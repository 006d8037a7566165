"""The 1D op on a TPU: Pallas kernels, lowered by Mosaic TPU (README.md, section 9).

`forward.py` and `backward.py` hold one kernel each; `gates.py` is the level algebra inside them,
`products.py` what goes through the matrix unit, `layout.py` how arrays lie in memory, `chunk.py`
what both kernels share. All but this file are imported when they first run: Pallas takes long to
import.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.choice import always_first
from plstm_seq.ops.sequence.inputs import Inputs
from plstm_seq.ops.sequence.kernel import Limits

# v5e and v6e: what tests compile the kernels for.
COMPILED_FOR = ("TPU v5 lite", "TPU v6 lite")
DK_MAX = 256
COLUMNS_MAX = 256
GATE_MAX = 8
CHUNK_SIZES = (128, 256)


@dataclass(frozen=True)
class MosaicTPU:
    """The kernel (`kernel.Kernel`), and where it is willing to run.

    Attributes:
        interpret: a `pltpu.InterpretParams` runs it on the CPU, for tests.
    """

    name: ClassVar[str] = "mosaic_tpu"
    interpret: Any = None

    def rank(self, inputs: Inputs, platform: str) -> int:
        """First of all: nothing was measured."""
        return always_first(inputs, platform)

    @property
    def platforms(self) -> tuple[str, ...]:
        """TPUs."""
        return ("tpu",) if self.interpret is None else ()

    def check_device(self, device: Any) -> None:
        """Declines what it was not compiled for, and several TPUs at once outside `shard_map`."""
        if self.interpret is None:
            _check_device(device)

    def check(self, inputs: Inputs) -> None:
        """Declines: `kernel.Kernel.check`."""
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
        """Sublanes in whole registers, and values and outputs no larger than the state."""
        JT, JV, JO = core.transition.shape[-1], core.value.shape[-1], core.mark.shape[-3]
        packed = 4 // core.query.dtype.itemsize
        return Limits(
            DK_max=DK_MAX,
            columns_max=COLUMNS_MAX * JT // max(JT, JV, JO),
            DK_multiple=8 * packed,
            DV_multiple=8,
        )

    def chunk_size(self, core: Inputs, requested: int | None) -> int:  # noqa: ARG002
        """Whole registers of time."""
        if requested is not None and requested not in CHUNK_SIZES:
            raise NotImplementedError(f"chunk_size: got {requested}, expected one of {CHUNK_SIZES}")
        return requested or CHUNK_SIZES[0]

    def forward(
        self, core: Inputs, state: Array, *, scale: float, chunk: int, output_dtype: jnp.dtype
    ) -> tuple[Array, Array, Any]:
        """As `kernel.Kernel.forward` says."""
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
        """As `kernel.Kernel.backward` says."""
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
    # A TPU's compiler knows no `custom_partitioning` (jax issue 38196): a program for several
    # devices would not compile, and here it is not known whether this is one.
    mesh = jax.sharding.get_abstract_mesh()
    inside = not mesh.empty and set(mesh.manual_axes) == set(mesh.axis_names)
    if jax.device_count() > 1 and not inside:
        raise NotImplementedError(
            f"there are {jax.device_count()} TPUs, and plain jit cannot split a kernel over them: "
            "call it inside jax.shard_map"
        )
