"""The losses of a short training, on a mesh or on one device."""

import jax
from flax import nnx
from toy import Parity, ToyModel

from plstm_seq.training import TrainingConfig, Uniform, fit

TASK = Parity()


class _Losses:
    def __init__(self):
        self.losses = []

    def start(self, step, steps):
        pass

    def log(self, record):
        self.losses.append(record["loss"])

    def close(self, status):
        pass


def train(mesh=None, folder=None, *, resume=False):
    config = TrainingConfig(
        steps=8,
        batch_size=8,
        steps_per_dispatch=2,
        checkpoint_every=4,
        curriculum=Uniform(2, 6),
        solved=None,
    )
    tracker = _Losses()
    model = ToyModel(width=4, rngs=nnx.Rngs(0))
    fit(
        model,
        TASK.sample,
        config,
        key=jax.random.key(0),
        mesh=mesh,
        folder=folder,
        resume=resume,
        trackers=[tracker],
    )
    return tracker.losses
