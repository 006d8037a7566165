"""Measures what it would cost the 1D kernels to keep NaN and infinity where the recurrence does.

python benchmarks/not_finite.py

The script times a forward and backward pass of each kernel twice: as it is, and after a check that
all numbers are finite. If they are not, the check hands the work to `chunkwise` (attention has this
check). The script prints both times and their ratio.
"""

import argparse
from typing import Any

import gpu_1d_cases as grid
import jax
from device_time import device_time
from jax import Array

from plstm_seq.ops import plstm_1d
from plstm_seq.ops.not_finite import truth_where_not_finite
from plstm_seq.ops.sequence.inputs import Inputs

NAMES = ("target", "sweep", "word 128", "members")


def guarded(implementation: str) -> Any:
    """Return what `gpu_1d_cases.forward_backward` returns, with a check for non-finite numbers."""

    def op(inputs: Inputs) -> Any:
        return truth_where_not_finite(
            implementation,
            lambda x: plstm_1d(*x, implementation=implementation),
            lambda x: plstm_1d(*x, implementation="chunkwise"),
            inputs,
        )

    def function(inputs: Inputs, cotangent: Array) -> tuple[Array, Inputs]:
        output, vjp = jax.vjp(op, inputs)
        return output, vjp(cotangent)[0]

    return function


def main() -> None:
    """Print one line per case and kernel."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, with the recurrence")
    options = parser.parse_args()
    cases = grid.tiny_cases() if options.tiny else grid.cases()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    for case in (case for case in cases if options.tiny or case.name in NAMES):
        kernels = [name for name in case.implementations if name.startswith("mosaic_gpu")]
        for name in ["recurrent"] if options.tiny else kernels:
            arguments = grid.arguments(case)
            plain, kept = (
                device_time(jax.jit(function), *arguments)
                for function in (grid.forward_backward(implementation=name), guarded(name))
            )
            ratio = kept.milliseconds / plain.milliseconds
            print(
                f"{case.name} {case.dtype} {name}: {plain.milliseconds:.3f} ms, "
                f"guarded {kept.milliseconds:.3f} ms, {ratio:.2f} times"
            )


if __name__ == "__main__":
    main()
