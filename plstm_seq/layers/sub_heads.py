"""The linear function of gates and transitions, in which every head reads one part of the input."""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.arguments import accumulation_dtype, promote
from plstm_seq.ops.products import repeat


def sub_head_linear(
    x: Float[Array, "..."],
    weight: Float[Array, "..."] | None,
    bias: Float[Array, "..."],
    *,
    dtype: DTypeLike | None = None,
) -> Float[Array, "..."]:
    """Return `bias + weight . x`, where x is split into blocks of which every head reads one.

    Args:
        x: [..., I].
        weight: [H / S, S, *shape, I / S] with S blocks, where head `h S + s` reads block `s`; None:
            the result does not depend on the input.
        bias: [H, *shape].
        dtype: the type in which `x` and `weight` are multiplied; None: the common type of `x` and
            `bias`.

    Returns:
        [..., H, *shape], or [H, *shape] without a weight; in float32 at least, as are the sums.
    """
    (x, _) = promote(x, bias, dtype=dtype)
    accumulate = accumulation_dtype(x.dtype)
    if weight is None:
        return bias.astype(accumulate)
    groups, blocks, *shape, size = weight.shape
    lead = x.shape[:-1]
    x = x.reshape(*lead, blocks, size)
    weight = weight.astype(x.dtype).reshape(groups, blocks, math.prod(shape), size)
    inner = jnp.einsum("hsgi,...si->...hsg", weight, x, preferred_element_type=accumulate)
    return inner.reshape(*lead, *bias.shape) + repeat(bias.astype(accumulate), lead)
