"""The kernels for Hopper GPUs: compiled where there is one, else interpreted where jax can."""

import jax
import jax.numpy as jnp
import numpy as np
import op_1d
import pytest
from op_1d import make, value_and_gradients
from tolerances import AGREEMENT, GRADIENT_AGREEMENT
from unpartitioned import Unpartitioned

from plstm_seq.ops import leading_axes, plstm_1d
from plstm_seq.ops.sequence import api
from plstm_seq.ops.sequence.kernel import implementation_of
from plstm_seq.ops.sequence.mosaic_gpu import VERSION, MosaicGPU
from plstm_seq.ops.sequence.mosaic_gpu_small import MosaicGPUSmall

FORMS = {
    "compiled": implementation_of(MosaicGPU()),
    "interpreted": implementation_of(MosaicGPU(interpret=True)),
    "small_compiled": implementation_of(MosaicGPUSmall()),
    "small_interpreted": implementation_of(MosaicGPUSmall(interpret=True)),
}
needs_interpreter = pytest.mark.skipif(
    jax.__version_info__ < VERSION or jax.default_backend() != "cpu",
    reason="jax 0.11.2 or newer interprets the GPU kernels, on a CPU",
)


def _parametrized(prefix):
    forms = [
        pytest.param(f"{prefix}compiled", marks=pytest.mark.gpu),
        pytest.param(f"{prefix}interpreted", marks=needs_interpreter),
    ]
    return pytest.mark.parametrize("form", forms)


FORM, SMALL_FORM = _parametrized(""), _parametrized("small_")

DIMENSIONS = {
    **op_1d.DIMENSIONS,
    "J2": dict(JK=1, JQ=1, JV=2, JT=2, JO=2),
    "JT2_JV1_JO3": dict(JK=1, JQ=1, JV=1, JT=2, JO=3),
    "J8": dict(JK=1, JQ=1, JV=8, JT=8, JO=8),
    "JT1_JK4_JQ3": dict(JK=4, JQ=3, JV=2, JT=1, JO=1),
}


def register(monkeypatch):
    """Makes the forms implementations by their names, and adds dimensions to `op_1d`'s."""
    if jax.default_backend() == "cpu":
        monkeypatch.setattr(leading_axes, "custom_partitioning", Unpartitioned)
    for name, implementation in FORMS.items():
        monkeypatch.setitem(api.IMPLEMENTATIONS, name, implementation)
    monkeypatch.setattr(op_1d, "DIMENSIONS", DIMENSIONS)


def draw(length, dimensions, dtype, **options):
    inputs, state = make(length, dimensions, **options)
    return jax.tree.map(lambda x: x.astype(dtype), inputs), state.astype(jnp.float32)


def relative_norm(actual, expected):
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert np.isfinite(actual).all()
    assert actual.shape == expected.shape
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def assert_close(actual, expected, tolerance):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True)
    errors = {jax.tree_util.keystr(path): relative_norm(a, b) for (path, a), b in pairs}
    assert {name: error for name, error in errors.items() if not error < tolerance} == {}


def check(form, inputs, state, **options):
    dtype = str(inputs.query.dtype)
    results, gradients = value_and_gradients(inputs, state, implementation=form, **options)
    assert [x.dtype for x in results] == [dtype, jnp.float32]
    assert all(x.dtype == dtype for x in gradients[0] if x is not None)
    double = jax.tree.map(lambda x: x.astype(jnp.float64), (inputs, state))
    expected = value_and_gradients(*double, implementation="recurrent", **options)
    assert_close(results, expected[0], AGREEMENT[dtype])
    assert_close(gradients, expected[1], GRADIENT_AGREEMENT[dtype])


def gradient_of(form):
    def loss(inputs, state):
        return jnp.sum(jnp.sin(plstm_1d(*inputs, initial_state=state, implementation=form)))

    return jax.grad(loss, argnums=(0, 1))
