import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from plstm_seq.layers import CausalConvolution, ConvolutionConfig

X = np.random.default_rng(0).normal(size=(2, 7, 3))


def make(kernel_size=4, bias=True, dtype=None) -> CausalConvolution:
    config = ConvolutionConfig(kernel_size=kernel_size, bias=bias)
    conv = CausalConvolution(3, config, dtype=dtype, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    if bias:
        conv.bias[...] = jnp.arange(3.0)
    return conv


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kernel_size", [1, 2, 4, 9])
def test_is_a_convolution_of_each_feature(kernel_size, bias):
    conv = make(kernel_size, bias)
    y, history = conv(jnp.asarray(X))
    for b in range(2):
        for i in range(3):
            kernel = np.asarray(conv.kernel[:, 0, i])[::-1]
            expected = np.convolve(X[b, :, i], kernel)[:7] + (i if bias else 0)
            np.testing.assert_allclose(y[b, :, i], expected, atol=1e-12)
    padded = np.concatenate([np.zeros((2, kernel_size - 1, 3)), X], axis=1)
    np.testing.assert_array_equal(history, padded[:, 7:])


@pytest.mark.parametrize("kernel_size", [1, 3, 6])
@pytest.mark.parametrize("cut", [1, 2, 6])
def test_pieces_agree_with_the_whole(kernel_size, cut):
    conv = make(kernel_size)
    whole, last = conv(jnp.asarray(X))
    first, history = conv(jnp.asarray(X[:, :cut]))
    second, last_of_pieces = conv(jnp.asarray(X[:, cut:]), history)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=1e-14)
    np.testing.assert_array_equal(last, last_of_pieces)


def test_types():
    y, history = make(dtype=jnp.bfloat16)(jnp.asarray(X))
    assert y.dtype == history.dtype == jnp.bfloat16


def test_works_under_jit_and_grad():
    conv = make()
    gradient = jax.jit(jax.grad(lambda x: conv(x)[0].sum()))(jnp.asarray(X))
    assert (gradient != 0).all()


def test_errors():
    with pytest.raises(ValueError, match="kernel_size: got 0"):
        ConvolutionConfig(kernel_size=0)
    with pytest.raises(ValueError, match=r"x: got shape \(2, 7\), expected \[B, T, 3\]"):
        make()(jnp.ones((2, 7)))
    with pytest.raises(ValueError, match=r"history: got shape \(2, 2, 3\), expected \[2, 3, 3\]"):
        make()(jnp.asarray(X), jnp.ones((2, 2, 3)))
