"""NaN and infinity reach what depends on them, in the recurrence and so in every other form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import op_1d
import pytest

from plstm_seq.ops import plstm_1d

LENGTH = 5
CHUNKS = [1, 2, 8]


@functools.cache
def form(implementation, chunk_size):
    """Output, last state and the gradients of everything, for cotangents of both."""

    @jax.jit
    def run(arguments, cotangents):
        def op(arguments):
            inputs, state = arguments
            return plstm_1d(
                *inputs,
                initial_state=state,
                implementation=implementation,
                chunk_size=chunk_size,
                return_state=True,
            )

        results, backward = jax.vjp(op, arguments)
        return results, backward(cotangents)

    return run


def leaves_with(tree, value, draws):
    """The tree with one number of one leaf at one step replaced, for every leaf and step."""
    leaves, structure = jax.tree.flatten(tree)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    for number, (name, leaf) in enumerate(zip(names, leaves, strict=True)):
        for step in range(leaf.shape[0]):
            place = (step, *(draws.integers(size) for size in leaf.shape[1:]))
            changed = [*leaves[:number], leaf.at[place].set(value), *leaves[number + 1 :]]
            yield f"{name}{list(map(int, place))} = {value}", structure.unflatten(changed)


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "no_direct"])
@pytest.mark.parametrize("chunk_size", CHUNKS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_chunks_are_finite_where_the_recurrence_is(value, chunk_size, direct):
    inputs, state = op_1d.make(LENGTH, "JT3_JK2_JQ2", batch=(), DK=2, DV=2, direct=direct)
    cotangents = jnp.ones((LENGTH, 2, 2)), jnp.ones(state.shape)
    draws = np.random.default_rng(0)
    for name, (arguments, bars) in leaves_with(((inputs, state), cotangents), value, draws):
        expected = form("recurrent", None)(arguments, bars)
        got = form("chunkwise", chunk_size)(arguments, bars)
        for wanted, found in zip(jax.tree.leaves(expected), jax.tree.leaves(got), strict=True):
            finite = np.isfinite(wanted)
            np.testing.assert_array_equal(np.isfinite(found), finite, err_msg=name)
            np.testing.assert_allclose(
                np.where(finite, found, 0), np.where(finite, wanted, 0), rtol=1e-9, atol=1e-11
            )
