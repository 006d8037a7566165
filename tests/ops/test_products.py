"""What `plstm_seq.ops.products` promises beyond the ops made of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from plstm_seq.ops.products import repeat


@pytest.mark.parametrize("lead", [(), (3,), (2, 5), (0, 5)])
def test_a_repeated_parameter_has_the_derivatives_of_a_broadcast(lead):
    rng = np.random.default_rng(0)
    parameter, tangent = rng.normal(size=(2, 4, 3))
    cotangent = rng.normal(size=(*lead, 4, 3))

    def broadcast(x):
        return jnp.broadcast_to(x, (*lead, *x.shape))

    got, expected = (
        {
            "value": function(parameter),
            "forwards": jax.jvp(function, (parameter,), (tangent,))[1],
            "backwards": jax.vjp(function, parameter)[1](cotangent)[0],
            "twice": jax.hessian(lambda x, f=function: (cotangent * f(x) ** 3).sum())(parameter),
            "members": jax.vmap(jax.grad(lambda x, f=function: (f(x) ** 2).sum()))(
                np.stack([parameter, tangent])
            ),
        }
        for function in (lambda x: repeat(x, lead), broadcast)
    )
    for name in expected:
        assert np.shape(got[name]) == np.shape(expected[name]), name
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-12, atol=1e-12, err_msg=name)


def test_the_gradient_of_a_bfloat16_parameter_is_summed_in_float32():
    parameter = jnp.ones((2,), jnp.bfloat16)
    gradient = jax.grad(lambda x: repeat(x, (4096,)).sum().astype(jnp.float32))(parameter)
    assert gradient.dtype == jnp.bfloat16
    assert gradient.tolist() == [4096.0, 4096.0]


def test_the_gradient_on_a_cpu_is_a_product():
    _, backwards = jax.vjp(lambda x: repeat(x, (4, 5)), jnp.ones(3))
    program = jax.make_jaxpr(backwards)(jnp.ones((4, 5, 3)))
    operations = {equation.primitive.name for equation in program.jaxpr.eqns}
    assert "dot_general" in operations
    assert "reduce_sum" not in operations
