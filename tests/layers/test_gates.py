import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from plstm_seq.layers import Gate, GateConfig
from plstm_seq.layers.initializers import Constant, Normal

SHAPE = (2, 1, 3)


def make(num_heads=4, input_dim=8, dtype=None, **options) -> Gate:
    options = {"weight_init": Normal(), "bias_init": Normal(), **options}
    return Gate(num_heads, input_dim, SHAPE, GateConfig(**options), dtype=dtype, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("sub_heads", [1, 2, 4])
def test_a_head_reads_its_block_of_the_input_alone(sub_heads):
    gate = make(weight=True, sub_heads=sub_heads, activation="identity", bias_init=Constant(0.0))
    one_block_each = jnp.repeat(jnp.eye(sub_heads), 8 // sub_heads, axis=1)
    reads = (gate(one_block_each) != 0).any(axis=(2, 3, 4))  # [block, head]
    expected = [[head % sub_heads == block for head in range(4)] for block in range(sub_heads)]
    np.testing.assert_array_equal(reads, expected)


def test_without_weight_it_is_the_bias_for_every_input():
    gate = make(bias_init=Constant(-5.0))
    y = gate(jnp.ones((2, 3, 8)))
    assert y.shape == (2, 3, 4, *SHAPE)
    np.testing.assert_allclose(y, jax.nn.sigmoid(-5.0), rtol=1e-6)
    assert list(nnx.state(gate)) == ["bias"]


@pytest.mark.parametrize("weight", [True, False], ids=["weight", "bias only"])
def test_gates_of_low_precision_inputs_are_float32(weight):
    gate = make(weight=weight, activation="tanh", dtype=jnp.bfloat16)
    x = jax.random.normal(jax.random.key(0), (5, 8), jnp.bfloat16)
    y = gate(x)
    assert y.dtype == jnp.float32
    wide = make(weight=weight, activation="tanh")(x.astype(jnp.float32))
    np.testing.assert_allclose(y, wide, atol=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "relu"}, "activation: got 'relu'"),
        ({"activation": "identity", "activation_scale": 2.0}, "activation_scale: got 2.0"),
        ({"activation_scale": 0.0}, "activation_scale: got 0.0"),
        ({"sub_heads": 0}, "sub_heads: got 0"),
        ({"sub_heads": 3, "weight": True}, "num_heads: got 4, expected a multiple of sub_heads"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_wrong_input():
    with pytest.raises(ValueError, match=r"x: got shape \(3, 7\), expected \[..., 8\]"):
        make()(jnp.ones((3, 7)))
