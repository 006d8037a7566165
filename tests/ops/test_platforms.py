"""How an op is computed goes by the platform that a program is lowered for.

The default device is made up where a test says so: a program that is traced for a TPU and then runs
on the CPU is what a computation placed on the CPU of a machine with a TPU is.
"""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import op_2d
import pytest
from jax import export
from op_1d import make

from plstm_seq.ops import choice, plstm_1d, plstm_2d
from plstm_seq.ops.device import (
    Home,
    UnsupportedError,
    at_home,
    check_runs_here,
    for_the_default_device,
)

TPU = SimpleNamespace(platform="tpu", device_kind="TPU v5 lite")
GPU = SimpleNamespace(platform="gpu", device_kind="a GPU", compute_capability="9.0")


def sequence(implementation=None):
    def op(inputs):
        return plstm_1d(*inputs, implementation=implementation)

    return op


def forward(op):
    return op


def squares(op):
    return lambda inputs: jnp.sum(op(inputs) ** 2)


def gradient(op):
    return jax.grad(squares(op))


def lowered(function, inputs, *platforms):
    return jax.jit(function).trace(inputs).lower(lowering_platforms=platforms).as_text()


@pytest.fixture(autouse=True)
def _without_x64():
    """Without numbers of 64 bits, which jax cannot lower to a TPU's kernels."""
    with jax.enable_x64(False):
        yield


@pytest.fixture
def inputs():
    return make(6, "J1", DK=2, DV=2, dtype=jnp.float32)[0]


@pytest.fixture
def _with_a_tpu(monkeypatch):
    monkeypatch.setattr(choice, "default_device", lambda: TPU)


@pytest.mark.parametrize("transform", [forward, gradient])
def test_a_named_kernel_is_lowered_where_its_device_is_not(inputs, transform):
    function = transform(sequence("mosaic_tpu"))
    assert "tpu_custom_call" in lowered(function, inputs, "tpu")
    program = export.export(jax.jit(function), platforms=["tpu"])(inputs)
    assert "tpu_custom_call" in str(program.mlir_module())


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
def test_a_named_kernel_of_the_grid_too():
    inputs = op_2d.make(2, 2, "J1", batch=(1,), dtype=jnp.float32)[0]
    text = lowered(lambda x: plstm_2d(*x, implementation="triton"), inputs, "cuda")
    assert "triton" in text


def test_a_named_kernel_is_refused_on_other_platforms(inputs):
    op = sequence("mosaic_tpu")
    for call in (op, jax.jit(op), jax.jit(gradient(op))):
        with pytest.raises(UnsupportedError, match="needs a TPU, the default device is"):
            call(inputs)
    with pytest.raises(UnsupportedError, match="needs a TPU"):
        lowered(op, inputs, "cpu", "tpu")
    with pytest.raises(UnsupportedError, match="needs a TPU"):
        check_runs_here(jax.make_jaxpr(jax.checkpoint(gradient(op)))(inputs))
    check_runs_here(jax.make_jaxpr(gradient(sequence()))(inputs))


@pytest.mark.usefixtures("_with_a_tpu")
def test_a_named_kernel_says_its_platform_where_its_device_is(inputs):
    with pytest.raises(UnsupportedError, match="needs a program for tpu: mosaic_tpu is for no"):
        jax.jit(sequence("mosaic_tpu"))(inputs)


def test_where_there_is_one_platform_one_form_is_traced(inputs):
    programs = {name: str(jax.make_jaxpr(sequence(name))(inputs)) for name in (None, "recurrent")}
    assert programs[None] == programs["recurrent"]


def scanned(op):
    def function(inputs):
        def body(total, factor):
            changed = jax.tree.map(lambda x: factor * x, inputs)
            return total, gradient(jax.checkpoint(op))(changed)

        return jax.lax.scan(body, 0.0, jnp.array([1.0, 0.5]))[1]

    return function


def gradient_of_mapped(op):
    return gradient(jax.vmap(op))


def vmap_of_gradient(op):
    return jax.vmap(gradient(op))


def on_shards(op):
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
    spec = jax.sharding.PartitionSpec("data")
    return jax.shard_map(gradient(op), mesh=mesh, in_specs=spec, out_specs=spec)


AROUND = [forward, gradient, gradient_of_mapped, vmap_of_gradient, scanned, on_shards]


@pytest.mark.usefixtures("_with_a_tpu")
@pytest.mark.parametrize("around", AROUND, ids=lambda f: f.__name__)
def test_a_program_traced_for_a_tpu_runs_on_the_cpu(inputs, around):
    function = around(sequence())
    assert "tpu_custom_call" in lowered(function, inputs, "tpu")
    assert "tpu_custom_call" not in lowered(function, inputs, "cpu")
    found, truth = jax.jit(function)(inputs), jax.jit(around(sequence("recurrent")))(inputs)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_with_a_tpu")
def test_what_is_computed_at_once_goes_by_where_the_arrays_are(inputs):
    truth = sequence("recurrent")
    np.testing.assert_allclose(sequence()(inputs), truth(inputs), rtol=1e-4, atol=1e-5)
    found, expected = gradient(sequence())(inputs), gradient(truth)(inputs)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    tangents = jax.jvp(sequence(), (inputs,), (inputs,))[1]
    expected = jax.jvp(truth, (inputs,), (inputs,))[1]
    np.testing.assert_allclose(tangents, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_with_a_tpu")
@pytest.mark.parametrize("transform", [forward, gradient])
def test_one_program_for_three_platforms(inputs, transform):
    """The kernel is in it, and each platform gets its own form."""
    function = jax.jit(transform(sequence()))
    program = export.export(function, platforms=["cpu", "cuda", "tpu"])(inputs)
    assert "tpu_custom_call" in str(program.mlir_module())
    found = program.call(inputs)
    truth = transform(sequence("recurrent"))(inputs)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
def test_a_grid_traced_for_a_gpu_runs_on_the_cpu(monkeypatch):
    inputs = op_2d.make(2, 2, "J1", batch=(1,), dtype=jnp.float32)[0]

    def op(name):
        return gradient(lambda x: plstm_2d(*x, implementation=name))

    monkeypatch.setattr(choice, "default_device", lambda: GPU)
    assert "triton" in lowered(op(None), inputs, "cuda")
    found, truth = jax.jit(op(None))(inputs), jax.jit(op("recurrent"))(inputs)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_kernel_outside_of_programs_is_compiled_once():
    compiled = []

    @jax.jit
    def function(x):
        compiled.append(x.shape)
        return 2 * x

    for home in (Home(("cpu",), None), Home(("cpu",), "needs a CPU")):
        for _ in range(3):
            np.testing.assert_array_equal(at_home(function, home, jnp.ones(3)), 2.0)
    assert compiled == [(3,)]
    with pytest.raises(UnsupportedError, match="needs a TPU"):
        at_home(function, Home(("tpu",), "needs a TPU"), jnp.ones(3))


@pytest.mark.usefixtures("_with_a_tpu")
def test_a_program_for_the_default_device_alone_has_one_form(inputs):
    several = str(jax.make_jaxpr(gradient(sequence()))(inputs))
    with for_the_default_device():
        alone = str(jax.make_jaxpr(gradient(sequence()))(inputs))
    named = str(jax.make_jaxpr(gradient(sequence("mosaic_tpu")))(inputs))
    assert "platform_index" in several
    assert "platform_index" not in alone
    assert len(alone) == len(named)
