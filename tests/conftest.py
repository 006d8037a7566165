"""Tests run on the CPU, with float64 available; what is meant to be float32 says so.

Programs are compiled with few optimisations, since most of the suite's time is compiling; what
depends on the optimised program (memory) is tested in processes of its own. Tests
marked `gpu` need a Hopper GPU: `pytest -m gpu`.
"""

import gc
import os
import signal
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

# Halves the time that compiling for a CPU takes. XLA aborts on flags that it does not know.
if version("jax").startswith("0.10."):
    flags = (os.environ.get("XLA_FLAGS", ""), "--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join(flags).strip()
# Read by jax here and in the programs that tests start.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # no lines of Python in compiled programs

import jax
import pytest

jax.config.update("jax_enable_x64", True)

# Tracing makes many small objects and few circles of them: looking for circles, as often as Python
# does by itself, takes a sixth of the suite's time.
gc.set_threshold(200_000, 50, 100)

# Under nohup and in the background of a script signals are ignored, here and in what tests start.
for number, handler in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# Linux gives a process 65,530 mappings of memory; a compiled training takes some 350 of them, and
# the compiler crashes when there are no more.
MOST_MAPPINGS = 30_000
MAPPINGS = Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def _forget_programs() -> Iterator[None]:
    """Forgets what was compiled before there is no room for more."""
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs a GPU where there is none."""
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if needing and jax.default_backend() != "gpu":
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
