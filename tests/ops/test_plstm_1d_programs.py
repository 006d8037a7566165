"""What the compiled program is like: its memory, and its communication where axes are sharded."""

import json

import pytest
from processes import run_script

pytestmark = pytest.mark.slow

MEMORY = """
import json, jax, jax.numpy as jnp
from op_1d import DIMENSIONS, make
from plstm_seq.ops import plstm_1d

def temporary(length, implementation):
    sizes = dict(batch=(8,), DK=64, DV=16, dtype=jnp.float32)
    arguments = jax.eval_shape(lambda: make(length, "J4", **sizes)[0])
    loss = lambda inputs: jnp.sum(plstm_1d(*inputs, implementation=implementation))
    compiled = jax.jit(jax.grad(loss)).lower(arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes

print(json.dumps({
    "recurrent": temporary(4096, "recurrent"),
    "chunkwise": [temporary(length, "chunkwise") for length in (2048, 4096, 8192)],
}))
"""

SHARDING = """
import functools
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from op_1d import PORTABLE, make
from plain_kernel import plain
from plstm_seq.ops import plstm_1d
from plstm_seq.ops.sequence.api import IMPLEMENTATIONS

IMPLEMENTATIONS["plain"] = plain
mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "heads"))
inputs, state = make(9, "J4", batch=(4, 2), dtype=jnp.float32)

def loss(function, inputs, state):
    output, last = function(inputs, state)
    return jnp.sum(output**2) + jnp.sum(last), output

def gradient_of(function):
    return jax.jit(jax.grad(functools.partial(loss, function), argnums=(0, 1), has_aux=True))

def compare(actual, expected):
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-4, atol=1e-4)
    for a, b in zip(jax.tree.leaves(actual[0]), jax.tree.leaves(expected[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)

for name in [*PORTABLE, "plain"]:
    def op(inputs, state):
        options = dict(initial_state=state, implementation=name, return_state=True)
        return plstm_1d(*inputs, **options)

    alone = gradient_of(op)(inputs, state)
    CHECK
print("done")
"""

PLAIN_JIT = """
    both, minor = ("data", "heads"), (None, "heads")
    for function, spec in ((op, both), (op, minor), (jax.vmap(op), minor)):
        sharded = jax.device_put((inputs, state), NamedSharding(mesh, P(*spec)))
        compiled = gradient_of(function).lower(*sharded).compile()
        for word in ("all-gather", "all-to-all", "collective-permute", "all-reduce"):
            assert word not in compiled.as_text(), (name, word)
        gradients, output = compiled(*sharded)
        assert tuple(output.sharding.spec[:2]) == spec, output.sharding
        assert tuple(gradients[0].key.sharding.spec[:2]) == spec
        compare((gradients, output), alone)
"""

SHARD_MAP = """
    jax.config.update("jax_disable_most_optimizations", True)
    for check_vma in (True, False):
        spec = P("data", "heads")
        mapped = jax.shard_map(
            op, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=check_vma
        )
        compare(gradient_of(mapped)(inputs, state), alone)

    # Parameters that all devices share, and no initial state.
    def shared(inputs, transition):
        transition = jnp.broadcast_to(transition, inputs.transition.shape)
        options = dict(implementation=name, return_state=True)
        return plstm_1d(*inputs._replace(transition=transition), **options)

    arguments = inputs, inputs.transition[:1, :1]
    mapped = jax.shard_map(shared, mesh=mesh, in_specs=(spec, P()), out_specs=spec)
    compare(gradient_of(mapped)(*arguments), gradient_of(shared)(*arguments))
"""


def test_memory_of_forward_and_backward():
    """Below a third of what differentiating the recurrence needs, and linear in the length."""
    sizes = json.loads(run_script(MEMORY, optimized=True))
    short, middle, long = sizes["chunkwise"]
    assert middle < sizes["recurrent"] / 3
    assert long - middle <= 2.1 * (middle - short)


@pytest.mark.parametrize("check", [PLAIN_JIT, SHARD_MAP], ids=["plain_jit", "shard_map"])
def test_sharded_leading_axes_stay_sharded(check):
    """Eight devices: under plain jit no collective moves the arrays, minor axes included."""
    assert run_script(SHARDING.replace("    CHECK\n", check), devices=8) == "done\n"
