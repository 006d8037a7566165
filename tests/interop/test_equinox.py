"""Our modules as Equinox modules: under its transformations, saved, and back again."""

import io

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from every_layer import CASES

from plstm_seq.interop.equinox import as_equinox


def test_arrays_are_leaves_and_the_rest_is_static():
    wrapped = as_equinox(CASES["post_up_block"].make())
    arrays, rest = eqx.partition(wrapped, eqx.is_array)
    assert jax.tree.leaves(rest) == []
    assert len(jax.tree.leaves(arrays.parameters)) > 10
    assert wrapped.constants["dropout"] == 0.1


def test_works_under_filter_jit_and_filter_vmap():
    case = CASES["sequence_model"]
    wrapped = [as_equinox(case.make())] * 2
    wrapped[1] = eqx.tree_at(lambda m: m.parameters["lm_head"], wrapped[1], replace_fn=lambda a: -a)
    stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *wrapped)
    each = eqx.filter_vmap(lambda module, x: module(x), in_axes=(eqx.if_array(0), None))
    y = eqx.filter_jit(each)(stacked, case.inputs)
    np.testing.assert_allclose(y[0], -y[1], rtol=1e-12)


def test_leaves_are_serialised():
    case = CASES["post_up_block"]
    saved, other = as_equinox(case.make()), as_equinox(case.make())
    other = jax.tree.map(jnp.zeros_like, other)
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, saved)
    file.seek(0)
    assert eqx.tree_equal(eqx.tree_deserialise_leaves(file, other), saved)


def test_goes_back_to_nnx():
    module = CASES["plstm_1d"].make()
    back = as_equinox(module).to_nnx()
    assert type(back) is type(module)
    assert back.config == module.config
    state = back.init_state(2)
    x = CASES["plstm_1d"].inputs[:, 0]
    np.testing.assert_array_equal(back.step(x, state)[0], module.step(x, state)[0])
