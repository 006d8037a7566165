"""Complex states kept as real numbers, [real parts, imaginary parts] along the last axis.

So states, projections and checkpoints hold real arrays alone.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Complex, Float


def as_complex(pairs: Float[Array, "*S 2N"]) -> Complex[Array, "*S N"]:
    """Join both halves of the last axis."""
    return jax.lax.complex(*jnp.split(pairs, 2, axis=-1))


def as_pairs(numbers: Complex[Array, "*S N"]) -> Float[Array, "*S 2N"]:
    """Write real parts, then imaginary parts."""
    return jnp.concatenate([numbers.real, numbers.imag], axis=-1)


def polar(modulus: Float[Array, "*S"], phase: Float[Array, "*S"]) -> Complex[Array, "*S"]:
    """Return `modulus * exp(i phase)`."""
    return jax.lax.complex(modulus * jnp.cos(phase), modulus * jnp.sin(phase))
