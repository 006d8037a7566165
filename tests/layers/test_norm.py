import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from plstm_seq.layers import Norm, NormConfig
from plstm_seq.layers.initializers import Constant, Normal

X = np.random.default_rng(0).normal(loc=1.0, size=(2, 5, 6))


def make(num_heads=None, dtype=None, **options) -> Norm:
    config = NormConfig(scale_init=Normal(1.0), bias_init=Normal(), **options)
    return Norm(
        6, config, num_heads=num_heads, dtype=dtype, param_dtype=jnp.float64, rngs=nnx.Rngs(0)
    )


def statistics(x: np.ndarray, kind: str, eps: float) -> np.ndarray:
    if kind == "layer":
        x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)


@pytest.mark.parametrize("kind", ["rms", "layer"])
@pytest.mark.parametrize("scale", [True, False], ids=["scale", "no scale"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("num_heads", [None, 3], ids=["one", "heads"])
def test_every_option(kind, scale, bias, num_heads):
    norm = make(num_heads, kind=kind, scale=scale, bias=bias, eps=0.01)
    x = X if num_heads is None else X.reshape(2, 5, 3, 2)
    expected = statistics(x, kind, 0.01).reshape(X.shape)
    if scale:
        expected = expected * np.asarray(norm.norm.scale[...])
    if bias:
        holder = norm.norm if kind == "layer" else norm
        expected = expected + np.asarray(holder.bias[...])
    np.testing.assert_allclose(norm(jnp.asarray(x)).reshape(X.shape), expected, atol=1e-12)
    names = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(norm))}
    assert len(names) == scale + bias


@pytest.mark.parametrize("head_axis", [1, 2, -2, None])
def test_heads_may_stand_anywhere(head_axis):
    norm = make(3, bias=True)
    heads_last = jnp.asarray(X.reshape(2, 5, 3, 2))
    expected = norm(heads_last)
    if head_axis is None:
        y = norm(jnp.asarray(X), head_axis=None).reshape(2, 5, 3, 2)
    else:
        y = jnp.moveaxis(
            norm(jnp.moveaxis(heads_last, 2, head_axis), head_axis=head_axis), head_axis, 2
        )
    np.testing.assert_allclose(y, expected, atol=1e-14)


def test_a_large_mean_costs_no_digits():
    norm = Norm(6, NormConfig(kind="layer"), rngs=nnx.Rngs(0))
    x = jnp.asarray(X, jnp.float32)
    np.testing.assert_allclose(norm(x + 1000.0), norm(x), atol=1e-3)


def test_computes_in_the_type_asked_for():
    for kind in ("rms", "layer"):
        norm = make(3, kind=kind, bias=True, dtype=jnp.bfloat16)
        y = norm(jnp.ones((4, 3, 2)))
        assert y.dtype == jnp.bfloat16


def test_errors():
    with pytest.raises(ValueError, match="kind: got 'batch'"):
        NormConfig(kind="batch")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="eps: got -1"):
        NormConfig(eps=-1)
    with pytest.raises(ValueError, match="num_features: got 6, expected a multiple of num_heads"):
        make(4)
    with pytest.raises(ValueError, match=r"x: got shape \(2, 5\), expected \[..., 6\]"):
        make()(jnp.ones((2, 5)))
    with pytest.raises(ValueError, match=r"got shape \(2, 2, 3\), expected \[..., 3, 2\]"):
        make(3)(jnp.ones((2, 2, 3)))


def test_initialisers_are_used():
    config = NormConfig(kind="layer", bias=True, scale_init=Constant(2.0), bias_init=Constant(3.0))
    norm = Norm(6, config, num_heads=2, rngs=nnx.Rngs(0))
    assert (norm.norm.scale[...] == 2).all()
    assert (norm.norm.bias[...] == 3).all()
