import dataclasses
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from plstm_seq.layers.initializers import (
    Constant,
    FanIn,
    Initializer,
    Linspace,
    Normal,
    Ones,
    ScaledIdentity,
    Small,
    TruncatedNormal,
    Wang,
    Zeros,
)

KEY = jax.random.key(0)


@pytest.mark.parametrize("kind", get_args(Initializer), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_every_initializer_gives_shape_and_type_and_is_a_value(kind, dtype):
    init = kind()
    x = init(KEY, (2, 4, 4), dtype)
    assert (x.shape, x.dtype) == ((2, 4, 4), dtype)
    np.testing.assert_array_equal(x, init(KEY, (2, 4, 4), dtype))
    assert hash(init) == hash(dataclasses.replace(init))
    fields = {field.name: field for field in dataclasses.fields(init)}
    assert get_args(fields["kind"].type) == (init.kind,)


def test_kinds_are_told_apart():
    kinds = [kind().kind for kind in get_args(Initializer)]
    assert len(set(kinds)) == len(kinds)


def test_constants():
    for init, value in [(Zeros(), 0), (Ones(), 1), (Constant(-5.0), -5)]:
        np.testing.assert_array_equal(init(KEY, (3, 2), jnp.float32), np.full((3, 2), value))


@pytest.mark.parametrize(
    ("init", "shape", "expected"),
    [
        (ScaledIdentity(3.0), (2, 2, 2), [3 * np.eye(2)] * 2),
        (ScaledIdentity(), (4, 2), np.tile(np.eye(2), (2, 1))),
        (ScaledIdentity(), (2, 4), np.tile(np.eye(2), (1, 2))),
        (ScaledIdentity(in_axes=0, out_axes=2), (2, 3, 2), np.eye(2)[:, None, :].repeat(3, axis=1)),
        (ScaledIdentity(in_axes=(1, 2), out_axes=0), (4, 2, 2), np.eye(4).reshape(4, 2, 2)),
    ],
    ids=["batch", "tall", "wide", "axes around a batch axis", "two input axes"],
)
def test_diagonal(init, shape, expected):
    np.testing.assert_array_equal(init(KEY, shape, jnp.float32), expected)


@pytest.mark.parametrize(
    ("init", "shape", "message"),
    [
        (ScaledIdentity(), (2, 3), "shape"),
        (ScaledIdentity(in_axes=-1, out_axes=1), (2, 2), r"in_axes: got \(1,\), expected none"),
        (ScaledIdentity(in_axes=2), (2, 2), "axis: got 2"),
    ],
)
def test_diagonal_of_impossible_shapes(init, shape, message):
    with pytest.raises(ValueError, match=message):
        init(KEY, shape, jnp.float32)


@pytest.mark.parametrize("size", [2, 10, 13, 22, 47])  # the published one fails at most of them
def test_linspace_reaches_both_ends(size):
    x = Linspace(-2.0, 2.0)(KEY, (3, size), jnp.float32)
    np.testing.assert_allclose(x, np.tile(np.linspace(-2, 2, size), (3, 1)), atol=1e-6)


def test_linspace_along_another_axis_and_of_one():
    np.testing.assert_array_equal(
        Linspace(axis=0)(KEY, (3, 2), jnp.float32), [[0, 0], [0.5, 0.5], [1, 1]]
    )
    np.testing.assert_array_equal(Linspace(-1.0, 3.0)(KEY, (2, 1), jnp.float32), [[1], [1]])


@pytest.mark.parametrize(
    ("init", "shape", "stddev"),
    [
        (Normal(1.0, 0.5), (100, 100), 0.5),
        (Small(), (4, 50, 50, 16), np.sqrt(2 / (5 * 16))),
        (Small(axis=-2), (16, 1000), np.sqrt(2 / (5 * 16))),
        (Small(axis=(-2, -1), mup_init_scale=3.0), (1000, 4, 4), 3 * np.sqrt(2 / (5 * 16))),
        (Wang(num_blocks=4), (1000, 16), 2 / 4 / 4),
        (FanIn(2.0), (1000, 16), 2 / 4),
    ],
    ids=["normal", "small", "small kernel", "small two axes", "wang", "fan-in"],
)
def test_standard_deviations(init, shape, stddev):
    x = np.asarray(init(KEY, shape, jnp.float32))
    assert x.std() == pytest.approx(stddev, rel=0.05)
    mean = init.mean if isinstance(init, Normal) else 0
    assert x.mean() == pytest.approx(mean, abs=0.05 * stddev)


def test_truncated_normal_keeps_to_its_bounds():
    x = TruncatedNormal(1.0, 0.5, -1.0, 2.0)(KEY, (10_000,), jnp.float32)
    assert 0.5 <= x.min() < 0.51
    assert 1.99 < x.max() <= 2.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Normal(stddev=-1.0), "stddev: got -1.0"),
        (lambda: TruncatedNormal(lower=1.0, upper=1.0), "lower: got 1.0"),
        (lambda: Wang(num_blocks=0), "num_blocks: got 0"),
        (lambda: Small(mup_init_scale=-1.0), "mup_init_scale: got -1.0"),
        (lambda: FanIn(scale=-1.0), "scale: got -1.0"),
    ],
)
def test_wrong_options(build, message):
    with pytest.raises(ValueError, match=message):
        build()
