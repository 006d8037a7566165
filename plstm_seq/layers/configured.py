"""Modules that keep their config, and the part of a config on which a compiled program depends.

A config names in `leaf_fields` the numbers that its module keeps as arrays, so that members of a
sweep can differ in them and share the program. They enter arithmetic alone: no shape and no Python
branch depends on their value, only on whether they are None.
"""

import dataclasses
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.arguments import accumulation_dtype
from plstm_seq.layers.initializers import Initializer

C = TypeVar("C")


def structure(config: Any) -> Hashable:
    """Return a config without the values of its leaves.

    Two configs of equal structure make modules of the same shapes and the same program. They may
    differ in their initialisers, which only fill parameters, and in their `leaf_fields` (but not
    in which of these are None).

    Args:
        config: a frozen dataclass, for instance a `SequenceModelConfig`, or a value in one.

    Returns:
        A hashable value, equal for configs of equal structure.

    Example:
        >>> from plstm_seq.layers import structure
        >>> from plstm_seq.layers.transition import Selection
        >>> cold, warm = Selection(dim=3, temperature=0.5), Selection(dim=3, temperature=2.0)
        >>> structure(cold) == structure(warm), structure(cold) == structure(Selection(dim=4))
        (True, False)
    """
    if isinstance(config, Initializer):
        return Initializer
    if dataclasses.is_dataclass(config):
        leaves = getattr(config, "leaf_fields", ())
        fields = ((field.name, getattr(config, field.name)) for field in dataclasses.fields(config))
        return type(config), *(
            (name, value is None if name in leaves else structure(value)) for name, value in fields
        )
    return tuple(map(structure, config)) if isinstance(config, tuple) else config


class Kept(Generic[C]):
    """A config that equals every other config of the same structure."""

    def __init__(self, config: C):
        self.config = config
        self._structure = structure(config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kept) and self._structure == other._structure

    def __hash__(self) -> int:
        return hash(self._structure)

    def __repr__(self) -> str:
        return repr(self.config)


class Configured(nnx.Module, Generic[C]):
    """A module with a config that sets `self.kept = Kept(config)`.

    Modules that differ in nothing but the values of their leaves have equal graph definitions. So
    they share compiled programs, and one program trains them together. A module merged from the
    graph definition of one and the state of another has the config of the first and computes with
    the values in its state.
    """

    kept: Kept[C]

    @property
    def config(self) -> C:
        """The config that the module was made from."""
        return self.kept.config


class Hyperparameter(nnx.Variable):
    """A number [] that the forward pass reads and that training leaves as it is.

    It is not an `nnx.Param`: an optimizer does not see it. A checkpoint holds it, and `vmap` maps
    over it.

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
        """Return the number, in `dtype` if given; derivatives treat it as a constant."""
        return jax.lax.stop_gradient(jnp.asarray(self[...], dtype))


def add_hyperparameters(module: nnx.Module, config: Any, param_dtype: DTypeLike) -> None:
    """Give a module an attribute of the same name for each of `config.leaf_fields`.

    Args:
        module: the module to change. An attribute is a `Hyperparameter`, or None if the field is.
        config: a dataclass with `leaf_fields`, whose values are floats or None.
        param_dtype: the type of the module's parameters. The numbers are in float32 at least:
            a bound of 0.9 would be 0.898 in bfloat16.
    """
    for name in config.leaf_fields:
        value: Any = getattr(config, name)
        if value is not None:
            value = Hyperparameter(jnp.asarray(value, accumulation_dtype(param_dtype)))
        setattr(module, name, value)


def fill_hyperparameters(module: nnx.Module) -> None:
    """Set every hyperparameter in a module, in place, to the value in its own module's config.

    This is for a module from `nnx.eval_shape`, which has types but no values; parameters are filled
    elsewhere.
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
