"""Which members share one compiled program: those that differ only in arrays.

What fills an array, or is one, is a *leaf*: the seed, the learning rate, the weight decay, and in
the model every `Initializer` and the fields that a config lists in `leaf_fields`. How a member is
evaluated does not touch its training. All else decides shapes and operations.
"""

import json
from collections.abc import Hashable
from dataclasses import replace

from experiments.config import ExperimentConfig
from plstm_seq.layers.configured import structure


def group_key(config: ExperimentConfig) -> Hashable:
    """Something that is equal for configs whose runs can be trained by one program."""
    training = config.training
    return (
        config.task.name,
        json.dumps(config.task.options, sort_keys=True),
        structure(config.model),
        config.dtype,
        replace(training, optimizer=training.optimizer.without_leaves()),
    )
