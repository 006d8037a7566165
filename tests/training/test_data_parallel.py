"""One model on several devices: the batch is split, the losses are those of one device."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh
from losses import train
from processes import ROOT, run_function
from toy import Parity, ToyModel

from plstm_seq.training import TrainingConfig, Uniform, data_mesh, fit

pytestmark = pytest.mark.slow

TRAINING = """
import json
from losses import train
from plstm_seq.training import data_mesh
"""


def on_eight_devices():
    return train(data_mesh(8))


def test_eight_devices_train_as_one():
    np.testing.assert_allclose(run_function(on_eight_devices, devices=8), train(), rtol=1e-5)


def test_two_processes_train_as_one_and_resume(tmp_path):
    """They write one folder of checkpoints; resumed, they go on as if they had not stopped."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = (
        "import jax, sys\n"
        f'jax.distributed.initialize("127.0.0.1:{port}", 2, int(sys.argv[1]))\n'
        + TRAINING
        + "first = train(data_mesh(), sys.argv[2])\n"
        + "import shutil, pathlib\n"
        + "from jax.experimental import multihost_utils\n"
        + "if jax.process_index() == 0: shutil.rmtree(pathlib.Path(sys.argv[2]) / '8')\n"
        + "multihost_utils.sync_global_devices('removed')\n"
        + "print(json.dumps([first, train(data_mesh(), sys.argv[2], resume=True)]))\n"
    )
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(rank), str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        ended = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    expected = train()
    for process, (output, errors) in zip(processes, ended, strict=True):
        assert process.returncode == 0, errors
        whole, resumed = json.loads(output.splitlines()[-1])
        np.testing.assert_allclose(whole, expected, rtol=1e-5)
        assert resumed == whole[2:]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "4", "8", "sealed.json"]


@pytest.mark.parametrize(
    ("axes", "batch_size", "message"),
    [(("data",), 3, "expected a multiple of the 2 devices"), (("x",), 4, "'data'")],
)
def test_refuses_a_mesh_that_does_not_fit(axes, batch_size, message):
    devices = np.array([*jax.devices()[:1]] * 2)
    mesh = Mesh(devices, axes)
    config = TrainingConfig(steps=1, batch_size=batch_size, curriculum=Uniform(2, 4), solved=None)
    model = ToyModel(width=4, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=message):
        fit(model, Parity().sample, config, key=jax.random.key(0), mesh=mesh)
