"""NaN and infinity reach what depends on them, in the recurrence and so in every other form."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import op_1d
import op_2d
import op_dag
import pytest
from op_delta import DK, delta_inputs, delta_loop

from plstm_seq.ops import plstm_1d, plstm_2d_oriented, plstm_dag
from plstm_seq.ops.attention import causal_attention
from plstm_seq.ops.grid import chunkwise
from plstm_seq.ops.grid.inputs import GATES
from plstm_seq.ops.grid.recurrent import step
from plstm_seq.ops.linear import gated_delta_rule


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    monkeypatch.setattr(chunkwise, "SIDE", 2)


class Form(NamedTuple):
    """A form, the recurrence (both of one pytree), their arguments, and what walks over steps."""

    fast: object
    truth: object
    arguments: object
    batch: int = 0
    """Axes of a leaf before the one that counts steps."""


def _sequence(direct, chunk_size):
    inputs, state = op_1d.make(5, "JT3_JK2_JQ2", batch=(), DK=2, DV=2, direct=direct)

    def op(implementation, chunk_size, arguments):
        inputs, state = arguments
        options = dict(implementation=implementation, chunk_size=chunk_size, return_state=True)
        return plstm_1d(*inputs, initial_state=state, **options)

    fast = functools.partial(op, "chunkwise", chunk_size)
    return Form(fast, functools.partial(op, "recurrent", None), (inputs, state))


def _grid(implementation, turns, dimensions="J2", cells=(3, 2), edges=True, **options):
    arguments = op_2d.make(*cells, dimensions, DK=2, DV=2, turns=turns, **{"batch": (), **options})
    inputs = arguments[0]

    def op(name, arguments):
        given = arguments if edges else (arguments, None)
        return op_2d.apply(*given, implementation=name, return_state=edges)

    def truth(arguments):
        one = functools.partial(_cell_by_cell, scale=2**-0.5)
        return (jax.vmap(lambda x: one(*x)) if inputs.batch else lambda x: one(*x))(arguments)

    # The gradients of states that nobody asks for are zeros in a recurrence, and not nothing.
    truth = truth if edges else functools.partial(op, "recurrent")
    fast = functools.partial(op, implementation)
    return Form(fast, truth, arguments if edges else inputs, batch=len(inputs.batch))


def _oriented(implementation, turns):
    inputs, _ = op_2d.make(3, 2, batch=(2,), DK=2, DV=2, turns=turns)
    gates = {name: getattr(inputs, name) for name in GATES}
    one = jax.tree.map(lambda x: x[0], inputs)
    inputs = one._replace(**gates)

    def op(name, inputs):
        return plstm_2d_oriented(*inputs, orientations=(0, 3), implementation=name)

    return Form(functools.partial(op, implementation), functools.partial(op, "recurrent"), inputs)


def _cell_by_cell(inputs, initial, scale):
    """Each cell of a grid once, row after row."""
    X, Y = inputs.grid
    across, down, outputs = {}, {}, {}
    for y, x in np.ndindex(Y, X):
        left = across[x - 1, y] if x else initial.across[y]
        up = down[x, y - 1] if y else initial.down[x]
        cell = jax.tree.map(lambda array, x=x, y=y: array[x, y], inputs)
        outputs[x, y], across[x, y], down[x, y] = step(cell, left, up)
    output = scale * jnp.stack([jnp.stack([outputs[x, y] for y in range(Y)]) for x in range(X)])
    right = jnp.stack([across[X - 1, y] for y in range(Y)])
    return output, (right, jnp.stack([down[x, Y - 1] for x in range(X)]))


def _dag():
    graph = op_dag.build("isolated")

    def op(implementation, inputs):
        return plstm_dag(*inputs, graph=graph, implementation=implementation)

    fast, truth = (functools.partial(op, name) for name in ("levelwise", "recurrent"))
    return Form(fast, truth, op_dag.make(graph, batch=()))


def _delta(parts, decays, erases, chunk_size):
    # One sequence, so that all that is not finite is of it.
    arguments = {k: jnp.asarray(x[:1, :5]) for k, x in delta_inputs(parts, decays, erases).items()}
    return Form(
        lambda arguments: gated_delta_rule(**arguments, chunk_size=chunk_size),
        lambda arguments: delta_loop(**arguments),
        arguments,
        batch=1,
    )


def _attention():
    draws = np.random.default_rng(0)
    arrays = tuple(jnp.asarray(draws.normal(size=(1, 5, 1, 2))) for _ in range(3))
    return Form(
        lambda arrays: causal_attention(*arrays, block_size=2),
        lambda arrays: _attention_loop(*arrays),
        arrays,
        batch=1,
    )


def _attention_loop(query, key, value):
    """A query at a time; what it does not see is cut off."""
    outputs = []
    for t in range(query.shape[1]):
        keys, values = key[:, : t + 1], value[:, : t + 1]
        scores = jnp.einsum("bhd,bshd->bsh", query[:, t], keys) * query.shape[-1] ** -0.5
        outputs.append(jnp.einsum("bsh,bshd->bhd", jax.nn.softmax(scores, axis=1), values))
    return jnp.stack(outputs, axis=1)


FORMS = {
    **{
        f"plstm_1d, {'direct' if direct else 'no direct'}, chunks of {size}": functools.partial(
            _sequence, direct, size
        )
        for direct in (True, False)
        for size in (1, 2, 8)
    },
    **{
        f"plstm_2d, {name}, {turns}": functools.partial(_grid, name, turns)
        for name in ("recurrent", "parallel", "chunkwise")
        for turns in "PLR"
    },
    "plstm_2d, parallel, all sizes": functools.partial(_grid, "parallel", "P", "all_differ"),
    "plstm_2d, chunkwise, a batch": functools.partial(_grid, "chunkwise", "R", batch=(2,)),
    "plstm_2d, chunkwise, no edges": functools.partial(
        _grid, "chunkwise", "P", cells=(3, 3), edges=False, direct=False
    ),
    "plstm_2d, parallel, no edges": functools.partial(_grid, "parallel", "", edges=False),
    "plstm_2d_oriented, parallel": functools.partial(_oriented, "parallel", "P"),
    "plstm_2d_oriented, chunkwise": functools.partial(_oriented, "chunkwise", "L"),
    "plstm_dag": _dag,
    "delta rule": functools.partial(_delta, 2, 1, True, 4),
    "linear attention": functools.partial(_delta, 1, DK, False, 4),
    "attention": _attention,
}


def with_one(tree, value, form, draws):
    """The tree with one number replaced, for every leaf and step."""
    leaves, structure = jax.tree.flatten(tree)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    for number, (name, leaf) in enumerate(zip(names, leaves, strict=True)):
        for first in range(leaf.shape[form.batch]):
            rest = (int(draws.integers(size)) for size in leaf.shape[form.batch + 1 :])
            place = (*[0] * form.batch, first, *rest)
            changed = [*leaves[:number], leaf.at[place].set(value), *leaves[number + 1 :]]
            yield f"{name}{list(place)} = {value}", structure.unflatten(changed)


def with_several(tree, form, draws, count=8):
    """The tree with three numbers replaced at once."""
    for _ in range(count):
        changed, names = tree, []
        for _ in range(3):
            found = list(with_one(changed, draws.choice([np.nan, np.inf]), form, draws))
            name, changed = found[draws.integers(len(found))]
            names.append(name)
        yield ", ".join(names), changed


def both_ways(op):
    """Results and the gradients of everything, for cotangents of all results."""

    @jax.jit
    def run(arguments, cotangents):
        results, backward = jax.vjp(op, arguments)
        return results, backward(cotangents)

    return run


# The others are slow.
FIRST = (
    *("plstm_1d, direct, chunks of 2", "plstm_2d, parallel, P", "plstm_2d, chunkwise, L"),
    *("plstm_2d_oriented, parallel", "plstm_dag", "delta rule", "linear attention", "attention"),
)
assert set(FIRST) <= FORMS.keys()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=() if name in FIRST else pytest.mark.slow)
        for name, make in FORMS.items()
    ],
)
def test_a_form_is_finite_where_the_recurrence_is(make):
    form = make()
    fast, truth = both_ways(form.fast), both_ways(form.truth)
    results = jax.eval_shape(form.fast, form.arguments)
    cotangents = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), results)
    draws = np.random.default_rng(0)
    given = form.arguments, cotangents
    ones = (with_one(given, value, form, draws) for value in (np.nan, np.inf))
    for name, arguments in itertools.chain(*ones, with_several(given, form, draws)):
        expected, got = truth(*arguments), fast(*arguments)
        for wanted, found in zip(jax.tree.leaves(expected), jax.tree.leaves(got), strict=True):
            finite = np.isfinite(wanted)
            np.testing.assert_array_equal(np.isfinite(found), finite, err_msg=name)
            np.testing.assert_allclose(
                np.where(finite, found, 0), np.where(finite, wanted, 0), rtol=1e-9, atol=1e-11
            )


@pytest.mark.parametrize("implementation", ["recurrent", "parallel", "chunkwise"])
def test_the_gradient_of_the_scale_of_a_grid(implementation):
    """Finite where the output is: what is bad here comes to no cell."""
    inputs, _ = op_2d.make(2, 1, "J1", batch=(), DK=1, DV=1)
    inputs = inputs._replace(source_down=inputs.source_down.at[0, 0].set(np.nan))

    def total(scale):
        options = dict(return_state=False, implementation=implementation, scale=scale)
        return op_2d.apply(inputs, **options).sum()

    value, gradient = jax.value_and_grad(total)(0.5)
    np.testing.assert_allclose(gradient, 2 * value)


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["recurrent", "parallel", "chunkwise"])
def test_second_derivatives_of_a_grid_are_not_zero_where_something_is_bad(implementation):
    inputs, _ = op_2d.make(1, 1, "J1", batch=(), DK=1, DV=1)
    inputs = inputs._replace(value=inputs.value * np.nan)

    def of_query(inputs):
        options = dict(return_state=False, implementation=implementation)
        return jax.grad(lambda x: op_2d.apply(x, **options).sum())(inputs).query.sum() ** 2

    gradient = jax.grad(of_query)(inputs)
    for name in ("key", "value", "direct"):
        assert np.isnan(getattr(gradient, name)).all(), name
