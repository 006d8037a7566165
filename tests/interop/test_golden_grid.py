"""Every 2D layer, 2D convolution, transformer block and vision model file, in float64."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from golden import Golden, golden_files, load, record, relative_error
from tolerances import GRADIENT_AGREEMENT

from plstm_seq.interop.published import (
    GridLayerArguments,
    VisionArguments,
    load_parameters,
    parameter_name,
    read_config,
)
from plstm_seq.interop.published.fields import Fields
from plstm_seq.interop.published.layers import read_grid_convolution
from plstm_seq.layers.grid import GridConvolution, PLSTM2DConfig

ROUNDING = 1e-14
TYPES = {"dtype": jnp.float64, "param_dtype": jnp.float64}
FILES = golden_files("layer2d_", "layer2dfused_", "conv2d_", "transformer_block_", "vision_")


def sequential(mixer):
    """The op that compiles fastest; the others are held to it elsewhere."""
    if not isinstance(mixer, PLSTM2DConfig):
        return mixer
    return dataclasses.replace(mixer, implementation="recurrent")


def build(golden: Golden) -> nnx.Module:
    """Our module, made from the configuration and the parameters alone."""
    config = golden.meta["config"]
    if golden.name.startswith("conv2d"):
        fields = Fields(config)
        options = read_grid_convolution(fields, config["input_dim"])
        assert fields.leftovers() == []
        features = config["input_dim"]
        make = lambda: GridConvolution(features, options, **TYPES, rngs=nnx.Rngs(0))  # noqa: E731
    else:
        arguments = read_config(config)
        if isinstance(arguments, GridLayerArguments):
            arguments = arguments._replace(config=sequential(arguments.config))
        elif isinstance(arguments, VisionArguments):
            mixer = sequential(arguments.config.mixer)
            config = dataclasses.replace(arguments.config, mixer=mixer)
            arguments = arguments._replace(config=config)
        make = lambda: arguments.build(**TYPES, rngs=nnx.Rngs(0))  # noqa: E731
    module = nnx.eval_shape(make)
    load_parameters(module, golden.params)
    return module


@functools.partial(fast_jit, static_argnums=0)
def run(graph, parameters, x, cotangent):
    """The output, and the gradients of parameters and input."""
    y, pull_back = jax.vjp(lambda p, x: nnx.merge(graph, p)(x), parameters, x)
    return y, *pull_back(cotangent)


@functools.partial(fast_jit, static_argnums=0)
def output(graph, parameters, x):
    return nnx.merge(graph, parameters)(x)


def error(ours, published) -> float:
    """Relative; absolute where the truth is zero, as the gradient of attention's key bias."""
    vanishes = np.abs(published).max() < ROUNDING
    return float(np.abs(ours).max()) if vanishes else relative_error(ours, published)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_agrees_with_published(path):
    golden = load(path)
    graph, parameters = nnx.split(build(golden))
    ((input_name, x),) = golden.inputs.items()
    ((output_name, expected),) = golden.outputs64.items()
    x = x.astype(np.float64)
    # Ours has channels last, whatever the published model takes.
    moved = golden.meta["config"].get("channels_first", False)
    x = np.moveaxis(x, 1, -1) if moved else x
    errors = {}
    if golden.grads64 or golden.param_grads64:
        cotangent = golden.cotangents[output_name].astype(np.float64)
        y, of_parameters, of_input = run(graph, parameters, x, cotangent)
        ours = {".".join(map(str, k)): v[...] for k, v in nnx.to_flat_state(of_parameters)}
        of_input = np.moveaxis(of_input, -1, 1) if moved else of_input
        pairs = {f"gradient of {k}": (of_input, v) for k, v in golden.grads64.items()}
        pairs |= {
            f"gradient of parameter {k}": (ours[parameter_name(k)].reshape(v.shape), v)
            for k, v in golden.param_grads64.items()
        }
        errors = {name: error(*pair) for name, pair in pairs.items()}
    else:
        y = output(graph, parameters, x)
    errors[f"output {output_name}"] = relative_error(y, expected)
    assert input_name in ("x", "pixels")
    record(golden.name, "published 2D options", errors)
    tolerance = GRADIENT_AGREEMENT["float64"]
    assert {name: error for name, error in errors.items() if not error < tolerance} == {}
