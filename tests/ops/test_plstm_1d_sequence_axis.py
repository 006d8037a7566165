"""Time sharded over a mesh axis: equal to the whole sequence, with few and small messages."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from op_1d import make
from plain_kernel import plain
from processes import run_function

from plstm_seq.ops import plstm_1d
from plstm_seq.ops.sequence.api import IMPLEMENTATIONS

pytestmark = pytest.mark.slow


def sharded(mesh, check_vma, has_state, **options):
    """The op inside a `shard_map` whose devices hold pieces of the time."""
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


def value_and_gradients(f, state):
    def loss(inputs, state):
        output, last = f(inputs, state)
        weights = jnp.cos(jnp.arange(output.size)).reshape(output.shape)
        return jnp.sum(weights * output) + jnp.sum(jnp.sin(last)), (output, last)

    argnums = (0,) if state is None else (0, 1)
    return jax.jit(jax.value_and_grad(loss, argnums=argnums, has_aux=True))


def check(length, dimensions, devices, data=1, has_state=True, check_vma=True, **options):
    shape, names = ((data, devices), ("data", "time")) if data > 1 else ((devices,), ("time",))
    mesh = Mesh(np.array(jax.devices()[: data * devices]).reshape(shape), names)
    inputs, state = make(length, dimensions, kind="reset", batch=(2,), DK=3, DV=2)
    state = state if has_state else None
    f = sharded(mesh, check_vma, has_state, **options)
    actual = value_and_gradients(f, state)(inputs, state)

    def one(inputs, state):
        scale = options.get("scale")
        rest = dict(implementation="recurrent", return_state=True, scale=scale)
        return plstm_1d(*inputs, initial_state=state, **rest)

    expected = value_and_gradients(one, state)(inputs, state)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(expected)]
    for name, a, b in zip(names, jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10, err_msg=name)


recurrent = functools.partial(dict, implementation="recurrent")
chunkwise = functools.partial(dict, implementation="chunkwise")
CASES = {
    "recurrent": [
        recurrent(length=16, dimensions="J4", devices=8),
        recurrent(length=16, dimensions="J4", devices=8, check_vma=False),
        recurrent(length=15, dimensions="all_differ", devices=5, has_state=False),
    ],
    "chunkwise": [
        chunkwise(length=24, dimensions="J4", devices=8, chunk_size=2),
        chunkwise(length=24, dimensions="J1", devices=4, check_vma=False, scale=0.3),
        chunkwise(length=21, dimensions="JT3_JK2_JQ2", devices=3, has_state=False),
        chunkwise(length=8, dimensions="J4", devices=1),
    ],
    "batch and time sharded": [
        chunkwise(length=12, dimensions="J4", devices=4, data=2),
        dict(length=12, dimensions="J1", devices=4, data=2, has_state=False, check_vma=False),
    ],
    "kernel": [dict(length=24, dimensions="J4", devices=4, data=2, implementation="plain")],
}


def agree(case):
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    IMPLEMENTATIONS["plain"] = plain
    for options in CASES[case]:
        check(**options)


@pytest.mark.parametrize("case", CASES)
def test_equals_the_whole_sequence(case):
    """Outputs, last state and all gradients in float64, with resets, on up to 8 devices."""
    run_function(agree, case, devices=8)


def programs(implementation, length):
    """The compiled forward pass, and that with the backward pass, as text."""
    jax.config.update("jax_enable_x64", True)
    mesh = Mesh(np.array(jax.devices()), ("time",))
    inputs, state = make(length, "J4", batch=(2,), DK=3, DV=2)
    f = sharded(mesh, True, True, implementation=implementation)
    both = jax.jit(f), value_and_gradients(f, state)
    return [function.lower(inputs, state).compile().as_text() for function in both]


@pytest.mark.parametrize("implementation", ["recurrent", "chunkwise"])
def test_messages_are_few_and_do_not_grow_with_the_sequence(implementation):
    """3 exchanges of states and 2 of products among 8 devices, a last one, and one sum."""
    short, long = (
        [collectives(text) for text in run_function(programs, implementation, n, devices=8)]
        for n in (256, 1024)
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
