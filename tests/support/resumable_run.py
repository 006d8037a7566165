"""A short training that can be run in another process and killed: `resumable_run.py FOLDER`."""

import runpy
import sys
import time
from pathlib import Path

import jax
from flax import nnx
from toy import Parity, ToyModel

from plstm_seq.training import JsonlTracker, OptimizerConfig, Staged, TrainingConfig, fit

TASK = Parity()  # one task: programs are compiled for its `sample`
CONFIG = TrainingConfig(
    steps=40,
    batch_size=4,
    steps_per_dispatch=4,
    checkpoint_every=10,
    optimizer=OptimizerConfig(warmup_steps=5),
    curriculum=Staged(stages=((3, 15), (6, 25)), smallest_bucket=4),
    solved=None,
)


class HangAfter:
    """Stops the run without ending it, after a step whose record is written and not yet safe."""

    def __init__(self, step):
        self.step = step

    def start(self, step, steps):
        pass

    def log(self, record):
        while record["step"] >= self.step:
            time.sleep(60)

    def close(self, status):
        pass


def train(folder, *trackers, resume=False):
    folder = Path(folder)
    model = ToyModel(width=4, rngs=nnx.Rngs(0))
    result = fit(
        model,
        TASK.sample,
        CONFIG,
        key=jax.random.key(0),
        folder=folder / "checkpoints",
        resume=resume,
        trackers=[JsonlTracker(folder / "metrics.jsonl"), *trackers],
    )
    return model, result


if __name__ == "__main__":
    # Compile as the tests do: to the same bits.
    runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))
    train(sys.argv[1], HangAfter(34))
