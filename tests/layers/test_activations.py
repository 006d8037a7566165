import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import golden_files, load, record, relative_error

from plstm_seq.layers.activations import activation, expexp, logsigmoid, soft_cap

PUBLISHED = {
    "ExpExpFunctionLayer": expexp,
    "SigmoidFunctionLayer": activation("sigmoid"),
    "SoftCapFunctionLayer": soft_cap,
    "TanhFunctionLayer": activation("tanh"),
}


@pytest.mark.parametrize("path", golden_files("scalar_"), ids=lambda path: path.stem)
def test_golden_scalar_function(path):
    golden = load(path)
    scale = golden.meta["config"].keys() & {"scale"}
    function = PUBLISHED[golden.meta["config"]["class_name"]]
    options = {name: golden.meta["config"][name] for name in scale}
    x = jnp.asarray(golden.inputs["x"], jnp.float64)
    y, pull = jax.vjp(lambda x: function(x, **options), x)
    (gradient,) = pull(jnp.asarray(golden.cotangents["y"], jnp.float64))
    errors = {
        "y": relative_error(y, golden.outputs64["y"]),
        "gradient of x": relative_error(gradient, golden.grads64["x"]),
    }
    record(golden.name, "", errors)
    assert max(errors.values()) < 1e-14


@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        ("identity", 1.0, [-2.0, 0.0, 3.0]),
        ("tanh", 2.0, 2 * np.tanh([-1.0, 0.0, 1.5])),
        ("logsigmoid", 2.5, (1 / (1 + np.exp([2.0, 0.0, -3.0]))) ** 2.5),
        ("sigmoid", 1.0, 1 / (1 + np.exp([2.0, 0.0, -3.0]))),
        ("expexp", 0.1, np.exp(-0.1 * np.exp([-2.0, 0.0, 3.0]))),
    ],
)
def test_activations_by_name(name, scale, expected):
    y = activation(name, scale)(jnp.array([-2.0, 0.0, 3.0]))
    np.testing.assert_allclose(y, expected, rtol=1e-14)


def test_the_power_of_a_sigmoid_keeps_its_gradient_far_out():
    value, gradient = jax.value_and_grad(logsigmoid)(jnp.float32(-100.0), 0.5)
    np.testing.assert_allclose(value, np.exp(-50.0), rtol=1e-5)
    np.testing.assert_allclose(gradient, 0.5 * np.exp(-50.0), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "scale", "message"), [("relu", 1.0, "name: got 'relu'"), ("tanh", 0.0, "scale: got")]
)
def test_wrong_options(name, scale, message):
    with pytest.raises(ValueError, match=message):
        activation(name, scale)
