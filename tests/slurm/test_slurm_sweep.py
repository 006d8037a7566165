"""A sweep through a real Slurm of one node, whose jobs are preempted, killed and timed out.

Runs where Slurm can be started: as root, with Debian's packages (`slurm_node.py install`).
"""

import json
import subprocess
import threading
import time

import jax
import numpy as np
import pytest
import slurm_node
from flax import nnx
from small_run import small_config

from experiments import console
from experiments.sweeps import Sweep, create_sweep, run_sweep, slurm, status
from experiments.sweeps.executors import GroupsFailedError
from experiments.sweeps.slurm import SlurmExecutor, SlurmOptions

MISSING = slurm_node.missing()
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(MISSING is not None, reason=f"no Slurm here: {MISSING}"),
]

# Long enough to be caught in the middle, with little to compile.
LONG = (
    "steps=2000",
    "checkpoint_every=100",
    "steps_per_dispatch=5",
    "curriculum.minimum=5",
    "solved=null",
)
SETTINGS = ({"width": 4}, {"width": 8})
TIMEOUT = 300


@pytest.fixture(scope="module")
def node():
    with slurm_node.SlurmNode() as node:
        yield node


@pytest.fixture
def environment(node, tmp_path, monkeypatch):
    """For Slurm's commands, its jobs and the workers beside it: to the same bits, and quickly."""
    for name in [name for name in node.environment if name.startswith(("SLURM_", "JAX_"))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_CONF", node.environment["SLURM_CONF"])
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


@pytest.fixture
def announced(monkeypatch):
    """The executor's lines; printed, too, with the time: the log of the test."""
    lines = []
    start = time.monotonic()

    def announce(line):
        lines.append(line)
        print(f"{time.monotonic() - start:6.1f} s  {line}")

    monkeypatch.setattr(slurm, "_announce", announce)
    return lines


class Interference(threading.Thread):
    """Strikes the job of a group when it has trained for a while."""

    def __init__(self, folder, group, *command):
        super().__init__(daemon=True)
        self._folder = folder
        self._group = group
        self._command = command
        self.records = ()

    @property
    def run_of_group(self):
        (member,) = self._folder.plan.group(self._group).members
        return self._folder.run(member)

    def run(self):
        before = self._step()
        deadline = time.monotonic() + TIMEOUT
        while self._step() < before + 500 and time.monotonic() < deadline:
            time.sleep(0.1)
        names = [path.name for path in self.run_of_group.checkpoints.iterdir()]
        saved = max(int(name) for name in names if name.isdigit())
        self.records = [r for r in self.run_of_group.metrics if r["step"] <= saved]
        jobs = json.loads((self._folder.path / "slurm" / "jobs.json").read_text())
        command = [word.format(job=jobs[self._group]) for word in self._command]
        console.announce(f"{self._group} is at step {self._step()}: {' '.join(command)}")
        subprocess.run(command, check=True)

    def _step(self):
        metrics = self.run_of_group.metrics
        return metrics[-1]["step"] if metrics else 0

    def assert_resumed(self):
        """Records hold times: those of steps taken twice would differ."""
        assert len(self.records) > 20
        assert self.run_of_group.metrics[: len(self.records)] == self.records


def struck(executor, folder, *interferences):
    for interference in interferences:
        interference.start()
    try:
        run_sweep(folder.path, executor=executor)
    finally:
        for interference in interferences:
            interference.join()


def assert_same(one, other):
    """All that two sweeps end with is the same, to the bit; but for times."""
    for member in one.plan.members:
        first, second = one.run(member), other.run(member)
        losses = [[record["loss"] for record in run.metrics] for run in (first, second)]
        np.testing.assert_array_equal(*losses)
        assert first.evaluation.equals(second.evaluation)
        states = [jax.tree.leaves(nnx.state(run.model)) for run in (first, second)]
        for pair in zip(*states, strict=True):
            np.testing.assert_array_equal(*pair)


def test_a_sweep_is_preempted_killed_and_timed_out(environment, tmp_path, announced):
    config = small_config("parity", *LONG)
    folder = create_sweep(Sweep(config, SETTINGS), tmp_path / "through_slurm")
    executor = SlurmExecutor(SlurmOptions(time=30, cpus=1, signal_seconds=60))

    preempted = Interference(folder, "g00", "scontrol", "requeue", "{job}")
    killed = Interference(folder, "g01", "scancel", "--signal=KILL", "{job}.0")
    with pytest.raises(GroupsFailedError, match="1 of 2 groups did not end well: g01 failed"):
        struck(executor, folder, preempted, killed)
    assert any(line.startswith("g00: pending again") for line in announced)
    assert [row.status for row in status(folder.path)] == ["finished", "stopped"]

    announced.clear()
    timed_out = Interference(folder, "g01", "scancel", "--signal=USR2", "{job}")
    struck(executor, folder, timed_out)
    assert any(line.startswith("g01: pending again") for line in announced)
    assert not any("g00" in line for line in announced)
    assert [row.status for row in status(folder.path)] == ["finished", "finished"]
    for one in (preempted, killed, timed_out):
        one.assert_resumed()

    alone = create_sweep(Sweep(config, SETTINGS), tmp_path / "alone")
    run_sweep(alone.path, executor="processes", max_parallel=2)
    assert_same(folder, alone)
