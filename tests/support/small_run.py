"""A config that trains in seconds."""

from experiments import default_config, override

SMALL = (
    "width=8",
    "num_heads=1",
    "implementation=recurrent",
    "steps=6",
    "steps_per_dispatch=2",
    "checkpoint_every=2",
    "training.batch_size=4",
    "curriculum=uniform",
    "curriculum.maximum=5",
    "evaluation.lengths=[4, 9]",
    "evaluation.num_sequences=6",
    "evaluation.batch_size=3",
    "evaluation.chunk_size=4",
)


def small_config(task="parity", *assignments):
    return override(default_config(task), [*SMALL, *assignments])
