"""Where the time of `plstm_1d` goes on a GPU: each kernel's own, by jax's profiler.

python benchmarks/kernels_gpu_1d.py             the target's shape; prints microseconds a call
"""

import argparse
import collections
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_1d_cases as grid
import jax

CALLS = 10


def kernels(function: Callable[..., Any], arguments: tuple) -> dict[str, float]:
    """Microseconds a call that the device spends in each kernel, the longest first."""
    jax.block_until_ready(function(*arguments))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready([function(*arguments) for _ in range(CALLS)])
        (path,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    names = {
        kind: {
            (event["pid"], event.get("tid")): event["args"]["name"]
            for event in events
            if event.get("name") == kind
        }
        for kind in ("process_name", "thread_name")
    }
    processes = {pid: name for (pid, _), name in names["process_name"].items()}
    total: collections.Counter[str] = collections.Counter()
    for event in events:
        if event.get("ph") != "X" or "GPU" not in processes.get(event["pid"], ""):
            continue
        if "Stream" in names["thread_name"].get((event["pid"], event["tid"]), ""):
            total[event["name"]] += event["dur"]
    return {name: duration / CALLS for name, duration in total.most_common()}


def main() -> None:
    """Prints the kernels of the forward pass, and of forward and backward."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--case", default="target", help="a case of gpu_1d_cases.py")
    parser.add_argument("--implementation", default="pallas_gpu")
    options = parser.parse_args()
    case = next(case for case in grid.cases() if case.name == options.case)
    arguments = grid.arguments(case)
    for function in (grid.forward, grid.forward_backward):
        program = jax.jit(function(implementation=options.implementation))
        found = kernels(program, arguments)
        print(f"{function.__name__}: {sum(found.values()):.0f} us a call on {jax.devices()[0]}")
        for name, duration in found.items():
            print(f"{duration:9.1f} us  {name}")


if __name__ == "__main__":
    main()
