"""What surrounds every kernel, around a kernel in plain jax: reduction, derivatives, vmap."""

import functools

import jax
import jax.numpy as jnp
import op_1d
import pytest
from fast_compile import fast_jit
from golden import relative_error
from op_1d import call, make, value_and_gradients
from plain_kernel import PlainKernel, plain
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.ops import plstm_1d
from plstm_seq.ops.sequence import api
from plstm_seq.ops.sequence.inputs import VECTORS
from plstm_seq.ops.sequence.kernel import implementation_of

pytestmark = pytest.mark.slow

DIMENSIONS = {
    **op_1d.DIMENSIONS,
    "JK3": dict(JK=3, JQ=1, JV=1, JT=2, JO=1),
    "JQ3": dict(JK=1, JQ=3, JV=2, JT=1, JO=2),
    "JQ4_JK3": dict(JK=3, JQ=4, JV=3, JT=3, JO=5),
}


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(api.IMPLEMENTATIONS, "plain", plain)
    monkeypatch.setattr(op_1d, "DIMENSIONS", DIMENSIONS)


def assert_trees_close(actual, expected, tolerance):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), b in zip(
        jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        assert a.shape == b.shape, jax.tree_util.keystr(path)
        assert relative_error(a, b) < tolerance, jax.tree_util.keystr(path)


def check(arguments, **options):
    results, gradients = value_and_gradients(*arguments, implementation="plain", **options)
    options.pop("chunk_size", None)
    expected, expected_gradients = value_and_gradients(
        *arguments, implementation="recurrent", **options
    )
    assert_trees_close(results, expected, AGREEMENT["float64"])
    assert_trees_close(gradients, expected_gradients, GRADIENT_AGREEMENT["float64"])


@pytest.mark.parametrize("dimensions", DIMENSIONS)
@pytest.mark.parametrize("direct", [True, False], ids=["direct", "no_direct"])
def test_agrees_with_the_recurrence(dimensions, direct):
    """DK and DV in tiles, DK, DV, gates and T padded."""
    check(make(7, dimensions, direct=direct, kind="reset"))


@pytest.mark.parametrize("sizes", [(1, 1), (4, 2), (4, 3), (9, 2), (3, 9), (11, 13)])
def test_any_number_of_features(sizes):
    DK, DV = sizes
    check(make(5, "J4", DK=DK, DV=DV, batch=(2, 1)), scale=0.3)


@pytest.mark.parametrize("length", [1, 4, 13])
@pytest.mark.parametrize("chunk_size", [1, 8])
def test_any_length(length, chunk_size):
    check(make(length, "J1", batch=()), chunk_size=chunk_size)


def test_no_initial_state():
    inputs, _ = make(6, "JT3_JK2_JQ2")
    check((inputs, None))


@pytest.mark.parametrize("dimensions", ["J4", "JT3_JK2_JQ2"])
@pytest.mark.parametrize("DK", [3, 5])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_low_precision(dimensions, DK, dtype):
    """Tiles and sub-steps are summed in float32; cotangents come in the types of the inputs."""
    inputs, state = make(20, dimensions, DK=DK)
    inputs = jax.tree.map(lambda x: x.astype(dtype), inputs)
    state = state.astype(jnp.float32)
    results, gradients = value_and_gradients(inputs, state, implementation="plain")
    assert results[0].dtype == dtype
    assert results[1].dtype == jnp.float32
    assert all(g.dtype == dtype for g in gradients[0])
    double = jax.tree.map(lambda x: x.astype(jnp.float64), (inputs, state))
    expected, expected_gradients = value_and_gradients(*double, implementation="recurrent")
    assert_trees_close(results, expected, AGREEMENT[dtype])
    assert_trees_close(gradients, expected_gradients, GRADIENT_AGREEMENT[dtype])


def test_mixed_types_become_the_widest():
    inputs, state = make(6)
    mixed = inputs._replace(**{name: getattr(inputs, name).astype("float32") for name in ("key",)})
    mixed = mixed._replace(query=inputs.query.astype("bfloat16"))
    check((mixed, state.astype("float32")))
    half = jax.tree.map(lambda x: x.astype("float32"), inputs)
    check((half, state))


def test_scale_is_a_number_or_an_array():
    inputs, state = make(6)

    def function(scale, name):
        output = plstm_1d(*inputs, initial_state=state, scale=scale, implementation=name)
        return jnp.sum(jnp.sin(output))

    for scale in (0.3, 2, jnp.float32(0.3)):
        expected = function(scale, "recurrent")
        assert relative_error(function(scale, "plain"), expected) < AGREEMENT["float64"]
    gradients = [jax.grad(function)(0.3, name) for name in ("plain", "recurrent")]
    assert relative_error(*gradients) < GRADIENT_AGREEMENT["float64"]


def test_empty_batch():
    inputs, state = make(6, batch=(3, 2))
    empty = jax.tree.map(lambda x: x[:0], (inputs, state))
    (output, last), gradients = value_and_gradients(*empty, implementation="plain")
    assert output.shape == (0, 2, 6, 3, 4)
    assert last.shape == (0, 2, 5, 3, 4)
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, empty)


def test_declines_before_anything_is_computed():
    with pytest.raises(NotImplementedError, match="DK is 65"):
        plstm_1d(*make(2, DK=65)[0], implementation="plain")
    with pytest.raises(NotImplementedError, match="chunk_size is 16"):
        plstm_1d(*make(2)[0], chunk_size=16, implementation="plain")
    op_1d.DIMENSIONS["JT9"] = dict(JK=1, JQ=1, JV=1, JT=9, JO=1)
    with pytest.raises(NotImplementedError, match="JT is 9, above 8"):
        plstm_1d(*make(2, "JT9")[0], implementation="plain")


def loss(inputs, state, name="plain"):
    options = dict(initial_state=state, implementation=name, return_state=True)
    output, last = plstm_1d(*inputs, **options)
    return jnp.sum(jnp.sin(output)) + jnp.sum(jnp.cos(last))


def gradient(name):
    return jax.grad(functools.partial(loss, name=name), argnums=(0, 1))


@pytest.mark.parametrize("dimensions", ["J4", "JT3_JK2_JQ2"])
def test_vmap_of_vmap_of_grad(dimensions):
    arguments = make(5, dimensions, batch=(3, 2, 2), DK=3)
    actual, expected = (
        fast_jit(jax.vmap(jax.vmap(gradient(name), in_axes=1, out_axes=1)))(*arguments)
        for name in ("plain", "recurrent")
    )
    assert_trees_close(actual, expected, GRADIENT_AGREEMENT["float64"])


@pytest.mark.parametrize("mapped", ["transition", "query", "initial_state"])
def test_vmap_of_grad_and_grad_of_vmap_over_some_arguments(mapped):
    inputs, state = make(5, batch=(2, 2), DK=3)
    one, first = jax.tree.map(lambda x: x[0], (inputs, state))

    def arguments(array):
        if mapped == "initial_state":
            return one, array
        return one._replace(**{mapped: array}), first

    array = state if mapped == "initial_state" else getattr(inputs, mapped)
    for name in ("plain", "recurrent"):
        vmap_of_grad = jax.vmap(lambda x, name=name: gradient(name)(*arguments(x)))
        mapped_loss = jax.vmap(lambda x, name=name: loss(*arguments(x), name))
        grad_of_vmap = jax.grad(lambda x, f=mapped_loss: jnp.sum(f(x)))
        results = fast_jit(lambda x, a=vmap_of_grad, b=grad_of_vmap: (a(x), b(x)))(array)
        if name == "plain":
            actual = results
    assert_trees_close(actual, results, GRADIENT_AGREEMENT["float64"])


def test_grad_with_respect_to_what_is_not_mapped():
    inputs, state = make(5, batch=(2,), DK=3)
    states = jnp.stack([state, 2 * state, -state])

    def total(inputs, name):
        return jnp.sum(jax.vmap(lambda s: loss(inputs, s, name))(states))

    actual, expected = (fast_jit(jax.grad(total), static_argnums=1)(inputs, name) for name in NAMES)
    assert_trees_close(actual, expected, GRADIENT_AGREEMENT["float64"])


NAMES = ("plain", "recurrent")


@pytest.mark.parametrize("direct", [True, False])
def test_a_mapped_call_is_one_call_over_all_members(direct):
    """Neither a loop nor a call a member, in the program as it is traced."""
    inputs, state = make(6, "J4", batch=(3, 2, 5), DK=3, DV=2, direct=direct)
    jaxpr = jax.make_jaxpr(jax.vmap(jax.vmap(gradient("plain"))))(inputs, state)
    calls = list(kernel_calls(jaxpr.jaxpr))
    assert [name for name, _, _ in calls] == ["plain_forward", "plain_backward"]
    assert all(shape[:2] == (3 * 2 * 5, 8) for _, shape, _ in calls)
    assert not any("scan" in path or "while" in path for _, _, path in calls)


def kernel_calls(jaxpr, path=()):
    """(name, shape of the query, enclosing primitives) of the kernel's calls in a program."""
    for equation in jaxpr.eqns:
        name = equation.params.get("name", "")
        if equation.primitive.name in ("jit", "pjit") and name.startswith("plain_"):
            yield name, equation.invars[0].aval.shape, path
            continue
        for parameter in equation.params.values():
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from kernel_calls(inner, (*path, equation.primitive.name))


def test_remat_jit_and_scan():
    inputs, state = make(8, "J4", DK=3)
    expected = fast_jit(gradient("recurrent"))(inputs, state)
    actual = fast_jit(jax.grad(jax.checkpoint(loss), argnums=(0, 1)))(inputs, state)
    assert_trees_close(actual, expected, GRADIENT_AGREEMENT["float64"])
    assert_trees_close(gradient("plain")(inputs, state), expected, GRADIENT_AGREEMENT["float64"])

    def scanned(inputs, state):
        parts = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(2, 2, 4, *x.shape[2:]), 1, 0), inputs)

        def body(state, part):
            options = dict(initial_state=state, implementation="plain", return_state=True)
            output, state = plstm_1d(*part, **options)
            return state, jnp.sum(jnp.sin(output))

        last, sums = jax.lax.scan(body, state, parts)
        return jnp.sum(sums) + jnp.sum(jnp.cos(last))

    actual = fast_jit(jax.grad(scanned, argnums=(0, 1)))(inputs, state)
    assert_trees_close(actual, expected, GRADIENT_AGREEMENT["float64"])


def test_two_equal_kernels_share_their_programs():
    inputs, state = make(4, "J1")
    runs = [implementation_of(PlainKernel()).run for _ in range(2)]
    jaxprs = [
        jax.make_jaxpr(functools.partial(run, scale=0.5, chunk_size=None))(inputs, state)
        for run in runs
    ]
    assert str(jaxprs[0]) == str(jaxprs[1])
    output, _ = call(inputs, state, implementation="plain")
    assert output.shape == (2, 4, 3, 1)


@pytest.mark.parametrize("dimensions", ["J4", "JT3_JK2_JQ2"])
def test_gates_may_be_wider_than_the_rest(dimensions):
    """As in a layer that computes in bfloat16: the gates and their cotangents stay in float32."""
    inputs, state = make(7, dimensions, dtype=jnp.float32)
    narrow = {name: getattr(inputs, name).astype(jnp.bfloat16) for name in VECTORS}
    inputs = inputs._replace(**narrow)
    results, gradients = value_and_gradients(inputs, state, implementation="plain")
    expected, expected_gradients = value_and_gradients(inputs, state, implementation="recurrent")
    assert jax.tree.map(lambda x: x.dtype, gradients[0]) == jax.tree.map(lambda x: x.dtype, inputs)
    assert_trees_close(results, expected, AGREEMENT["bfloat16"])
    assert_trees_close(gradients, expected_gradients, GRADIENT_AGREEMENT["bfloat16"])


def test_second_derivatives_raise_and_say_so():
    inputs, state = make(3, "J1", batch=(), DK=1, DV=1)

    def loss(value):
        inner = inputs._replace(value=value)
        return jnp.sum(plstm_1d(*inner, initial_state=state, implementation="plain") ** 2)

    with pytest.raises(NotImplementedError, match='implementation="recurrent"'):
        jax.grad(lambda v: jnp.sum(jax.grad(loss)(v) ** 2))(inputs.value)
