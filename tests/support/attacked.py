"""Small runs of parity, and commands and processes, for tests of docs/reliability.md."""

import os
import subprocess
import sys
import time
from pathlib import Path

from small_run import small_config
from typer.testing import CliRunner

from experiments.cli import app

PLAIN = ("transition=diagonal", "convolution=null", "steps=6", "checkpoint_every=2")
REPOSITORY = Path(__file__).parents[2]


def config(*assignments):
    return small_config("parity", *PLAIN, *assignments)


def command(*words, columns="200"):
    return CliRunner().invoke(app, list(map(str, words)), env={"COLUMNS": columns})


class Then:
    """Does something once a record of a step is written."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def start(self, step, steps):
        pass

    def log(self, record):
        if record["step"] == self.step:
            self.act()

    def close(self, status):
        pass


SLOW = (*PLAIN, "steps=100000", "checkpoint_every=50000", "width=8", "num_heads=1",
        "curriculum=uniform", "curriculum.maximum=5", "training.batch_size=4",
        "implementation=recurrent", "steps_per_dispatch=2", "solved=null")  # fmt: skip


def start(*words, cwd, **options):
    script = "from experiments.cli import main; main()"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
