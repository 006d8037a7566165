"""A sweep of two groups that trains in seconds."""

from small_run import small_config

from experiments.sweeps import Sweep, product, vary

# Little to compile: no convolution, no matrix exponential.
PLAIN = (
    "transition=diagonal",
    "convolution=null",
    "steps=6",
    "checkpoint_every=3",
    "evaluation.lengths=[4]",
)


def small_sweep(*assignments):
    config = small_config("parity", *PLAIN, *assignments)
    return Sweep(config, tuple(product(vary("transition.dim", [1, 2]), vary("seed", [0, 1]))))
