"""Small mixers with random parameters in float64, and inputs for them."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from random_parameters import randomised

from plstm_seq.layers.mixers import make_mixer

WIDTH, B, T = 8, 2, 6


def small_mixer(config, **options) -> Any:
    """The mixer that a config describes, of `WIDTH` features."""
    options = {"param_dtype": jnp.float64, **options}
    return randomised(lambda: make_mixer(WIDTH, config, **options, rngs=nnx.Rngs(0)))


def mixer_inputs() -> jnp.ndarray:
    """[B, T, WIDTH]."""
    return jnp.asarray(np.random.default_rng(1).normal(size=(B, T, WIDTH)))
