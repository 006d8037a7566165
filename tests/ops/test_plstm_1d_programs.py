"""What the compiled program is like: its memory, and its communication where axes are sharded."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from op_1d import PORTABLE, make
from plain_kernel import plain
from processes import run_function

from plstm_seq.ops import plstm_1d
from plstm_seq.ops.sequence.api import IMPLEMENTATIONS

pytestmark = pytest.mark.slow


def temporary(length, implementation):
    """Bytes of temporary memory of the forward and backward pass."""

    def loss(inputs):
        return jnp.sum(plstm_1d(*inputs, implementation=implementation))

    sizes = dict(batch=(8,), DK=64, DV=16, dtype=jnp.float32)
    arguments = jax.eval_shape(lambda: make(length, "J4", **sizes)[0])
    compiled = jax.jit(jax.grad(loss)).lower(arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def temporaries(implementation, *lengths):
    return [temporary(length, implementation) for length in lengths]


def test_memory_of_forward_and_backward():
    """Below a third of what differentiating the recurrence needs, and linear in the length."""
    (recurrent,) = run_function(temporaries, "recurrent", 4096, optimized=True)
    short, middle, long = run_function(temporaries, "chunkwise", 2048, 4096, 8192, optimized=True)
    assert middle < recurrent / 3
    assert long - middle <= 2.1 * (middle - short)


def gradient_of(function):
    def loss(inputs, state):
        output, last = function(inputs, state)
        return jnp.sum(output**2) + jnp.sum(last), output

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))


def compare(actual, expected):
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-4, atol=1e-4)
    for a, b in zip(jax.tree.leaves(actual[0]), jax.tree.leaves(expected[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def op(name, inputs, state):
    return plstm_1d(*inputs, initial_state=state, implementation=name, return_state=True)


def eight_devices():
    """A mesh, and the inputs of a call with two leading axes."""
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "heads"))
    return mesh, *make(9, "J4", batch=(4, 2), dtype=jnp.float32)


def under_plain_jit():
    IMPLEMENTATIONS["plain"] = plain
    mesh, inputs, state = eight_devices()
    both, minor = ("data", "heads"), (None, "heads")
    for name in (*PORTABLE, "plain"):
        one = functools.partial(op, name)
        alone = gradient_of(one)(inputs, state)
        for function, spec in ((one, both), (one, minor), (jax.vmap(one), minor)):
            sharded = jax.device_put((inputs, state), NamedSharding(mesh, P(*spec)))
            compiled = gradient_of(function).lower(*sharded).compile()
            for word in ("all-gather", "all-to-all", "collective-permute", "all-reduce"):
                assert word not in compiled.as_text(), (name, word)
            gradients, output = compiled(*sharded)
            assert tuple(output.sharding.spec[:2]) == spec, output.sharding
            assert tuple(gradients[0].key.sharding.spec[:2]) == spec
            compare((gradients, output), alone)


def under_shard_map():
    jax.config.update("jax_disable_most_optimizations", True)
    IMPLEMENTATIONS["plain"] = plain
    mesh, inputs, state = eight_devices()
    spec = P("data", "heads")
    for name in (*PORTABLE, "plain"):
        one = functools.partial(op, name)
        alone = gradient_of(one)(inputs, state)
        for check_vma in (True, False):
            mapped = jax.shard_map(
                one, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=check_vma
            )
            compare(gradient_of(mapped)(inputs, state), alone)

        # Parameters that all devices share, and no initial state.
        def shared(inputs, transition, name=name):
            transition = jnp.broadcast_to(transition, inputs.transition.shape)
            return op(name, inputs._replace(transition=transition), None)

        arguments = inputs, inputs.transition[:1, :1]
        mapped = jax.shard_map(shared, mesh=mesh, in_specs=(spec, P()), out_specs=spec)
        compare(gradient_of(mapped)(*arguments), gradient_of(shared)(*arguments))


@pytest.mark.parametrize("sharded", [under_plain_jit, under_shard_map])
def test_sharded_leading_axes_stay_sharded(sharded):
    """Eight devices: under plain jit no collective moves the arrays, minor axes included."""
    run_function(sharded, devices=8)
