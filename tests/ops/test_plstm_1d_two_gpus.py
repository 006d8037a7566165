"""The kernels on two GPUs: batch axes sharded, under plain jit and shard_map, and time sharded."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from op_1d import make
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.ops import plstm_1d

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(jax.device_count() < 2, reason="needs two devices"),
]
COLLECTIVES = ("all-gather", "all-to-all", "collective-permute", "all-reduce")


def arguments():
    inputs, state = make(256, "J1", batch=(4, 2), DK=8, DV=8, kind="reset")
    return inputs.astype(jnp.float32), state.astype(jnp.float32)


def op(inputs, state, **options):
    return plstm_1d(
        *inputs, initial_state=state, implementation="mosaic_gpu", return_state=True, **options
    )


def gradient_of(function):
    def loss(inputs, state):
        output, last = function(inputs, state)
        return jnp.sum(jnp.sin(output)) + jnp.sum(jnp.sin(last)), (output, last)

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))


def assert_close(actual, expected):
    for tolerance, a, b in zip((GRADIENT_AGREEMENT, AGREEMENT), actual, expected, strict=True):
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
            assert np.linalg.norm(x - y) / np.linalg.norm(y) < tolerance["float32"]


@pytest.fixture(scope="module")
def alone():
    return gradient_of(op)(*arguments())


@pytest.fixture
def mesh():
    return Mesh(np.array(jax.devices()[:2]), ("devices",))


@pytest.mark.parametrize("spec", [P("devices"), P(None, "devices")], ids=["major", "minor"])
def test_sharded_leading_axes_under_plain_jit(mesh, alone, spec):
    sharded = jax.device_put(arguments(), NamedSharding(mesh, spec))
    compiled = gradient_of(op).lower(*sharded).compile()
    assert [word for word in COLLECTIVES if word in compiled.as_text()] == []
    assert_close(compiled(*sharded), alone)


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map(mesh, alone, check_vma):
    spec = P("devices")
    mapped = jax.shard_map(op, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=check_vma)
    assert_close(gradient_of(mapped)(*arguments()), alone)


def test_time_sharded(mesh, alone):
    time = P(None, None, "devices")
    mapped = jax.shard_map(
        functools.partial(op, sequence_axis="devices"),
        mesh=mesh,
        in_specs=(time, P()),
        out_specs=(time, P()),
    )
    assert_close(gradient_of(mapped)(*arguments()), alone)
