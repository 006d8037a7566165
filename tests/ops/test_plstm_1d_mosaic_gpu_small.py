"""The kernel for small states, against the recurrence in float64 on the same rounded arguments."""

import functools

import jax
import jax.numpy as jnp
import pytest
from hopper import SMALL_FORM, assert_close, check, draw, gradient_of, register, relative_norm
from op_1d import check_range, make, value_and_gradients
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.ops import plstm_1d
from plstm_seq.ops.sequence.inputs import VECTORS


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    register(monkeypatch)


@SMALL_FORM
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_agrees_with_the_recurrence(form, dtype):
    check(form, *draw(4, "JT2_JV1_JO3", dtype, DK=2, DV=3, kind="reset"))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["orthogonal", "reset", "large", "identity"])
def test_kinds_of_transitions(dtype, kind):
    check("small_compiled", *draw(500, "J4", dtype, batch=(2, 3), DK=4, DV=4, kind=kind))


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dimensions", "dtype", "sizes"),
    [
        ("J1", "float32", (8, 12)),
        ("J2", "bfloat16", (4, 4)),
        ("J8", "bfloat16", (3, 4)),
        ("all_differ", "float32", (2, 5)),
        ("JT3_JK2_JQ2", "float32", (5, 3)),
        ("JT1_JK4_JQ3", "bfloat16", (3, 1)),
    ],
)
@pytest.mark.parametrize("direct", [True, False], ids=["direct", "no_direct"])
def test_any_dimensions(dimensions, dtype, sizes, direct):
    DK, DV = sizes
    options = dict(batch=(3, 67), DK=DK, DV=DV, kind="reset", direct=direct)
    check("small_compiled", *draw(50, dimensions, dtype, **options))


@pytest.mark.gpu
def test_it_has_no_chunks_whose_products_overflow():
    check_range("small_compiled", 64, chunks=False)


@pytest.mark.gpu
def test_many_sequences():
    check("small_compiled", *draw(2, "J1", "bfloat16", batch=(70_000,), DK=1, DV=1))


@SMALL_FORM
def test_without_direct_term_and_initial_state(form):
    inputs, state = draw(3, "J1", "float32", DK=2, DV=2, direct=False)
    check(form, inputs, jnp.zeros_like(state), scale=0.3)
    output = plstm_1d(*inputs, implementation=form)
    expected = plstm_1d(*inputs, implementation="recurrent")
    assert relative_norm(output, expected) < AGREEMENT["float32"]


@SMALL_FORM
def test_gates_in_float32_beside_bfloat16(form):
    """As a layer that computes in bfloat16 calls it."""
    inputs, state = draw(3, "J1", "float32", DK=2, DV=2)
    inputs = inputs._replace(**{n: getattr(inputs, n).astype(jnp.bfloat16) for n in VECTORS})
    results, gradients = value_and_gradients(inputs, state, implementation=form)
    assert [x.dtype for x in gradients[0]] == [x.dtype for x in inputs]
    double = jax.tree.map(lambda x: x.astype(jnp.float64), (inputs, state))
    expected = value_and_gradients(*double, implementation="recurrent")
    assert_close(results, expected[0], AGREEMENT["bfloat16"])
    assert_close(gradients, expected[1], GRADIENT_AGREEMENT["bfloat16"])


@SMALL_FORM
@pytest.mark.parametrize("transform", ["vmap_of_grad", "shard_map"])
def test_transformations(form, transform):
    inputs, state = draw(2, "J1", "float32", batch=(3, 2), DK=2, DV=2)
    expected = jax.jit(gradient_of("recurrent"))(inputs, state)
    gradient = gradient_of(form)
    if transform == "vmap_of_grad":
        transformed = jax.vmap(gradient)
    else:
        spec = jax.sharding.PartitionSpec("device")
        mesh = jax.sharding.Mesh(jax.devices()[:1], ("device",))
        transformed = jax.shard_map(gradient, mesh=mesh, in_specs=spec, out_specs=spec)
    assert_close(jax.jit(transformed)(inputs, state), expected, GRADIENT_AGREEMENT["float32"])


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("batch", "length", "DV", "small"),
    [((600,), 300, 5, True), ((4,), 100, 5, True), ((4,), 300, 5, False), ((600,), 9, 80, False)],
    ids=["many", "few and short", "few and long", "large states"],
)
def test_is_chosen_for_many_sequences_with_small_states(batch, length, DV, small):
    inputs, _ = draw(length, "J4", "float32", batch=batch, DK=2, DV=DV)
    assert ("plstm_1d_small" in jax.jit(plstm_1d).lower(*inputs).as_text()) is small


def test_declines():
    inputs, _ = make(5, DK=2, DV=2)
    op = functools.partial(plstm_1d, implementation="small_interpreted")
    with pytest.raises(NotImplementedError, match="not float64"):
        op(*inputs)
    single = inputs.astype(jnp.float32)
    with pytest.raises(NotImplementedError, match="chunk_size is 32"):
        op(*single, chunk_size=32)
    large = make(5, DK=5, DV=5, dtype=jnp.float32)[0]
    with pytest.raises(NotImplementedError, match=r"DK \* DV \* JT up to 96"):
        op(*large)
    export = jax.export.export(jax.jit(op))
    batch = jax.export.symbolic_shape("b")
    symbolic = [jax.ShapeDtypeStruct((*batch, *x.shape[1:]), x.dtype) for x in single]
    with pytest.raises(NotImplementedError, match="sizes that are numbers"):
        export(*symbolic)
