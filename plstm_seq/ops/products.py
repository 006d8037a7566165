"""Products of arrays that all ops share; the letters are those of `plstm_seq.notation`."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.device import default_device

Product = Callable[..., Array]

einsum: Product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def repeat(parameter: Array, lead: tuple[int, ...]) -> Array:
    """Broadcasts `parameter` to every position of the axes `lead`: [*lead, *its axes].

    On a CPU the gradient, a sum over the positions, is computed as a product with ones. XLA would
    merge a plain sum with earlier sums over other axes and compute those twice, at a tenth of the
    speed. Differentiable in every mode.
    """
    return jnp.broadcast_to(parameter, (*lead, *parameter.shape))


@repeat.defjvp
def _repeat_jvp(
    lead: tuple[int, ...], primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    ((parameter,), (tangent,)) = primals, tangents
    shape = (*lead, *parameter.shape)
    if default_device().platform != "cpu":
        return repeat(parameter, lead), jnp.broadcast_to(tangent, shape)
    wide = tangent.astype(jnp.promote_types(tangent.dtype, jnp.float32))
    ones = jnp.ones((math.prod(lead), 1), wide.dtype)
    at_each = einsum("pi,if->pf", ones, wide.reshape(1, -1))
    return repeat(parameter, lead), at_each.reshape(shape).astype(tangent.dtype)


def fused_einsum(subscripts: str, *operands: Array) -> Array:
    """Computes a batch of small `jnp.einsum`s as one loop of multiply-adds in place of dots.

    On a CPU a batch of tiny dots runs one by one, at a hundredth of this loop's speed.
    Differentiable in every mode.

    Args:
        subscripts: subscripts of `jnp.einsum` with `->`; every operand begins with `...`, which
            stands for the same axes in all of them.
        operands: arrays [..., the letters' axes].
    """
    names, kept = subscripts.replace("...", "").split("->")
    summed = sorted(set(names) - set(kept) - {","})
    order = [*kept, *summed]
    factors = []
    for letters, operand in zip(names.split(","), operands, strict=True):
        batch = operand.ndim - len(letters)
        own = [batch + letters.index(letter) for letter in order if letter in letters]
        missing = [batch + n for n, letter in enumerate(order) if letter not in letters]
        factors.append(jnp.expand_dims(operand.transpose(*range(batch), *own), missing))
    product = functools.reduce(jnp.multiply, factors)
    return product.sum(tuple(range(-len(summed), 0))) if summed else product


@jax.custom_vjp
def small_matmul(left: Array, right: Array) -> Array:
    """Computes [..., i, j] @ [..., j, k] for a small j, as one fused loop of multiply-adds.

    Leading axes broadcast. On a CPU a batch of tiny dots would run one by one. The function has its
    own derivative rule, because differentiating the loop term by term would scatter every term.
    """
    terms = (left[..., :, j, None] * right[..., None, j, :] for j in range(left.shape[-1]))
    return functools.reduce(jnp.add, terms)


def _forward(left: Array, right: Array) -> tuple[Array, tuple[Array, Array]]:
    return small_matmul(left, right), (left, right)


def _backward(residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    left, right = residuals
    return (
        _sum_to(left.shape, small_matmul(cotangent, right.mT)),
        _sum_to(right.shape, small_matmul(left.mT, cotangent)),
    )


small_matmul.defvjp(_forward, _backward)


def _sum_to(shape: tuple[int, ...], array: Array) -> Array:
    """Sums over the axes along which `shape` was broadcast."""
    array = array.sum(range(array.ndim - len(shape)))
    axes = [i for i, (n, m) in enumerate(zip(shape, array.shape, strict=True)) if n != m]
    return array.sum(axes, keepdims=True) if axes else array


def direct_term(
    query: Array, key: Array, value: Array, direct: Array, product: Product = einsum
) -> Array:
    """Returns the direct term of the output before scaling, [..., DV, JO]."""
    scores = product("...kq,...ka->...qa", query, key)
    return product("...vw,...ow->...vo", value, product("...oqaw,...qa->...ow", direct, scores))
