"""One suite for every implementation of `plstm_2d`: the recurrence in float64 is the truth."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import relative_error
from hypothesis import given, settings
from hypothesis import strategies as st
from op_2d import PORTABLE, apply, call, make, value_and_gradients
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.ops.grid import api, chunkwise, parallel
from plstm_seq.ops.grid.inputs import States

FORMS = [name for name in PORTABLE if name != "recurrent"]


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    monkeypatch.setattr(chunkwise, "SIDE", 3)


@functools.cache
def truth(*case, **options):
    return value_and_gradients(*make(*case, **dict(options)), implementation="recurrent")


def assert_close(actual, expected, tolerance):
    leaves, structure = jax.tree.flatten(expected)
    got, same = jax.tree.flatten(actual)
    assert structure == same
    errors = [relative_error(a, b) for a, b in zip(got, leaves, strict=True)]
    assert max(errors) < tolerance, errors


@pytest.mark.parametrize("turns", ["P", "L"])
def test_the_recurrence_is_what_the_formula_says(turns):
    """Written out in numpy, cell by cell and index by index."""
    X, Y, scale = 3, 4, 0.7
    inputs, initial = make(X, Y, "all_differ", batch=(), turns=turns)
    q, k, v, Sr, Sd, Trl, Tdu, Tdl, Tru, Ml, Mu, D = (
        None if x is None else np.asarray(x) for x in inputs
    )

    def move(T, cell, C):
        return 0 if T is None else np.einsum("ij,kvj->kvi", T[cell], C)

    def write(S, cell):
        return np.einsum("iaw,ka,vw->kvi", S[cell], k[cell], v[cell])

    left, down = list(np.asarray(initial.across)), list(np.asarray(initial.down))
    expected = np.zeros((X, Y, v.shape[2], Ml.shape[2]))
    for cell in itertools.product(range(X), range(Y)):
        x, y = cell
        cr, cd = left[y], down[x]
        expected[cell] = scale * (
            np.einsum("oqi,kq,kvi->vo", Ml[cell], q[cell], cr)
            + np.einsum("oqi,kq,kvi->vo", Mu[cell], q[cell], cd)
            + np.einsum("oqaw,kq,ka,vw->vo", D[cell], q[cell], k[cell], v[cell])
        )
        left[y] = move(Trl, cell, cr) + move(Tru, cell, cd) + write(Sr, cell)
        down[x] = move(Tdu, cell, cd) + move(Tdl, cell, cr) + write(Sd, cell)
    results = call(inputs, initial, scale=scale, implementation="recurrent")
    assert_close(results, (expected, (np.stack(left), np.stack(down))), 1e-14)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("grid", "dimensions", "kind", "turns"),
    [
        ((4, 7), "J2", "reset", "P"),
        ((6, 5), "J1", "contractive", "L"),
        ((3, 4), "all_differ", "orthogonal", "R"),
        ((1, 4), "J2", "contractive", "P"),
        ((3, 1), "J1", "reset", "P"),
    ],
    ids=lambda x: "x".join(map(str, x)) if isinstance(x, tuple) else x,
)
def test_agrees_with_the_recurrence(form, grid, dimensions, kind, turns):
    case = dict(kind=kind, turns=turns)
    results, gradients = value_and_gradients(*make(*grid, dimensions, **case), implementation=form)
    expected, expected_gradients = truth(*grid, dimensions, **case)
    assert_close(results, expected, AGREEMENT["float64"])
    assert_close(gradients, expected_gradients, GRADIENT_AGREEMENT["float64"])


@pytest.mark.parametrize(
    ("form", "dtype"),
    [("parallel", "float32"), ("parallel", "bfloat16"), ("chunkwise", "bfloat16")],
)
def test_low_precision(form, dtype):
    """Against the recurrence in float64 on the same rounded inputs."""
    inputs, initial = make(4, 5, kind="reset")
    inputs = jax.tree.map(lambda x: x.astype(dtype), inputs)
    initial = jax.tree.map(lambda x: x.astype(jnp.float32), initial)
    (output, states), gradients = value_and_gradients(inputs, initial, implementation=form)
    assert output.dtype == dtype
    assert {x.dtype for x in states} == {jnp.dtype("float32")}
    assert {x.dtype for x in jax.tree.leaves(gradients[0])} == {jnp.dtype(dtype)}
    exact = jax.tree.map(lambda x: x.astype(jnp.float64), (inputs, initial))
    expected, expected_gradients = value_and_gradients(*exact, implementation="recurrent")
    assert_close((output, states), expected, AGREEMENT[dtype])
    assert_close(gradients, expected_gradients, GRADIENT_AGREEMENT[dtype])


@pytest.mark.parametrize("implementation", PORTABLE)
def test_what_is_left_out_is_zero(implementation):
    """Direct term, initial states (one of them, or both) and returned states."""
    inputs, initial = make(4, 5, "J1", direct=False)
    zeros = jax.tree.map(jnp.zeros_like, initial)
    none = inputs._replace(direct=jnp.zeros((2, 4, 5, 1, 1, 1, 1)))
    expected = call(none, zeros, implementation="recurrent")
    assert_close(call(inputs, implementation=implementation), expected, AGREEMENT["float64"])
    output = call(inputs, implementation=implementation, return_state=False)
    assert_close(output, expected[0], AGREEMENT["float64"])
    one = call(inputs, (initial.across, None), implementation=implementation)
    expected = call(inputs, (initial.across, zeros.down), implementation="recurrent")
    assert_close(one, expected, AGREEMENT["float64"])


@pytest.mark.parametrize("implementation", PORTABLE)
@settings(max_examples=3, deadline=None)
@given(
    columns=st.sets(st.integers(1, 3), max_size=2),
    rows=st.sets(st.integers(1, 2), max_size=1),
    seed=st.integers(0, 99),
)
def test_state_passing(implementation, columns, rows, seed):
    """A grid cut by full columns and rows, both edges handed over, equals the whole."""
    inputs, initial = make(4, 3, "J1", kind="reset", seed=seed, DK=2)
    whole, last = call(inputs, initial, implementation="recurrent")
    xs, ys = ([0, *sorted(cuts), end] for cuts, end in ((columns, 4), (rows, 3)))
    across = {y: initial.across[:, y:end] for y, end in itertools.pairwise(ys)}
    bands, downs = [], []
    for x, x_end in itertools.pairwise(xs):
        down, outputs = initial.down[:, x:x_end], []
        for y, y_end in itertools.pairwise(ys):
            part = jax.tree.map(
                lambda a, at=(x, x_end, y, y_end): a[:, at[0] : at[1], at[2] : at[3]], inputs
            )
            output, (across[y], down) = call(
                part, States(across[y], down), implementation=implementation
            )
            outputs.append(output)
        bands.append(jnp.concatenate(outputs, 2))
        downs.append(down)
    results = (
        jnp.concatenate(bands, 1),
        (
            jnp.concatenate(list(across.values()), 1),
            jnp.concatenate(downs, 1),
        ),
    )
    assert_close(results, (whole, last), AGREEMENT["float64"])


@pytest.mark.parametrize("implementation", PORTABLE)
def test_no_batch_axes_and_an_empty_batch(implementation):
    inputs, initial = make(4, 3, "J1", batch=(2, 2))
    whole, _ = call(inputs, initial, implementation=implementation)
    alone, _ = call(
        *jax.tree.map(lambda x: x[1, 1], (inputs, initial)), implementation=implementation
    )
    assert_close(alone, whole[1, 1], AGREEMENT["float64"])
    empty = jax.tree.map(lambda x: x[:0], (inputs, initial))
    (output, last), gradients = value_and_gradients(*empty, implementation=implementation)
    assert output.shape == (0, *whole.shape[1:])
    assert jax.tree.map(jnp.shape, (*gradients, last)) == jax.tree.map(
        jnp.shape, (*empty, empty[1])
    )


def test_the_default_goes_by_the_number_of_cells(monkeypatch):
    """One after the other declines, and is noted."""
    for few, expected in ((20, ["parallel", "chunkwise"]), (19, ["chunkwise", "recurrent"])):
        tried = []

        def decline(*_, name, tried=tried, **__):
            tried.append(name)
            raise NotImplementedError(name)

        spies = {
            name: dataclasses.replace(
                api.IMPLEMENTATIONS[name], run=functools.partial(decline, name=name)
            )
            for name in PORTABLE
        }
        monkeypatch.setattr(api, "IMPLEMENTATIONS", spies)
        monkeypatch.setattr(parallel, "FEW_CELLS", few)
        with pytest.raises(ExceptionGroup):
            apply(make(4, 5, "J1")[0])
        assert tried[:2] == expected
