"""Every layer and model computes the same in Equinox and in Linen: outputs and gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from every_layer import CASES
from fast_compile import fast_jit
from flax import nnx
from golden import relative_error
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.interop.equinox import as_equinox
from plstm_seq.interop.linen import as_linen, linen_variables


def loss(y):
    """A number, and the output itself; some layers return a state with it."""
    y = y[0] if isinstance(y, tuple) else y
    return jnp.sum(jnp.sin(y)), y


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outputs_and_gradients_are_ours(case):
    module, arguments = case.make(), case.arguments
    graph, parameters, constants = nnx.split(module, nnx.Param, ...)
    linen_module = as_linen(case.kind, *case.args, **case.options, param_dtype=jnp.float64)

    # In one program: what is the same is compiled once.
    @fast_jit
    def run(parameters, constants):
        module = nnx.merge(graph, parameters, constants)
        wrapped, variables = as_equinox(module), linen_variables(module)
        of_nnx, y = jax.grad(
            lambda p: loss(nnx.merge(graph, p, constants)(*arguments)), has_aux=True
        )(parameters)
        of_equinox, z = eqx.filter_grad(lambda m: loss(m(*arguments)), has_aux=True)(wrapped)
        of_linen, w = jax.grad(
            lambda p: loss(linen_module.apply({**variables, "params": p}, *arguments)),
            has_aux=True,
        )(variables["params"])
        outputs = {"nnx": y, "equinox": z, "linen": w}
        gradients = {
            "nnx": nnx.to_pure_dict(of_nnx),
            "equinox": of_equinox.parameters,
            "linen": of_linen,
        }
        return outputs, gradients, of_equinox.constants

    outputs, gradients, of_constants = run(parameters, constants)
    for framework in ("equinox", "linen"):
        assert relative_error(outputs[framework], outputs["nnx"]) < AGREEMENT["float64"]
        errors = jax.tree.map(relative_error, gradients[framework], gradients["nnx"])
        assert max(jax.tree.leaves(errors)) < GRADIENT_AGREEMENT["float64"]
    assert all(gradient == 0 for gradient in jax.tree.leaves(of_constants))
