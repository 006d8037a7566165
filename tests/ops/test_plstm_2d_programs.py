"""What the compiled program is like: its memory, and its communication where axes are sharded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from op_2d import apply, make
from processes import run_function

from plstm_seq.ops.grid import chunkwise

pytestmark = pytest.mark.slow


def temporary(implementation):
    """Bytes of temporary memory of the forward and backward pass."""

    def loss(inputs):
        return jnp.sum(apply(inputs, implementation=implementation, return_state=False))

    arguments, _ = make(64, 16, "J1", batch=(1,), DK=32, DV=32, dtype=jnp.float32)
    compiled = jax.jit(jax.grad(loss)).lower(arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_of_forward_and_backward():
    """Below a third of what differentiating the recurrence needs."""
    ours, recurrent = (
        run_function(temporary, name, optimized=True) for name in ("chunkwise", "recurrent")
    )
    assert ours < recurrent / 3


def gradient_of(op):
    def loss(inputs):
        output, states = op(inputs)
        return sum(jnp.sum(x**2) for x in (output, *states)), output

    return jax.jit(jax.grad(loss, has_aux=True))


def compare(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def op(implementation):
    return lambda inputs: apply(inputs, implementation=implementation)


def on_four_devices():
    jax.config.update("jax_disable_most_optimizations", True)
    chunkwise.SIDE = 2
    mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "heads"))
    inputs, _ = make(3, 4, "J1", batch=(2, 2), dtype=jnp.float32)
    alone = gradient_of(op("recurrent"))(inputs)
    spec = P("data", "heads")
    sharded = jax.device_put(inputs, NamedSharding(mesh, spec))
    for name in ("parallel", "chunkwise"):
        compiled = gradient_of(op(name)).lower(sharded).compile()
        for word in ("all-gather", "all-to-all", "collective-permute", "all-reduce"):
            assert word not in compiled.as_text(), (name, word)
        gradients, output = compiled(sharded)
        assert tuple(output.sharding.spec[:2]) == ("data", "heads"), output.sharding
        compare((gradients, output), alone)
    mapped = jax.shard_map(op("chunkwise"), mesh=mesh, in_specs=spec, out_specs=spec)
    compare(gradient_of(mapped)(inputs), alone)


def test_sharded_leading_axes_stay_sharded():
    """Four devices: under plain jit no collective moves the arrays; shard_map works too."""
    run_function(on_four_devices, devices=4)
