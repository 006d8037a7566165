"""Our modules in Flax Linen, through flax's own bridge."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from plstm_seq.layers import Hyperparameter

# As flax's bridge names the collections.
_COLLECTIONS: dict[str, type[nnx.Variable]] = {
    "params": nnx.Param,
    "Hyperparameter": Hyperparameter,
}


def as_linen(make: Callable[..., nnx.Module], *args: Any, **kwargs: Any) -> linen.Module:
    """Return a Linen module that makes and runs one of our modules.

    `init(key, x)` returns the collections `params` and, where the module keeps numbers that are no
    parameters, `Hyperparameter`; `apply(variables, x)` runs it, also inside other Linen modules.
    Other methods: `apply(variables, x, state, nnx_method="step")`.

    Args:
        make: the class, such as `PLSTM1DLayer`.
        *args: its arguments.
        **kwargs: its keyword arguments, without `rngs`, which come from Linen.
    """
    return nnx.bridge.to_linen(make, *args, **kwargs)


def linen_variables(module: nnx.Module) -> dict[str, Any]:
    """Return the arrays of a module as variables for `as_linen` of its class."""
    collections = {
        name: nnx.to_pure_dict(nnx.state(module, kind)) for name, kind in _COLLECTIONS.items()
    }
    return {name: arrays for name, arrays in collections.items() if arrays}


def load_linen(module: nnx.Module, variables: Mapping[str, Any]) -> None:
    """Fill a module, in place, with variables of `as_linen` of its class.

    Raises:
        ValueError: the variables are of another structure or of other shapes; the module is
            unchanged.
    """
    own = linen_variables(module)
    expected = jax.tree.map(jnp.shape, own)
    given = jax.tree.map(jnp.shape, dict(variables))
    if given != expected:
        raise ValueError(f"variables: got the shapes {given}, expected {expected}")
    cast = jax.tree.map(lambda old, new: jnp.asarray(new, old.dtype), own, dict(variables))
    for arrays in cast.values():
        nnx.update(module, arrays)
