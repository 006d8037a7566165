"""About how much memory a member needs in training, from its shapes: nothing is compiled."""

import math
from typing import Any

import jax
from flax import nnx

from experiments.config import ExperimentConfig
from experiments.overrides import override
from experiments.problems import problem_of
from experiments.problems.base import shapes_of
from experiments.run import new_model
from plstm_seq.ops.choice import UnsupportedError
from plstm_seq.training.step import score

COUNTED = (
    "parameters, gradients, the two moments of Adam and an average if there is one, and what the "
    "backward pass of the longest batch reads, before XLA fuses operations"
)


def member_bytes(config: ExperimentConfig) -> int:
    """Bytes that training one member takes, see `COUNTED`; members of a group add up.

    An upper estimate for choosing a machine. How many members really fit is taken from the
    compiled program when they are trained. An implementation that does not run here, as in a sweep
    for a cluster, is replaced by one that does.
    """
    try:
        return _member_bytes(config)
    except UnsupportedError:
        return _member_bytes(override(config, ["mixer.implementation=null"]))


def _member_bytes(config: ExperimentConfig) -> int:
    model = nnx.eval_shape(lambda: new_model(config))
    graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)
    training = config.training
    problem = problem_of(config.task.make())
    batch = shapes_of(problem, *training.largest_batch)

    def backward(parameters: Any, rest: Any, batch: Any) -> Any:
        def loss(parameters: Any) -> jax.Array:
            merged: Any = nnx.merge(graphdef, parameters, rest, copy=True)
            outputs = merged(batch.inputs)
            return score(outputs, batch.targets, batch.mask, loss=training.loss)[0]

        return jax.vjp(loss, parameters)[1]  # its leaves are what it reads

    copies = 4 if training.average is None else 5
    return copies * _bytes(parameters) + _bytes(jax.eval_shape(backward, parameters, rest, batch))


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
