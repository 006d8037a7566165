"""Scalar functions that bound gates, eigenvalues and logits; all act on each entry by itself."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from plstm_seq.layers.arguments import require_above_zero, require_choice

ActivationName = Literal["identity", "tanh", "logsigmoid", "sigmoid", "expexp"]


def soft_cap(x: Float[Array, "*S"], scale: float) -> Float[Array, "*S"]:
    """Cap smoothly: `scale * tanh(x / scale)`, in (-scale, scale) and of slope 1 at zero.

    Args:
        x: Any shape.
        scale: The bound, positive.

    Returns:
        The capped values, in the shape and type of `x`.
    """
    return scale * jnp.tanh(x / scale)


def logsigmoid(x: Float[Array, "*S"], scale: float | Float[Array, ""]) -> Float[Array, "*S"]:
    """Return `sigmoid(x) ** scale`, in (0, 1), computed as `exp(scale * log_sigmoid(x))`.

    The published name comes from how it is computed: the power is taken in log space, so that it
    neither underflows early nor loses its gradient.

    Args:
        x: Any shape.
        scale: The power, positive.

    Returns:
        The gate values, in the shape and type of `x`.
    """
    return jnp.exp(scale * jax.nn.log_sigmoid(x))


def expexp(x: Float[Array, "*S"], scale: float | Float[Array, ""]) -> Float[Array, "*S"]:
    """Return `exp(-scale * exp(x))`, in (0, 1) and *falling* in x.

    The eigenvalue map of the same name (`layers.transition.Factorized`) is this function of `-x`.

    Args:
        x: Any shape.
        scale: The rate of decay at x = 0, positive.

    Returns:
        The gate values, in the shape and type of `x`.
    """
    return jnp.exp(-scale * jnp.exp(x))


_ACTIVATIONS: dict[str, Callable[[jax.Array, float], jax.Array]] = {
    # A linear gate has no use for a scale; the published code does not scale it either.
    "identity": lambda x, _: x,
    "tanh": soft_cap,
    "logsigmoid": logsigmoid,
    "sigmoid": lambda x, _: jax.nn.sigmoid(x),
    "expexp": expexp,
}


def activation(name: ActivationName, scale: float = 1.0) -> Callable[[jax.Array], jax.Array]:
    """Look an activation up by its published name.

    Args:
        name: "identity"; "tanh": `scale * tanh(x / scale)`; "logsigmoid": `sigmoid(x) ** scale`;
            "sigmoid"; "expexp": `exp(-scale * exp(x))`. "identity" and "sigmoid" have no scale.
        scale: Positive.

    Returns:
        A function of one array that keeps shape and type.

    Raises:
        ValueError: If the name is unknown or the scale is not positive.
    """
    require_choice("name", name, ActivationName)
    require_above_zero(scale=scale)
    function = _ACTIVATIONS[name]
    return lambda x: function(x, scale)
