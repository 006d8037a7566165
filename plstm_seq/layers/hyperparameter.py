"""Numbers of a config that a module keeps as arrays, so that members of a sweep differ in them.

A config names them in `leaf_fields`. They enter arithmetic alone: no shape and no Python branch
depends on their value, only on whether they are None.
"""

from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.configured import Configured
from plstm_seq.layers.precision import accumulation_dtype


class HasLeafFields(Protocol):
    """A config some of whose fields, floats or None, become arrays of the module."""

    leaf_fields: ClassVar[tuple[str, ...]]


class Hyperparameter(nnx.Variable):
    """A number [] that the forward pass reads and training leaves as it is.

    No `nnx.Param`: an optimizer does not see it, a checkpoint holds it, `vmap` maps over it.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers import Hyperparameter
        >>> class Halved(nnx.Module):
        ...     def __init__(self):
        ...         self.factor = Hyperparameter(jnp.float32(0.5))
        ...
        ...     def __call__(self, x):
        ...         return self.factor.constant() * x
        >>> module = Halved()
        >>> float(module(3.0)), nnx.state(module, nnx.Param)
        (1.5, State({}))
    """

    def constant(self, dtype: DTypeLike | None = None) -> Float[Array, ""]:
        """Return the number, in `dtype` if given, as a constant of differentiation."""
        return jax.lax.stop_gradient(jnp.asarray(self[...], dtype))


def add_hyperparameters(module: nnx.Module, config: HasLeafFields, param_dtype: DTypeLike) -> None:
    """Give a module an attribute for each of `config.leaf_fields`, of the same name.

    Args:
        module: gets the attributes: a `Hyperparameter`, or None where the field is None.
        config: where the values are.
        param_dtype: the type of the module's parameters. The numbers are in float32 at least:
            a bound of 0.9 would be 0.898 in bfloat16.
    """
    for name in config.leaf_fields:
        value: Any = getattr(config, name)
        if value is not None:
            value = Hyperparameter(jnp.asarray(value, accumulation_dtype(param_dtype)))
        setattr(module, name, value)


def fill_hyperparameters(module: nnx.Module) -> None:
    """Set every hyperparameter below a module, in place, to the value in its module's config.

    For a module made by `nnx.eval_shape`, which knows types alone; parameters are filled by others.
    """
    for _, part in nnx.iter_modules(module):
        if not isinstance(part, Configured):
            continue
        config = part.config
        for name in getattr(config, "leaf_fields", ()):
            variable: Hyperparameter | None = getattr(part, name)
            if variable is not None:
                value = jnp.asarray(getattr(config, name), variable.dtype)
                setattr(part, name, Hyperparameter(value))
