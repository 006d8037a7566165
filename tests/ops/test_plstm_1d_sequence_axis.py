"""Time sharded over a mesh axis: equal to the whole sequence, with few and small messages."""

import json
import math
import re

import jax
import pytest
from op_1d import make
from processes import run_script

from plstm_seq.ops import plstm_1d

pytestmark = pytest.mark.slow

SETUP = """
import functools, json, math
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, PartitionSpec as P
from op_1d import make
from plstm_seq.ops import plstm_1d

jax.config.update("jax_enable_x64", True)

def function(mesh, check_vma, has_state, **options):
    batch = "data" if "data" in mesh.axis_names else None
    part, whole = P(batch, "time"), P(batch)

    def local(inputs, state):
        return plstm_1d(
            *inputs, initial_state=state, sequence_axis="time", return_state=True, **options
        )

    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(part, whole if has_state else None),
        out_specs=(part, whole),
        check_vma=check_vma,
    )

def value_and_gradients(f, inputs, state):
    def loss(inputs, state):
        output, last = f(inputs, state)
        weights = jnp.cos(jnp.arange(output.size)).reshape(output.shape)
        return jnp.sum(weights * output) + jnp.sum(jnp.sin(last)), (output, last)

    argnums = (0,) if state is None else (0, 1)
    return jax.jit(jax.value_and_grad(loss, argnums=argnums, has_aux=True))
"""

AGREEMENT = """
jax.config.update("jax_disable_most_optimizations", True)

def whole(inputs, state, **options):
    options = dict(implementation="recurrent", return_state=True, **options)
    return plstm_1d(*inputs, initial_state=state, **options)

def check(length, dimensions, devices, *, data=1, has_state=True, check_vma=True, **options):
    shape, names = ((data, devices), ("data", "time")) if data > 1 else ((devices,), ("time",))
    mesh = Mesh(np.array(jax.devices()[: data * devices]).reshape(shape), names)
    inputs, state = make(length, dimensions, kind="reset", batch=(2,), DK=3, DV=2)
    state = state if has_state else None
    f = function(mesh, check_vma, has_state, **options)
    actual = value_and_gradients(f, inputs, state)(inputs, state)
    options = {k: v for k, v in options.items() if k == "scale"}
    one = functools.partial(whole, **options)
    expected = value_and_gradients(one, inputs, state)(inputs, state)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(expected)]
    for name, a, b in zip(names, jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10, err_msg=name)
"""

CASES = {
    "recurrent": """
check(16, "J4", 8, implementation="recurrent")
check(16, "J4", 8, implementation="recurrent", check_vma=False)
check(15, "all_differ", 5, implementation="recurrent", has_state=False)
""",
    "chunkwise": """
check(24, "J4", 8, implementation="chunkwise", chunk_size=2)
check(24, "J1", 4, implementation="chunkwise", check_vma=False, scale=0.3)
check(21, "JT3_JK2_JQ2", 3, implementation="chunkwise", has_state=False)
check(8, "J4", 1, implementation="chunkwise")
""",
    "batch and time sharded": """
check(12, "J4", 4, data=2, implementation="chunkwise")
check(12, "J1", 4, data=2, implementation=None, has_state=False, check_vma=False)
""",
    "kernel": """
from plain_kernel import plain
from plstm_seq.ops.sequence.api import IMPLEMENTATIONS
IMPLEMENTATIONS["plain"] = plain
check(24, "J4", 4, data=2, implementation="plain")
""",
}

COMMUNICATION = """
mesh = Mesh(np.array(jax.devices()), ("time",))
texts = {}
for implementation in ("recurrent", "chunkwise"):
    for length in (256, 1024):
        inputs, state = make(length, "J4", batch=(2,), DK=3, DV=2)
        f = function(mesh, True, True, implementation=implementation)
        forward = jax.jit(f).lower(inputs, state).compile().as_text()
        backward = value_and_gradients(f, inputs, state).lower(inputs, state).compile().as_text()
        texts[f"{implementation} {length}"] = [forward, backward]
print(json.dumps(texts))
"""


@pytest.mark.parametrize("case", CASES)
def test_equals_the_whole_sequence(case):
    """Outputs, last state and all gradients in float64, with resets, on up to 8 devices."""
    run_script(SETUP + AGREEMENT + CASES[case], devices=8)


def test_messages_are_few_and_do_not_grow_with_the_sequence():
    """3 exchanges of states and 2 of products among 8 devices, a last one, and one sum."""
    texts = json.loads(run_script(SETUP + COMMUNICATION, devices=8))
    for implementation in ("recurrent", "chunkwise"):
        short, long = (
            [collectives(text) for text in texts[f"{implementation} {length}"]]
            for length in (256, 1024)
        )
        assert short == long
        forward, backward = long
        names = [name for name, _ in forward]
        assert names.count("collective-permute") <= 3 + 2 + 1
        assert names.count("all-reduce") == 1
        assert set(names) == {"collective-permute", "all-reduce"}
        assert {name for name, _ in backward} == {"collective-permute", "all-reduce"}
        state = 2 * 3 * 2 * 4
        assert max(size for _, size in forward) == state
        # Gradients of what all devices share are summed in one message: the loss and two states.
        assert max(size for _, size in backward) <= 2 * state + 2


def collectives(text):
    """(name, numbers sent) of every collective of a compiled program, sorted."""
    names = "all-gather|all-to-all|collective-permute|all-reduce|reduce-scatter"
    found = re.findall(rf"= (\(?[^=]*?) ({names})(?:-start)?\(", text)
    return sorted(
        (name, sum(map(elements, re.findall(r"\[([\d,]*)\]", kind)))) for kind, name in found
    )


def elements(shape):
    return math.prod(int(size) for size in shape.split(",") if size)


def test_the_axis_has_to_be_bound():
    inputs, _ = make(4, "J1")
    with pytest.raises(ValueError, match=r"sequence_axis is 'time'.*inside jax.shard_map"):
        plstm_1d(*inputs, sequence_axis="time")
    with pytest.raises(ValueError, match="sequence_axis is 'time'"):
        jax.jit(lambda x: plstm_1d(*x, sequence_axis="time"))(inputs)
