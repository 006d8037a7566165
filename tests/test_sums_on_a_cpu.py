"""Sums of products on a CPU: those that a part of XLA computes wrongly, or crashes at."""

import os
import subprocess
import sys

import jax
import pytest
from processes import run_script

FOUND = """
import jax
import jax.numpy as jnp
import plstm_seq

numbers = jnp.arange(32_769, dtype=jnp.float32)
rows = jnp.stack([numbers, jnp.zeros_like(numbers), jnp.zeros_like(numbers)], axis=1)
found = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3, dtype=jnp.float32) @ row) ** 2)))(rows)
print(jnp.allclose(found, numbers**2, rtol=1e-6))

left = jnp.ones((3, 1, 2, 2, 8, 8, 8))
print(jax.jit(lambda a, b: jnp.sum(a * b, axis=3))(left, left).sum() == left.size)
"""


def test_they_are_right():
    assert run_script(FOUND, optimized=True).split() == ["True", "True"]


@pytest.mark.skipif(jax.__version_info__ >= (0, 12), reason="no sum comes out wrong")
def test_it_is_said_where_the_option_comes_too_late():
    with pytest.raises(AssertionError, match="import plstm_seq first, or set XLA_FLAGS=--xla_cpu"):
        run_script("import jax; jax.devices(); import plstm_seq")
    run_script("import jax; jax.config.update('jax_enable_x64', True); import plstm_seq")


def test_what_xla_is_told_already_stays():
    told = "--xla_cpu_experimental_ynn_fusion_type=-reduce"
    script = "import jax; jax.devices(); import os, plstm_seq; print(os.environ['XLA_FLAGS'])"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": told}
    command = [sys.executable, "-W", "error", "-c", script]
    assert subprocess.check_output(command, env=environment, text=True).strip() == told
