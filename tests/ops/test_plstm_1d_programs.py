"""What the compiled program is like: its memory, and its communication where axes are sharded."""

import json

from processes import run_script

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
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from op_1d import make
from plstm_seq.ops import plstm_1d
from plstm_seq.ops.sequence.api import IMPLEMENTATIONS

mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "heads"))
inputs, state = make(21, "J4", batch=(4, 2), dtype=jnp.float32)
sharded = jax.device_put((inputs, state), NamedSharding(mesh, P("data", "heads")))
for name in IMPLEMENTATIONS:
    def loss(inputs, state):
        options = dict(initial_state=state, implementation=name, return_state=True)
        output, last = plstm_1d(*inputs, **options)
        return jnp.sum(output**2) + jnp.sum(last), output
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    text = gradient.lower(*sharded).compile().as_text()
    for word in ("all-gather", "all-to-all", "collective-permute"):
        assert word not in text, (name, word)
    gradients, output = gradient(*sharded)
    assert output.sharding.spec[:2] == ("data", "heads"), output.sharding
    alone, expected = gradient(inputs, state)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)
    for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
print("done")
"""


def test_memory_of_forward_and_backward():
    """Below a third of what differentiating the recurrence needs, and linear in the length."""
    sizes = json.loads(run_script(MEMORY))
    short, middle, long = sizes["chunkwise"]
    assert middle < sizes["recurrent"] / 3
    assert long - middle <= 2.1 * (middle - short)


def test_sharded_leading_axes_stay_sharded():
    """Eight devices, under plain jit: no collective moves the arrays."""
    assert run_script(SHARDING, devices=8) == "done\n"
