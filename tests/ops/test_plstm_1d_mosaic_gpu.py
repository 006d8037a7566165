"""The kernels for Hopper GPUs, against the recurrence in float64 on the same rounded arguments."""

import functools
import itertools

import jax
import jax.numpy as jnp
import pytest
from hopper import FORM, assert_close, check, draw, gradient_of, register, relative_norm
from op_1d import check_range, make, value_and_gradients
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.ops import plstm_1d
from plstm_seq.ops.sequence.inputs import VECTORS
from plstm_seq.ops.sequence.mosaic_gpu import MosaicGPU


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    register(monkeypatch)


@FORM
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["reset", "identity"])
def test_kinds_of_transitions(form, dtype, kind):
    """One shape, so that the kinds share a program."""
    check(form, *draw(130, "J2", dtype, DK=8, DV=4, kind=kind))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["orthogonal", "reset", "large", "identity"])
def test_kinds_of_transitions_where_the_kernel_is_fast(dtype, kind):
    check("compiled", *draw(500, "J4", dtype, batch=(2, 3), DK=64, DV=16, kind=kind))


@FORM
@pytest.mark.parametrize("length", [1, 64, 150])
def test_any_length(form, length):
    check(form, *draw(length, "J1", "float32", kind="reset"))


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dimensions", "dtype", "sizes"),
    [
        ("J1", "float32", (256, 100)),
        ("J4", "bfloat16", (70, 33)),
        ("J8", "bfloat16", (64, 8)),
        ("all_differ", "float32", (2, 5)),
        ("JT3_JK2_JQ2", "float32", (5, 3)),
        ("JT2_JV1_JO3", "float32", (65, 17)),
        ("JT1_JK4_JQ3", "bfloat16", (3, 1)),
    ],
)
@pytest.mark.parametrize("direct", [True, False], ids=["direct", "no_direct"])
def test_any_dimensions(dimensions, dtype, sizes, direct):
    DK, DV = sizes
    check("compiled", *draw(150, dimensions, dtype, DK=DK, DV=DV, kind="reset", direct=direct))


@FORM
def test_without_direct_term_and_initial_state(form):
    inputs, state = draw(70, "J1", "float32", direct=False)
    check(form, inputs, jnp.zeros_like(state), scale=0.3)
    output = plstm_1d(*inputs, implementation=form)
    expected = plstm_1d(*inputs, implementation="recurrent")
    assert relative_norm(output, expected) < AGREEMENT["float32"]


@FORM
def test_gates_in_float32_beside_bfloat16(form):
    """As a layer that computes in bfloat16 calls it."""
    inputs, state = draw(70, "J1", "float32", kind="reset")
    inputs = inputs._replace(**{n: getattr(inputs, n).astype(jnp.bfloat16) for n in VECTORS})
    results, gradients = value_and_gradients(inputs, state, implementation=form)
    assert [x.dtype for x in gradients[0]] == [x.dtype for x in inputs]
    double = jax.tree.map(lambda x: x.astype(jnp.float64), (inputs, state))
    expected = value_and_gradients(*double, implementation="recurrent")
    assert_close(results, expected[0], AGREEMENT["bfloat16"])
    assert_close(gradients, expected[1], GRADIENT_AGREEMENT["bfloat16"])


@FORM
def test_the_range_of_its_chunks(form):
    check_range(form, 64)


@pytest.mark.gpu
def test_more_sequences_than_a_grid_axis_takes():
    check("compiled", *draw(2, "J1", "bfloat16", batch=(70_000,), DK=1, DV=1))


@FORM
def test_state_passing(form):
    inputs, state = draw(200, "J1", "float32", kind="reset")
    run = jax.jit(functools.partial(plstm_1d, implementation=form, return_state=True))
    whole, last = run(*inputs, initial_state=state)
    outputs = []
    for begin, end in itertools.pairwise([0, 1, 65, 128, 200]):
        part = jax.tree.map(lambda x, b=begin, e=end: x[:, b:e], inputs)
        output, state = run(*part, initial_state=state)
        outputs.append(output)
    assert relative_norm(jnp.concatenate(outputs, 1), whole) < AGREEMENT["float32"]
    assert relative_norm(state, last) < AGREEMENT["float32"]


@FORM
@pytest.mark.parametrize(
    "transform", ["vmap_of_grad", "grad_of_vmap", "remat", "scan", "shard_map"]
)
def test_transformations(form, transform):
    inputs, state = draw(65, "J1", "float32", batch=(3, 2), DK=2, DV=2)
    expected = jax.jit(gradient_of("recurrent"))(inputs, state)
    gradient = gradient_of(form)
    match transform:
        case "vmap_of_grad":
            transformed = jax.vmap(gradient)
        case "grad_of_vmap":

            def loss(*arguments):
                op = functools.partial(plstm_1d, implementation=form)
                output = jax.vmap(lambda x, s: op(*x, initial_state=s))(*arguments)
                return jnp.sum(jnp.sin(output))

            transformed = jax.grad(loss, argnums=(0, 1))
        case "remat":
            transformed = jax.checkpoint(gradient)
        case "shard_map":
            spec = jax.sharding.PartitionSpec("device")
            mesh = jax.sharding.Mesh(jax.devices()[:1], ("device",))
            transformed = jax.shard_map(gradient, mesh=mesh, in_specs=spec, out_specs=spec)
        case _:

            def transformed(*arguments):
                return jax.lax.scan(lambda c, x: (c, gradient(*x)), 0, arguments)[1]

    assert_close(jax.jit(transformed)(inputs, state), expected, GRADIENT_AGREEMENT["float32"])


@pytest.mark.gpu
def test_a_mapped_ensemble_is_one_grid():
    """As many kernels as without the ensemble, none in a loop."""
    inputs, state = draw(64, "J1", "bfloat16", batch=(3, 2))
    plain = jax.jit(gradient_of("compiled")).lower(inputs, state).as_text()
    mapped = jax.jit(jax.vmap(gradient_of("compiled"))).lower(inputs, state).as_text()
    assert mapped.count("mosaic_gpu") == plain.count("mosaic_gpu") > 0
    assert "stablehlo.while" not in mapped


@pytest.mark.gpu
def test_is_chosen_where_it_runs():
    inputs, _ = draw(64, "J1", "bfloat16", DK=64, DV=64)
    assert "mosaic_gpu" in jax.jit(plstm_1d).lower(*inputs).as_text()
    mostly_padding, _ = draw(64, "J1", "bfloat16", DK=1, DV=100)
    assert "mosaic_gpu" not in jax.jit(plstm_1d).lower(*mostly_padding).as_text()


def test_declines():
    inputs, _ = make(5)
    with pytest.raises(NotImplementedError, match="not float64"):
        plstm_1d(*inputs, implementation="interpreted")
    single = inputs.astype(jnp.float32)
    with pytest.raises(NotImplementedError, match="chunk_size is 32"):
        plstm_1d(*single, implementation="interpreted", chunk_size=32)
    wide = single._replace(mark=jnp.zeros((2, 5, 9, 1, 4), jnp.float32), direct=None)
    with pytest.raises(NotImplementedError, match="JO is 9"):
        plstm_1d(*wide, implementation="interpreted")


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="about other machines")
def test_declines_other_machines(monkeypatch):
    inputs = draw(5, "J1", "float32")[0]
    with pytest.raises(NotImplementedError, match=r"needs (jax 0.11.2|an NVIDIA GPU)"):
        plstm_1d(*inputs, implementation="mosaic_gpu")
    with pytest.raises(NotImplementedError, match="needs an NVIDIA GPU"):
        MosaicGPU().check_device(jax.devices()[0])
    monkeypatch.setattr(jax, "__version_info__", (0, 11, 1))
    with pytest.raises(NotImplementedError, match=r"needs jax 0\.11\.2 or newer"):
        MosaicGPU().check(inputs)
