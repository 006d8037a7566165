"""Functions that all benchmarks share: time a compiled program, and record where it ran."""

import json
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax

RESULTS = Path(__file__).parent / "results"


class Measurement(NamedTuple):
    """The measurements of one compiled program.

    Attributes:
        milliseconds: The median time of its runs.
        temporary_mib: The memory in MiB that it needs in addition to arguments and results, as
            reported by the compiler.
        compile_seconds: The time of tracing and compiling.
    """

    milliseconds: float
    temporary_mib: float
    compile_seconds: float


def measure(function, *arguments, seconds: float = 1.0, most: int = 20) -> Measurement:
    """Compile a function, run it once, then time it for about `seconds`, at least three times."""
    begin = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - begin
    jax.block_until_ready(compiled(*arguments))
    times: list[float] = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < most):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - begin)
    memory = compiled.memory_analysis()
    temporary = float("nan") if memory is None else memory.temp_size_in_bytes / 2**20
    return Measurement(1e3 * statistics.median(times), temporary, compile_seconds)


def environment() -> dict[str, Any]:
    """Return the device and the versions of packages."""
    packages = {name: version(name) for name in ("jax", "jaxlib", "numpy")}
    return {
        "device": _device_name(),
        "platform": jax.default_backend(),
        "cores": len(_affinity()),
        "python": platform.python_version(),
        **packages,
    }


def write(name: str, rows: list[dict[str, Any]], folder: Path = RESULTS, **about: Any) -> Path:
    """Write rows, with the device and versions, to `NAME.json` in `folder`; return the path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**about, **environment(), "rows": rows}, indent=1) + "\n")
    return path


def _affinity() -> list[int]:
    import os

    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


def _device_name() -> str:
    if jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
