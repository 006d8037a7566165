"""The exponential of skew matrices: orthogonal to rounding error for any size and norm."""

from functools import reduce

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

# The Taylor polynomial of this degree is exact to rounding for norms up to the second number.
_DEGREE_AND_RADIUS = {"float32": (6, 0.3), "float64": (12, 0.3)}
# Every squaring doubles the error of the angles. Generators whose norm would need more squarings
# than this have hardly an angle left after rounding, and are scaled back to the largest norm.
_MAX_SQUARINGS = {"float32": 13, "float64": 21}


def exponential_of_skew(skew: Float[Array, "*S J J"]) -> Float[Array, "*S J J"]:
    """Return `exp(skew)`, a rotation.

    `J = 2` in closed form; else a Taylor polynomial of the scaled matrix, as many squarings as its
    norm asks for (Higham, Functions of Matrices, section 10.3), and a step towards the nearest
    orthogonal matrix that takes away what the squarings amplified. The backward pass computes the
    derivative's adjoint, `L(skew^T, cotangent)`, afresh: nothing but `skew` is kept for it.

    Args:
        skew: `[..., J, J]` in float32 or float64, `skew^T = -skew`. Where its norm exceeds 2,400
            (float32; 6e5 in float64), beyond which rounding leaves the angles few digits, it is
            scaled back to that norm.

    Returns:
        `[..., J, J]`, orthogonal to a few units of rounding, determinant 1.
    """
    dim = skew.shape[-1]
    if dim == 1:
        return jnp.ones_like(skew)
    if dim == 2:
        angle = skew[..., 0, 1]
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -2)
    _, radius = _DEGREE_AND_RADIUS[skew.dtype.name]
    largest = radius * 2 ** _MAX_SQUARINGS[skew.dtype.name]
    squares = jnp.sum(skew * skew, axis=(-2, -1), keepdims=True) / 2
    outside = squares > largest**2
    shrink = jnp.where(outside, largest * jax.lax.rsqrt(jnp.where(outside, squares, 1)), 1)
    return _scaling_and_squaring(skew * shrink)


@jax.custom_vjp
def _scaling_and_squaring(skew: Array) -> Array:
    return _to_orthogonal(_exponential(skew))


def _forward(skew: Array) -> tuple[Array, Array]:
    return _to_orthogonal(_exponential(skew)), skew


def _backward(skew: Array, cotangent: Array) -> tuple[Array]:
    # The adjoint of the derivative at S is the derivative at S^T = -S.
    _, adjoint = jax.jvp(_exponential, (-skew,), (cotangent,))
    return (adjoint,)


_scaling_and_squaring.defvjp(_forward, _backward)


# A product of products would be fused into one loop that computes the inner one anew for each of
# its J uses. So below every product stands in a loop or branch of its own, which ends a fusion.


def _exponential(skew: Array) -> Array:
    degree, radius = _DEGREE_AND_RADIUS[skew.dtype.name]
    squarings = _squarings(jax.lax.stop_gradient(skew), radius)
    scaled = skew * jnp.exp2(-squarings.astype(skew.dtype))
    identity = jnp.eye(skew.shape[-1], dtype=skew.dtype)

    def horner(step: Array, tail: Array) -> Array:
        return identity + _product(scaled, tail) / (degree - step)

    def square(step: Array, root: Array) -> Array:
        return jnp.where(step < squarings, _product(root, root), root)

    root = jax.lax.fori_loop(1, degree, horner, identity + scaled / degree)
    return jax.lax.fori_loop(0, jnp.max(squarings, initial=0), square, root)


def _squarings(skew: Array, radius: float) -> Array:
    """How often to halve each matrix, `[..., 1, 1]`: until its spectral norm is in the radius.

    The eigenvalues of a skew matrix come in pairs, so the norm is at most that of Frobenius over
    sqrt(2).
    """
    norm = jnp.sqrt(jnp.sum(skew * skew, axis=(-2, -1), keepdims=True) / 2)
    return jnp.ceil(jnp.log2(jnp.maximum(norm / radius, 1))).astype(jnp.int32)


def _to_orthogonal(x: Array) -> Array:
    """One Newton-Schulz step towards the nearest orthogonal matrix: an error e becomes e^2."""
    identity = jnp.eye(x.shape[-1], dtype=x.dtype)

    def step(i: Array, correction: Array) -> Array:
        return jax.lax.cond(
            i == 0,
            lambda: (3 * identity - _product(jnp.swapaxes(x, -1, -2), x)) / 2,
            lambda: _product(x, correction),
        )

    return jax.lax.fori_loop(0, 2, step, x)


def _product(left: Array, right: Array) -> Array:
    """`small_matmul` without its reverse rule, which forward differentiation does not pass."""
    terms = (left[..., :, j, None] * right[..., None, j, :] for j in range(left.shape[-1]))
    return reduce(jnp.add, terms)
