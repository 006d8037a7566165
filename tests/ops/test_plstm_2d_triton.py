"""The kernel for the gates between all cells: compiled where there is a GPU, else interpreted."""

import functools
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from fast_compile import fast_jit
from golden import relative_error
from op_2d import apply, make
from processes import run_script
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.ops import plstm_2d_oriented
from plstm_seq.ops.grid import api, triton
from plstm_seq.ops.grid.inputs import GATES, Inputs
from plstm_seq.ops.grid.triton import Triton, implementation_of

# Says jax 0.11 where a kernel is compiled; ops/grid/README.md, section 7.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated"),
]
NAMES = {"compiled": "triton", "interpreted": "interpreted"}
FORM = pytest.mark.parametrize(
    "form",
    [
        pytest.param("compiled", marks=pytest.mark.gpu),
        pytest.param(
            "interpreted",
            marks=pytest.mark.skipif(jax.default_backend() != "cpu", reason="slow on a GPU"),
        ),
    ],
)


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    interpreted = implementation_of(Triton(interpret=True))
    monkeypatch.setitem(api.IMPLEMENTATIONS, "interpreted", interpreted)


def value_and_gradients(function, inputs):
    def loss(inputs):
        output = function(inputs)
        return jnp.sum(jnp.sin(output.astype(jnp.promote_types(output.dtype, "float32")))), output

    return fast_jit(jax.grad(loss, has_aux=True))(inputs)


def check(function, form, inputs, dtype, reference="recurrent"):
    """Against a form in float64, on the same rounded inputs; "mixed": gates are of 32 bits."""
    if form == "compiled" and dtype == "float64":
        dtype = "float32"  # it declines float64
    of_vectors, of_gates = ("bfloat16", "float32") if dtype == "mixed" else (dtype, dtype)
    dtype = of_vectors
    inputs = jax.tree.map(lambda x: x.astype(of_gates), inputs)
    vectors = {name: getattr(inputs, name).astype(of_vectors) for name in Inputs._fields[:3]}
    inputs = inputs._replace(**vectors)
    gradients, output = value_and_gradients(
        functools.partial(function, implementation=NAMES[form]), inputs
    )
    assert output.dtype == dtype
    double = jax.tree.map(lambda x: x.astype(jnp.float64), inputs)
    expected_gradients, expected = value_and_gradients(
        functools.partial(function, implementation=reference), double
    )
    assert relative_error(output, expected) < AGREEMENT[dtype]
    for name, a, b in zip(Inputs._fields, gradients, expected_gradients, strict=True):
        assert (a is None) == (b is None)
        assert a is None or relative_error(a, b) < GRADIENT_AGREEMENT[dtype], name


@FORM
@pytest.mark.parametrize(
    ("grid", "kind", "turns", "dtype"),
    [
        ((3, 4), "contractive", "P", "float64"),
        ((12, 11), "reset", "P", "float32"),
        ((2, 18), "contractive", "P", "float64"),
        ((5, 1), "contractive", "L", "float64"),
        ((1, 6), "contractive", "R", "bfloat16"),
    ],
    ids=str,
)
def test_one_orientation(form, grid, kind, turns, dtype, monkeypatch):
    """12 x 11 cells are more than the lanes of a program, 18 rows more than the least matrix."""
    monkeypatch.setattr(triton, "MAX_ROWS", 32)
    inputs, _ = make(*grid, "J1", kind=kind, turns=turns)
    check(functools.partial(apply, initial=None, return_state=False), form, inputs, dtype)


@FORM
@pytest.mark.parametrize(
    ("orientations", "dtype"),
    [((0, 1, 2, 3), "mixed"), ((3, 1), "float64"), ((0, 1, 2), "bfloat16")],
)
def test_several_orientations(form, orientations, dtype):
    """In three blocks of lanes."""
    grids = [make(5, 7, "J1", batch=(2, 1), seed=seed)[0] for seed in orientations]
    gates = {name: jnp.stack([getattr(x, name) for x in grids], 2) for name in GATES}
    inputs = grids[0]._replace(**gates)

    def run(inputs, implementation):
        return plstm_2d_oriented(*inputs, orientations=orientations, implementation=implementation)

    check(run, form, inputs, dtype, "parallel")


@FORM
def test_a_mapped_axis_is_one_more_axis_of_the_batch(form):
    inputs, _ = make(3, 3, "J1", batch=(2, 2), dtype=jnp.float32)
    run = functools.partial(apply, return_state=False, implementation=NAMES[form])
    mapped = fast_jit(jax.vmap(run, in_axes=1, out_axes=1))(inputs)
    assert relative_error(mapped, run(inputs)) < AGREEMENT["float32"]


@FORM
@pytest.mark.parametrize("exponent", [38, 48])
def test_the_range_of_products(form, exponent):
    """Transitions of a row of 16 cells multiply to 1e38, which is taken, or 1e48, which is not.

    Only 14 of them lie between the first cell and the last, so that 1e40 would not overflow there.
    """
    inputs, _ = make(16, 1, "J1", batch=(), DK=1, DV=1)
    inputs = jax.tree.map(lambda x: jnp.zeros_like(x, jnp.float32), inputs)
    inputs = inputs._replace(
        query=jnp.ones_like(inputs.query),
        key=jnp.ones_like(inputs.key),
        value=jnp.ones_like(inputs.value),
        mark_left=jnp.ones_like(inputs.mark_left),
        source_right=inputs.source_right.at[0].set(1e-37),
        transition_rl=jnp.full_like(inputs.transition_rl, 10 ** (exponent / 16)),
    )
    expected, found = (
        apply(inputs, None, return_state=False, implementation=name)
        for name in ("recurrent", NAMES[form])
    )
    assert jnp.isfinite(expected).all()
    if exponent == 38:
        assert relative_error(found, expected) < AGREEMENT["float32"]
    else:
        assert not jnp.isfinite(found[-1]).any()


def test_it_declines_what_it_does_not_support(monkeypatch):
    run = functools.partial(apply, implementation="interpreted")
    inputs, initial = make(3, 4, "J1")
    with pytest.raises(NotImplementedError, match="states that enter or leave"):
        run(inputs)
    with pytest.raises(NotImplementedError, match="states that enter or leave"):
        run(inputs, initial, return_state=False)
    with pytest.raises(NotImplementedError, match="JT = JK = JQ = JV = JO = 1"):
        run(make(3, 4, "J2")[0], return_state=False)
    with pytest.raises(NotImplementedError, match="empty"):
        run(jax.tree.map(lambda x: x[:0], inputs), return_state=False)
    monkeypatch.setattr(triton, "MAX_ROWS", 3)
    with pytest.raises(NotImplementedError, match="of 3 rows: 3 x 4"):
        run(inputs, return_state=False)
    monkeypatch.setattr(triton, "MAX_CELLS", 47)
    with pytest.raises(NotImplementedError, match="2 columns"):
        run(inputs, return_state=False)


@pytest.mark.parametrize(
    ("device", "triton", "reason"),
    [
        (SimpleNamespace(platform="cpu"), True, "needs an NVIDIA GPU"),
        (SimpleNamespace(platform="gpu", compute_capability="7.5"), True, "8.0, not 7.5"),
        (SimpleNamespace(platform="gpu", compute_capability="gfx90a"), True, "8.0, not gfx90a"),
        (
            SimpleNamespace(platform="gpu", compute_capability="9.0"),
            False,
            "this jax does not have",
        ),
        (SimpleNamespace(platform="gpu", compute_capability="9.0"), True, "float64"),
    ],
    ids=["cpu", "older", "amd", "without triton", "float64"],
)
def test_it_declines_where_it_cannot_run(monkeypatch, device, triton, reason):
    monkeypatch.setattr("plstm_seq.ops.choice.default_device", lambda: device)
    if not triton:
        monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)
    dtype = jnp.float64 if reason == "float64" else jnp.float32
    inputs, _ = make(3, 4, "J1", dtype=dtype)
    with pytest.raises(NotImplementedError, match=reason):
        apply(inputs, return_state=False, implementation="triton")


def test_a_second_derivative_says_what_to_do():
    inputs, _ = make(2, 2, "J1")

    def loss(scale):
        gates = inputs._replace(transition_rl=scale * inputs.transition_rl)
        return jnp.sum(apply(gates, return_state=False, implementation="interpreted") ** 2)

    with pytest.raises(NotImplementedError, match=r"of plstm_2d is differentiated once"):
        jax.eval_shape(jax.grad(jax.grad(loss)), 1.0)


SHARDING = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from op_2d import apply, make
from plstm_seq.ops.grid import api
from plstm_seq.ops.grid.triton import Triton, implementation_of

api.IMPLEMENTATIONS["interpreted"] = implementation_of(Triton(interpret=True))
mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "heads"))
inputs, _ = make(3, 4, "J1", batch=(2, 2), dtype=jnp.float32)

def gradient(name, wrap=lambda op: op):
    op = wrap(lambda inputs: apply(inputs, return_state=False, implementation=name))
    return jax.jit(jax.grad(lambda inputs: jnp.sum(op(inputs) ** 2)))

alone = gradient("recurrent")(inputs)
sharded = jax.device_put(inputs, NamedSharding(mesh, P("data", "heads")))
compiled = gradient("interpreted").lower(sharded).compile()
for word in ("all-gather", "all-to-all", "collective-permute", "all-reduce"):
    assert word not in compiled.as_text(), word
spec = P("data", "heads")

def mapped(check):
    wrap = lambda op: jax.shard_map(op, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=check)
    return gradient("interpreted", wrap)

jax.eval_shape(mapped(True), inputs)  # the interpreter alone cannot do what the check asks
for actual in (compiled(sharded), mapped(False)(inputs)):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
print("done")
"""


def test_sharded_leading_axes_stay_sharded():
    """Four devices: under plain jit no collective moves the arrays; shard_map works too."""
    assert run_script(SHARDING, devices=4) == "done\n"
