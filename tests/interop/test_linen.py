"""Our modules in Flax Linen: made by `init`, inside others, and back again."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_layer import CASES
from fast_compile import fast_jit
from flax import linen

from plstm_seq.interop.linen import as_linen, linen_variables, load_linen


def test_init_makes_the_variables():
    case = CASES["post_up_block"]
    wrapped = as_linen(case.kind, *case.args, param_dtype=jnp.float64)
    made = fast_jit(wrapped.init)(jax.random.key(0), case.inputs)
    expected = linen_variables(case.make())
    assert set(made) == {"params", "Hyperparameter"}
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, expected)
    again = flax.serialization.from_bytes(made, flax.serialization.to_bytes(made))
    assert jax.tree.all(jax.tree.map(np.array_equal, again, made))


def test_a_layer_inside_a_linen_module():
    case = CASES["convolution"]

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            y, _ = as_linen(case.kind, *case.args)(x)
            return linen.Dense(3)(y)

    net = Net()
    variables = net.init(jax.random.key(0), case.inputs)
    assert net.apply(variables, case.inputs).shape == (*case.inputs.shape[:2], 3)


def test_other_methods():
    case = CASES["plstm_1d"]
    module, x = case.make(), case.inputs[:, 0]
    wrapped = as_linen(case.kind, *case.args, param_dtype=jnp.float64)
    state = module.init_state(len(x))
    y, _ = wrapped.apply(linen_variables(module), x, state, nnx_method="step")
    np.testing.assert_allclose(y, module.step(x, state)[0], rtol=1e-12)


def test_variables_go_back_into_a_module():
    case = CASES["post_up_block"]
    variables = linen_variables(case.make())
    doubled = jax.tree.map(lambda array: 2 * array, variables)
    module = case.make()
    load_linen(module, doubled)
    assert jax.tree.all(jax.tree.map(np.array_equal, linen_variables(module), doubled))
    with pytest.raises(ValueError, match="got the shapes"):
        load_linen(module, {"params": variables["params"]})
