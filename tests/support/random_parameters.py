"""Modules with random parameters, made without compiling a single initialiser."""

from collections.abc import Callable
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from plstm_seq.layers.configured import fill_hyperparameters

M = TypeVar("M", bound=nnx.Module)


def randomised(make: Callable[[], M], seed: int = 0) -> M:
    """A module whose parameters are 0.3 * normal, those named scale 1 + 0.3 * normal."""
    rng = np.random.default_rng(seed)
    module = nnx.eval_shape(make)
    filled = []
    for path, variable in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        values = 0.3 * rng.normal(size=variable.shape) + (path[-1] == "scale")
        filled.append((path, variable.replace(jnp.asarray(values, variable.dtype))))
    nnx.update(module, nnx.from_flat_state(filled))
    fill_hyperparameters(module)
    return module
