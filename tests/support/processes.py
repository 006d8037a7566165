"""Running a script in a process of its own, with devices of its own choice."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

# Compiling with little care for the code that the CPU runs; what the program computes, moves and
# sends stays the same.
QUICK_FLAGS = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
# XLA aborts on flags that it does not know.
if version("jax").startswith("0.10."):
    QUICK_FLAGS.append("--xla_cpu_use_fusion_emitters=false")

ROOT = Path(__file__).parents[2]


def run_script(script: str, *, devices: int = 1, optimized: bool = False) -> str:
    """Standard output of a Python script; its errors fail the test.

    Args:
        script: the program's text.
        devices: how many CPU devices it sees.
        optimized: whether programs are compiled as for a user, where memory or speed matters.
    """
    flags = [
        f"--xla_force_host_platform_device_count={devices}",
        *([] if optimized else QUICK_FLAGS),
    ]
    environment = {
        **os.environ,
        "JAX_DISABLE_MOST_OPTIMIZATIONS": str(int(not optimized)),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join(flags),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout
