"""Prints how much time each kernel of `plstm_1d` takes on a GPU, according to jax's profiler.

python benchmarks/kernels_gpu_1d.py             the target's shape; prints microseconds per call
"""

import argparse

import gpu_1d_cases as grid
import jax
from device_time import kernels


def main() -> None:
    """Print the kernels of the forward pass, and those of forward and backward together."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--case", default="target", help="a case of gpu_1d_cases.py")
    parser.add_argument("--implementation", default="mosaic_gpu")
    options = parser.parse_args()
    case = next(case for case in grid.cases() if case.name == options.case)
    arguments = grid.arguments(case)
    for function in (grid.forward, grid.forward_backward):
        program = jax.jit(function(implementation=options.implementation))
        found = kernels(program, *arguments)
        print(f"{function.__name__}: {sum(found.values()):.0f} us a call on {jax.devices()[0]}")
        for name, duration in found.items():
            print(f"{duration:9.1f} us  {name}")


if __name__ == "__main__":
    main()
