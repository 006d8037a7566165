import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plstm_seq.models.blocks import check_dropout, drop_path, dropout

X = jnp.asarray(np.random.default_rng(0).normal(size=(200, 50)) + 3)
KEY = jax.random.key(1)


@settings(max_examples=10, deadline=None)
@given(st.floats(0, 0.95))
def test_entries_are_zero_at_the_rate_and_scaled_else(rate):
    y = np.asarray(dropout(X, jnp.asarray(rate), KEY))
    zero = y == 0
    assert abs(zero.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / X.size) + 1e-12
    np.testing.assert_allclose(y[~zero], np.asarray(X)[~zero] / (1 - rate), rtol=1e-12)


def test_rate_zero_changes_no_bit():
    for dtype in (jnp.float64, jnp.float32, jnp.bfloat16):
        x = X.astype(dtype)
        y = jax.jit(dropout)(x, jnp.zeros((), jnp.float32), KEY)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, x)


def test_the_zeros_are_the_same_in_every_type():
    zeros = [
        np.asarray(dropout(X.astype(dtype), jnp.asarray(0.3, rate), KEY) == 0)
        for dtype, rate in [("float64", "float64"), ("float32", "float32"), ("bfloat16", "float32")]
    ]
    np.testing.assert_array_equal(zeros[0], zeros[1])
    np.testing.assert_array_equal(zeros[0], zeros[2])


def test_rates_and_keys_by_vmap_are_each_alone():
    rates, keys = jnp.array([0.0, 0.2, 0.5]), jax.random.split(KEY, 3)
    together = jax.jit(jax.vmap(dropout, in_axes=(None, 0, 0)))(X, rates, keys)
    alone = [dropout(X, rate, key) for rate, key in zip(rates, keys, strict=True)]
    np.testing.assert_array_equal(together, jnp.stack(alone))


def test_drop_path_leaves_out_whole_entries():
    y = np.asarray(drop_path(X, jnp.asarray(0.3), KEY))
    left_out = (y == 0).all(axis=1)
    assert abs(left_out.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / len(X))
    np.testing.assert_allclose(y[~left_out], np.asarray(X)[~left_out] / 0.7, rtol=1e-6)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_that_is_no_probability_below_one(rate):
    with pytest.raises(ValueError, match="dropout: got"):
        check_dropout(rate)
