"""The TPU's own compiler takes the TPU kernel; it fails where a kernel does not fit into VMEM.

It comes with libtpu, which makes jax look for a TPU at every start and warn that there is none, so
it has an environment of its own: `make test` sets it up and names its interpreter.
"""

import json
import os
import subprocess

import pytest
from processes import ROOT

pytestmark = pytest.mark.slow

SUPPORT = ROOT / "tests" / "support"
GIBIBYTE = 2**30


@pytest.mark.parametrize("device", ["v5e", "v6e"])
def test_compiles(device):
    python = os.environ.get("PLSTM_SEQ_TPU_PYTHON")
    if not python:
        pytest.skip("PLSTM_SEQ_TPU_PYTHON names no interpreter that has libtpu")
    done = subprocess.run(
        [python, str(SUPPORT / "tpu_compile.py"), device],
        env={
            **os.environ,
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",
            "JAX_PLATFORMS": "cpu",
            "TPU_SKIP_MDS_QUERY": "1",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # else the second of two processes fails
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert not done.returncode, done.stderr[-5000:]
    records = {record["case"]: record for record in map(json.loads, done.stdout.splitlines())}
    assert len(records) == 15
    assert records["shard_map"]["collectives"] == []
    assert records["J4_bf16"]["forward_temporary"] < 0.15 * GIBIBYTE
    assert records["J4_bf16"]["temporary"] < 0.35 * GIBIBYTE
