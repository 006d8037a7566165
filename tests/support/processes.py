"""Running a script, or a function, in a process of its own, with devices of its own choice."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

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


def run_function(
    function: Callable[..., Any], *arguments: Any, devices: int = 1, optimized: bool = False
) -> Any:
    """What a function of a test file returns in a process of its own; its errors fail the test.

    Args:
        function: stands at the top of its file, which the process imports. Float64 is on where the
            function turns it on.
        arguments: of the function; they and what it returns pass through JSON.
        devices: see `run_script`.
        optimized: see `run_script`.
    """
    script = f"""
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("elsewhere", {inspect.getfile(function)!r})
sys.modules["elsewhere"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(json.dumps(module.{function.__name__}(*json.loads({json.dumps(arguments)!r}))))
"""
    printed = run_script(script, devices=devices, optimized=optimized)
    return json.loads(printed.splitlines()[-1])
