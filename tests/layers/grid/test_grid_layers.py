"""2D convolution and attention against plain formulas."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import relative_error
from random_parameters import randomised
from tolerances import AGREEMENT

from plstm_seq.layers import PLSTM1DConfig
from plstm_seq.layers.grid import (
    GridAttention,
    GridAttentionConfig,
    GridConvolution,
    GridConvolutionConfig,
    make_grid_mixer,
)

TYPES = {"dtype": jnp.float64, "param_dtype": jnp.float64}
X = np.random.default_rng(0).normal(size=(2, 4, 5, 6))


@pytest.mark.parametrize(
    ("size", "causal", "before"),
    [
        ((3, 3), False, (1, 1)),
        ((2, 4), False, (1, 2)),
        ((2, 4), True, (1, 3)),
        ((1, 1), True, (0, 0)),
    ],
)
def test_convolution_is_a_sum_over_neighbours(size, causal, before):
    config = GridConvolutionConfig(kernel_size=size, causal=causal)
    layer = randomised(lambda: GridConvolution(6, config, **TYPES, rngs=nnx.Rngs(0)))
    kernel, expected = np.asarray(layer.kernel[...]), np.zeros_like(X)
    for x, y in np.ndindex(4, 5):
        for i, j in np.ndindex(*size):
            a, b = x + i - before[0], y + j - before[1]
            if 0 <= a < 4 and 0 <= b < 5:
                expected[:, x, y] += kernel[i, j, 0] * X[:, a, b]
    expected += np.asarray(layer.bias[...])
    assert relative_error(layer(jnp.asarray(X)), expected) < AGREEMENT["float64"]


def test_attention_reads_all_cells():
    config = GridAttentionConfig(num_heads=2)
    layer = randomised(lambda: GridAttention(6, config, **TYPES, rngs=nnx.Rngs(0)))
    cells = X.reshape(2, 20, 6)
    query, key, value = (
        np.asarray(part(jnp.asarray(cells))).reshape(2, 20, 2, 3)
        for part in (layer.query, layer.key, layer.value)
    )
    scores = np.exp(np.einsum("bthd,bshd->bhts", query, key) / np.sqrt(3))
    weights = scores / scores.sum(-1, keepdims=True)
    read = np.einsum("bhts,bshd->bthd", weights, value).reshape(2, 20, 6)
    expected = np.asarray(layer.outprojection(jnp.asarray(read)))
    assert relative_error(layer(jnp.asarray(X)).reshape(2, 20, 6), expected) < AGREEMENT["float64"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GridConvolutionConfig(kernel_size=(3, 0)), ValueError, r"kernel_size\[1\]: got 0"),
        (lambda: GridAttentionConfig(num_heads=0), ValueError, "num_heads: got 0"),
        (lambda: GridAttentionConfig(implementation="flash"), ValueError, "got 'flash'"),
        (
            lambda: GridAttention(6, GridAttentionConfig(num_heads=4), rngs=nnx.Rngs(0)),
            ValueError,
            "expected a multiple of num_heads",
        ),
        (
            lambda: make_grid_mixer(6, PLSTM1DConfig(), "P", rngs=nnx.Rngs(0)),
            TypeError,
            "got PLSTM1DConfig",
        ),
    ],
    ids=["kernel", "heads", "implementation", "features", "mixer"],
)
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()
