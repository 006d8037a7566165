"""Every transition file of the published implementation: outputs and all gradients."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from golden import COMMITTED, Golden, golden_files, load, record, relative_error

from plstm_seq.layers.transition import Factorized, Transition

FILES = golden_files("transition_")
FIELDS = (
    "sub_heads",
    "weight",
    "eigenvalue_representation",
    "eigenvalue_factor",
    "symmetric",
    "normalization_mode",
    "orthogonalization_factor",
)


def is_published_function(golden: Golden) -> bool:
    """Whether only the published normalisation gives what is in the file, and not ours as well.

    Ours does where 16 terms of the exponential series have converged.
    """
    config = golden.meta["config"]
    return (
        config["normalization_mode"] != "exponential_orthogonalization"
        or config["transition_dim"] > 4
        or config["orthogonalization_order"] < 16
        or golden.name.endswith("largeinput")
    )


def tolerance(golden: Golden, *, published: bool) -> float:
    """Of outputs; that of gradients is ten times as large."""
    if not published:
        return 1e-9  # what is left of the series
    name, mode = golden.name, golden.meta["config"]["normalization_mode"]
    if mode == "qr":
        return 1e-5  # the file's own precision: the published code rounds to float32
    if mode == "eigenvalue_restriction" and "weight_J4" in name and "noweight" not in name:
        return 1e-8  # ill-conditioned: float32 and float64 of the file differ by 5 %
    return 1e-12


def module(golden: Golden, *, published: bool) -> Transition:
    config = golden.meta["config"]
    options = {name: config[name] for name in FIELDS}
    if published:
        options |= {
            "published_normalization": True,
            "orthogonalization_order": config["orthogonalization_order"],
        }
    return Transition(
        config["num_heads"],
        config["input_dim"],
        Factorized(dim=config["transition_dim"], **options),
        param_dtype=jnp.float64,
        rngs=nnx.Rngs(0),
    )


def errors(golden: Golden, *, published: bool) -> tuple[float, dict[str, float]]:
    """The relative error of the output, and of the gradient of every parameter and the input."""
    graph, state, rest = nnx.split(module(golden, published=published), nnx.Param, ...)
    flat = dict(nnx.to_flat_state(state))
    assert {name for (name,) in flat} == set(golden.params)
    parameters = {name: jnp.asarray(x, jnp.float64) for name, x in golden.params.items()}

    def call(parameters, x):
        loaded = [((name,), flat[(name,)].replace(value)) for name, value in parameters.items()]
        return nnx.merge(graph, nnx.from_flat_state(loaded), rest)(x)

    # Not compiled as a whole: 42 programs would be, where a few matrix functions are enough.
    y, pull = jax.vjp(call, parameters, jnp.asarray(golden.inputs["x"], jnp.float64))
    by_parameter, by_input = pull(jnp.asarray(golden.cotangents["y"], jnp.float64))
    gradients = {
        name: relative_error(by_parameter[name], expected)
        for name, expected in golden.param_grads64.items()
    }
    gradients["x"] = relative_error(by_input, golden.grads64["x"])
    assert set(gradients) == {*golden.params, "x"}
    return relative_error(y, golden.outputs64["y"]), gradients


def cases():
    """Every file in the published normalisation; in ours, too, committed ones where that agrees."""
    for path in FILES:
        name = path.stem.removeprefix("transition_")
        yield pytest.param(path, True, id=name)
        if path.parent == COMMITTED and not is_published_function(load(path)):
            yield pytest.param(path, False, id=f"{name}-ours")


@pytest.mark.parametrize(("path", "published"), list(cases()))
def test_published_transition(path, published):
    golden = load(path)
    bound = tolerance(golden, published=published)
    output, gradients = errors(golden, published=published)
    named = {"y": output, **{f"gradient of {name}": x for name, x in gradients.items()}}
    record(golden.name, "published_normalization" if published else "", named)
    assert output < bound
    assert {name: error for name, error in gradients.items() if not error <= 10 * bound} == {}
