import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from random_parameters import randomised

from plstm_seq.layers import HeadProjection, HeadProjectionConfig


def make(num_heads=2, sub_heads=1, dtype=None, **options) -> HeadProjection:
    config = HeadProjectionConfig(**options)
    types = {"dtype": dtype, "param_dtype": jnp.float32}
    return randomised(
        lambda: HeadProjection(
            num_heads, 8, 4, 2, config, sub_heads=sub_heads, **types, rngs=nnx.Rngs(0)
        )
    )


@pytest.mark.parametrize(("num_heads", "sub_heads"), [(2, 1), (2, 2), (4, 2), (2, 4), (1, 4)])
def test_every_output_reads_one_block_and_every_block_is_read(num_heads, sub_heads):
    projection = make(num_heads=num_heads, sub_heads=sub_heads, bias=False)
    one_block_each = jnp.repeat(jnp.eye(sub_heads), 8 // sub_heads, axis=1)
    y = projection(one_block_each)  # [block, H, D, J]
    assert y.shape == (sub_heads, num_heads, 4, 2)
    reads = (y != 0).reshape(sub_heads, -1)
    assert (reads.sum(axis=0) == 1).all()
    assert (reads.sum(axis=1) == num_heads * 4 * 2 / sub_heads).all()


def test_l2_makes_every_column_of_length_one():
    x = jax.random.normal(jax.random.key(0), (5, 8))
    y = make(normalization="l2")(10 * x)
    np.testing.assert_allclose(jnp.linalg.norm(y, axis=-2), 1.0, atol=1e-3)


def test_published_l2_normalises_the_other_axis():
    x = jax.random.normal(jax.random.key(0), (5, 8))
    y = make(normalization="published_l2")(10 * x)
    np.testing.assert_allclose(jnp.mean(y**2, axis=-1), 1.0, atol=1e-2)


def test_computes_in_the_type_asked_for():
    x = jnp.ones((3, 8))
    assert make(dtype=jnp.bfloat16, normalization="l2")(x).dtype == jnp.bfloat16
    assert make()(x.astype(jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalization": "rms"}, "normalization: got 'rms'"),
        ({"sub_heads": 3}, "input_dim: got 8, expected a multiple of sub_heads = 3"),
        ({"num_heads": 3, "sub_heads": 2}, "num_heads: got 3, expected a multiple of sub_heads"),
        ({"num_heads": 3, "sub_heads": 4}, "sub_heads: got 4, expected a multiple of num_heads"),
        ({"num_heads": 1, "sub_heads": 8}, "features: got 4, expected a multiple of"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_wrong_input():
    with pytest.raises(ValueError, match=r"x: got shape \(3, 7\), expected \[..., 8\]"):
        make()(jnp.ones((3, 7)))
