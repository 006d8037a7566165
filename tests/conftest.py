"""Tests run on the CPU, with float64 available; what is meant to be float32 says so.

Programs are compiled with few optimisations, since most of the suite's time is compiling; what
depends on the optimised program (memory, end to end runs) is tested in processes of its own. Tests
marked `gpu` need a Hopper GPU: `pytest -m gpu`.
"""

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs a GPU where there is none."""
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if needing and jax.default_backend() != "gpu":
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
