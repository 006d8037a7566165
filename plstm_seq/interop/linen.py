"""Wraps our modules as Flax Linen modules, through flax's own bridge."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from plstm_seq.layers import Hyperparameter

# The names that flax's bridge gives to the collections.
_COLLECTIONS: dict[str, type[nnx.Variable]] = {
    "params": nnx.Param,
    "Hyperparameter": Hyperparameter,
}


def as_linen(make: Callable[..., nnx.Module], *args: Any, **kwargs: Any) -> linen.Module:
    """Return a Linen module that makes and runs one of our modules.

    `init(key, x)` returns the collections `params` and, if the module keeps numbers that are not
    parameters, `Hyperparameter`. `apply(variables, x)` runs the module, also inside other Linen
    modules. Other methods are called by name: `apply(variables, x, state, nnx_method="step")`.

    Args:
        make: The class of the module, such as `PLSTM1DLayer`.
        *args: The positional arguments of the class.
        **kwargs: The keyword arguments of the class, without `rngs`, which Linen supplies.
    """
    return nnx.bridge.to_linen(make, *args, **kwargs)


def linen_variables(module: nnx.Module) -> dict[str, Any]:
    """Return the arrays of a module as variables of the Linen module that wraps its class."""
    collections = {
        name: nnx.to_pure_dict(nnx.state(module, kind)) for name, kind in _COLLECTIONS.items()
    }
    return {name: arrays for name, arrays in collections.items() if arrays}


def load_linen(module: nnx.Module, variables: Mapping[str, Any]) -> None:
    """Fill a module, in place, with variables of the Linen module that wraps its class.

    Raises:
        ValueError: If the variables have another structure or other shapes. The module is then
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
