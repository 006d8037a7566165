"""Every gate, projection, convolution, norm and scale file of the published implementation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from golden import golden_files, load, record, relative_error
from tolerances import AGREEMENT

from plstm_seq.interop.published import load_parameters, parameter_name
from plstm_seq.interop.published.fields import Fields
from plstm_seq.interop.published.layers import (
    read_convolution,
    read_gate,
    read_norm,
    read_projection,
)
from plstm_seq.layers import CausalConvolution, Gate, HeadProjection, Norm, Scale

TYPES = {"dtype": jnp.float64, "param_dtype": jnp.float64}

GATE_AXES = {
    "source": ("JT", "JK", "JV"),
    "mark": ("JO", "JQ", "JT"),
    "direct": ("JO", "JQ", "JK", "JV"),
}
PROJECTION_AXES = {"query": ("DK", "JQ"), "key": ("DK", "JK"), "value": ("DV", "JV")}

Make = Callable[[], nnx.Module]
Call = Callable[[nnx.Module, jax.Array], jax.Array]


def gate(family: str, config: dict) -> tuple[Make, Call]:
    sizes = {name: config[name] for name in ("num_heads", "input_dim", *GATE_AXES[family])}
    fields = Fields(config)
    options = read_gate(fields, **sizes)
    assert fields.leftovers() == []
    shape = tuple(config[name] for name in GATE_AXES[family])

    def make() -> Gate:
        heads, input_dim = config["num_heads"], config["input_dim"]
        return Gate(heads, input_dim, shape, options, **TYPES, rngs=nnx.Rngs(0))

    return make, lambda module, x: module(x)


def projection(family: str, config: dict) -> tuple[Make, Call]:
    names = ("num_heads", "sub_heads", "input_dim", *PROJECTION_AXES[family])
    fields = Fields(config)
    options = read_projection(fields, **{name: config[name] for name in names})
    assert fields.leftovers() == []
    features, tracking = (config[name] for name in PROJECTION_AXES[family])

    def make() -> HeadProjection:
        return HeadProjection(
            config["num_heads"],
            config["input_dim"],
            features,
            tracking,
            options,
            sub_heads=config["sub_heads"],
            **TYPES,
            rngs=nnx.Rngs(0),
        )

    return make, lambda module, x: module(x)


def convolution(family: str, config: dict) -> tuple[Make, Call]:
    fields = Fields(config)
    options = read_convolution(fields, config["input_dim"])
    assert fields.leftovers() == []

    def make() -> CausalConvolution:
        return CausalConvolution(config["input_dim"], options, **TYPES, rngs=nnx.Rngs(0))

    def call(module: nnx.Module, x: jax.Array) -> jax.Array:
        # One file has its features split into heads.
        return module(x.reshape(*x.shape[:2], -1))[0].reshape(x.shape)

    return make, call


def norm(family: str, config: dict) -> tuple[Make, Call]:
    features, heads = config["input_dim"], config.get("num_heads")
    fields = Fields(config)
    options = read_norm(fields, features, heads)
    assert options is not None
    assert fields.leftovers() == []

    def make() -> Norm:
        return Norm(features, options, num_heads=heads, **TYPES, rngs=nnx.Rngs(0))

    if heads is None:
        return make, lambda module, x: module(x)
    return make, lambda module, x: module(x, head_axis=config["axis"])


def scale(family: str, config: dict) -> tuple[Make, Call]:
    def make() -> Scale:
        return Scale(config["input_dim"], **TYPES, rngs=nnx.Rngs(0))

    return make, lambda module, x: module(x)


BUILDERS = {
    "source": gate,
    "mark": gate,
    "direct": gate,
    "query": projection,
    "key": projection,
    "value": projection,
    "conv1d": convolution,
    "norm": norm,
    "passthrough": scale,
    "scale": scale,
}
FILES = golden_files(*BUILDERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_agrees_with_published(path):
    golden = load(path)
    family = golden.name.split("_")[0]
    make, call = BUILDERS[family](family, golden.meta["config"])
    module = nnx.eval_shape(make)
    load_parameters(module, golden.params)
    graph, parameters = nnx.split(module)

    @fast_jit
    def run(parameters, x, cotangent):
        y, pull_back = jax.vjp(lambda p, x: call(nnx.merge(graph, p), x), parameters, x)
        return y, *pull_back(cotangent)

    x, cotangent = (a.astype(np.float64) for a in (golden.inputs["x"], golden.cotangents["y"]))
    y, parameter_gradients, x_gradient = run(parameters, x, cotangent)

    errors = {"y": relative_error(y, golden.outputs64["y"])}
    if "x" in golden.grads64:
        errors["gradient of x"] = relative_error(x_gradient, golden.grads64["x"])
    ours = {".".join(map(str, k)): v[...] for k, v in nnx.to_flat_state(parameter_gradients)}
    assert len(ours) == len(golden.param_grads64)
    for name, expected in golden.param_grads64.items():
        gradient = ours[parameter_name(name)].reshape(expected.shape)
        errors[f"gradient of {name}"] = relative_error(gradient, expected)
    record(golden.name, "published_l2" if "_l2_" in golden.name else "", errors)
    assert {name: error for name, error in errors.items() if not error < AGREEMENT["float64"]} == {}
