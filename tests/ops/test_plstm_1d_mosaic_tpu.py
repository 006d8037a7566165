"""The TPU kernel, interpreted on the CPU: results, cotangents, and what it declines."""

import functools
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from fast_compile import fast_jit
from golden import relative_error
from interpreted_tpu import KERNEL, interpreted_tpu, race_found
from op_1d import check_range, make, transitions
from tolerances import AGREEMENT, GRADIENT_AGREEMENT
from unpartitioned import Unpartitioned

from plstm_seq.ops import leading_axes, plstm_1d
from plstm_seq.ops.sequence import api
from plstm_seq.ops.sequence.inputs import Inputs
from plstm_seq.ops.sequence.mosaic_tpu import MosaicTPU, layout
from plstm_seq.ops.sequence.recurrent import recurrent

pytestmark = pytest.mark.slow

SCALE = 0.7


@functools.partial(fast_jit, static_argnums=range(9))
def draw_core(N, T, DK, DV, JT, JV, JO, kind, direct):
    """The core form, a state, and cotangents of output and last state, in float64."""
    keys = iter(jax.random.split(jax.random.key(JT + 8 * JV + 64 * JO), 10))

    def draw(*shape, scale=1.0):
        return scale * jax.random.normal(next(keys), (N, *shape), jnp.float64)

    core = Inputs(
        query=draw(T, DK, 1),
        key=draw(T, DK, 1),
        value=draw(T, DV, JV),
        source=draw(T, JT, 1, JV, scale=0.3),
        transition=transitions(next(keys), (N, T, JT, JT), kind, jnp.float64),
        mark=draw(T, JO, 1, JT, scale=0.3),
        direct=draw(T, JO, 1, 1, JV) if direct else None,
    )
    return core, draw(DK, DV, JT), (draw(T, DV, JO), draw(DK, DV, JT))


def run(core, state, cotangents, chunk):
    forward = fast_jit(
        lambda *x: KERNEL.forward(*x, scale=SCALE, chunk=chunk, output_dtype=core.query.dtype)
    )
    backward = fast_jit(lambda *x: KERNEL.backward(*x, scale=SCALE, chunk=chunk))
    output, last, saved = forward(core, state)
    races = [race_found()]
    bars = backward(core, saved, *cotangents)
    races.append(race_found())
    assert not any(races)
    return (output, last), bars


@fast_jit
def truth(core, state, cotangents):
    def recurrence(core, state):
        output, last = recurrent(core, state)
        return SCALE * output, last

    results, transpose = jax.vjp(recurrence, core, state)
    return results, transpose(cotangents)


def assert_close(actual, expected, tolerance):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True)
    for (path, a), b in pairs:
        assert relative_error(a, b) < tolerance, jax.tree_util.keystr(path)


# N, T, DK, DV, JT, JV, JO; chunks have 128 steps.
CASES = {
    "J1": ((2, 256, 8, 8, 1, 1, 1), "contractive", True, "float32"),
    "J2_no_direct": ((1, 256, 8, 16, 2, 2, 2), "orthogonal", False, "float32"),
    "J4_reset": ((3, 256, 16, 8, 4, 4, 4), "reset", True, "float32"),
    "J4_bf16": ((2, 256, 16, 16, 4, 4, 4), "reset", True, "bfloat16"),
    "J5_large": ((1, 256, 8, 8, 5, 5, 5), "large", True, "float32"),
    "J8_bf16_no_direct": ((1, 256, 16, 8, 8, 8, 8), "orthogonal", False, "bfloat16"),
    "JT3_JV2_JO1_two_groups": ((9, 128, 8, 8, 3, 2, 1), "reset", True, "float32"),
    "JT1_JV3_JO8_large_bf16": ((2, 256, 16, 8, 1, 3, 8), "large", True, "bfloat16"),
    "JT8_JV1_JO5": ((1, 384, 8, 8, 8, 1, 5), "contractive", True, "float32"),
}


@pytest.mark.parametrize("case", CASES)
def test_core_form(case):
    """Against the recurrence in float64 on the same rounded arguments."""
    sizes, kind, direct, dtype = CASES[case]
    check(draw_core(*sizes, kind, direct), dtype, 128)


def test_chunks_of_256_steps():
    check(draw_core(1, 512, 8, 8, 2, 3, 2, "reset", True), "float32", 256)


def check(arguments, dtype, chunk):
    core, state, (output_bar, state_bar) = arguments
    core, output_bar = jax.tree.map(lambda x: x.astype(dtype), (core, output_bar))
    state, state_bar = state.astype(jnp.float32), state_bar.astype(jnp.float32)
    arguments = core, state, (output_bar, state_bar)
    results, bars = run(*arguments, chunk)
    assert [x.dtype for x in results] == [dtype, jnp.float32]
    assert all(x.dtype == dtype for x in bars[0] if x is not None)
    double = jax.tree.map(lambda x: x.astype(jnp.float64), arguments)
    expected, expected_bars = truth(*double)
    assert_close(results, expected, AGREEMENT[dtype])
    assert_close(bars, expected_bars, GRADIENT_AGREEMENT[dtype])


@pytest.mark.parametrize("sequences", [1, 3, 8, 9, 64, 4097])
@pytest.mark.parametrize("budget", [1, 3, 100])
def test_groups_are_small_enough_and_hardly_padded(sequences, budget):
    size = layout.group_size(sequences, 1, budget)
    assert 1 <= size <= min(layout.GROUP, budget)
    fewest = -(-sequences // min(layout.GROUP, budget))
    assert -(-sequences // size) == fewest


def test_there_and_back():
    core, state, _ = draw_core(6, 4, 3, 2, 4, 2, 3, "contractive", True)
    lanes = layout.to_lanes(core, 3)
    back = layout.from_lanes(lanes, core)
    assert all(
        jnp.array_equal(a.astype(jnp.float32), b.astype(jnp.float32))
        for a, b in zip(back, core, strict=True)
    )
    assert jnp.array_equal(layout.from_columns(layout.columns(state), 4), state)
    assert lanes.mark[1, 2, 0, 1, 3] == jnp.float32(core.mark[4, 3, 0, 0, 2])
    assert lanes.source[0, 2, 1, 2, 0] == jnp.float32(core.source[2, 0, 2, 0, 1])


def test_declines(monkeypatch):
    monkeypatch.setitem(api.IMPLEMENTATIONS, "interpreted_tpu", interpreted_tpu)
    inputs, _ = make(5)
    single = inputs.astype(jnp.float32)
    options = dict(implementation="interpreted_tpu")
    with pytest.raises(NotImplementedError, match="inputs: got float64, expected float32"):
        plstm_1d(*inputs, **options)
    with pytest.raises(NotImplementedError, match="chunk_size: got 64, expected one of"):
        plstm_1d(*single, chunk_size=64, **options)
    wide = single._replace(
        value=jnp.zeros((2, 5, 3, 9), jnp.float32),
        source=jnp.zeros((2, 5, 4, 1, 9), jnp.float32),
        direct=None,
    )
    with pytest.raises(NotImplementedError, match="JV is 9, above 8"):
        plstm_1d(*wide, **options)
    with pytest.raises(NotImplementedError, match="needs a TPU"):
        MosaicTPU().check_device(jax.devices()[0])
    with pytest.raises(NotImplementedError, match="needs a TPU"):
        plstm_1d(*single, implementation="mosaic_tpu")
    MosaicTPU().check(single)


def test_several_tpus_only_inside_shard_map(monkeypatch):
    """Where plain jit could not compile it, another implementation has to be taken."""
    device = SimpleNamespace(platform="tpu", device_kind="TPU v5 lite")
    MosaicTPU().check_device(device)
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    with pytest.raises(NotImplementedError, match="inside jax"):
        MosaicTPU().check_device(device)
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
    spec = jax.sharding.PartitionSpec("data")
    function = jax.shard_map(
        lambda x: (MosaicTPU().check_device(device), x)[1], mesh=mesh, in_specs=spec, out_specs=spec
    )
    jax.eval_shape(function, jnp.zeros(4))


@pytest.mark.parametrize("sizes", list(itertools.product([1, 4, 8], [1, 5, 8], [1, 8])))
def test_values_and_outputs_are_no_larger_than_the_state(sizes):
    JT, JV, JO = sizes
    core, _, _ = draw_core(1, 1, 1, 1, JT, JV, JO, "contractive", False)
    limits = KERNEL.limits(core.astype(jnp.float32))
    DV = limits.columns_max // JT
    assert limits.DV_multiple <= DV
    assert max(sizes) * DV <= 256


def test_vmap_of_grad_folds_into_the_grid(monkeypatch):
    """One call of each kernel, over all members."""
    monkeypatch.setitem(api.IMPLEMENTATIONS, "interpreted_tpu", interpreted_tpu)
    monkeypatch.setattr(leading_axes, "custom_partitioning", Unpartitioned)
    inputs, state = make(5, "J1", batch=(3, 2), dtype=jnp.float32, DK=2, DV=2)

    def loss(inputs, state, implementation):
        output = plstm_1d(*inputs, initial_state=state, implementation=implementation)
        return jnp.sum(jnp.sin(output))

    def gradients(name):
        return jax.vmap(jax.grad(functools.partial(loss, implementation=name)))

    actual, expected = (
        fast_jit(gradients(name))(inputs, state) for name in ("interpreted_tpu", "recurrent")
    )
    assert_close(actual, expected, GRADIENT_AGREEMENT["float32"])
    program = str(jax.make_jaxpr(gradients("interpreted_tpu"))(inputs, state))
    assert program.count("pallas_call[") == 2
    assert "grid=(1, 1)" in program


def test_the_range_of_its_chunks(monkeypatch):
    monkeypatch.setitem(api.IMPLEMENTATIONS, "interpreted_tpu", interpreted_tpu)
    check_range("interpreted_tpu", 128)
