"""About how much memory a member needs in training, from its shapes: nothing is compiled."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.config import ExperimentConfig
from experiments.run import new_model
from plstm_seq.training.step import score

COUNTED = (
    "parameters, gradients and the two moments of Adam, and what the backward pass of the longest "
    "batch reads, before XLA fuses operations"
)


def member_bytes(config: ExperimentConfig) -> int:
    """Bytes that training one member takes, see `COUNTED`; members of a group add up.

    An upper estimate for choosing a machine. How many members really fit is taken from the
    compiled program when they are trained.
    """
    model = nnx.eval_shape(lambda: new_model(config))
    graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)
    shape = (config.training.batch_size, config.training.curriculum.longest)
    inputs = jax.ShapeDtypeStruct(shape, jnp.int32)

    def backward(parameters: Any, rest: Any, inputs: jax.Array) -> Any:
        def loss(parameters: Any) -> jax.Array:
            merged: Any = nnx.merge(graphdef, parameters, rest, copy=True)
            return score(merged(inputs), inputs, jnp.ones(inputs.shape, bool))[0]

        return jax.vjp(loss, parameters)[1]  # its leaves are what it reads

    return 4 * _bytes(parameters) + _bytes(jax.eval_shape(backward, parameters, rest, inputs))


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
