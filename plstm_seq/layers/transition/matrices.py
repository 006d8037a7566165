"""Functions of small square matrices for transitions, without library decompositions.

The first functions compute reflections, products of reflections and orthogonal factors, the
spectral norm and radius, and the exponential of skew matrices, which is orthogonal to rounding
error for any size and norm. The last ones are the normalisations of `Factorized`, which map any
matrix `[..., J, J]` to one that does not increase the norm of a state. They have the published
names but are our own; `factorized.py` has the published functions. They are jitted, so that calls
from a notebook compile each of them only once per shape.
"""

from functools import reduce

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from plstm_seq.ops.sequence.levels import small_matmul


def unit(vector: Float[Array, "*S J"]) -> Float[Array, "*S J"]:
    """Scale vectors to length 1; those shorter than 1e-10 (in float32) go smoothly to zero."""
    squares = jnp.sum(vector * vector, axis=-1, keepdims=True)
    return vector * jax.lax.rsqrt(squares + jnp.finfo(vector.dtype).eps ** 3)


def reflection_product(
    directions: Float[Array, "*S N J"], factors: Float[Array, "*S N"]
) -> Float[Array, "*S J J"]:
    """Return `(1 - f_1 k_1 k_1^T) ... (1 - f_N k_N k_N^T)` for directions k and factors f."""

    def step(product: Array, factor: tuple[Array, Array]) -> tuple[Array, None]:
        return small_matmul(product, _reflection(*factor)), None

    steps = (jnp.moveaxis(directions, -2, 0), jnp.moveaxis(factors, -1, 0))
    first = _reflection(*jax.tree.map(lambda x: x[0], steps))
    return jax.lax.scan(step, first, jax.tree.map(lambda x: x[1:], steps))[0]


def orthogonal_factor(
    matrix: Float[Array, "*S J J"], *, lapack_signs: bool = False
) -> Float[Array, "*S J J"]:
    """Return Q of the decomposition `matrix = Q R`, computed with Householder reflections.

    Q is orthogonal to rounding error even if the matrix is singular, but it is not continuous
    there.

    Args:
        matrix: The matrices `[..., J, J]`.
        lapack_signs: If false, the diagonal of R is positive. Q is then the result of the
            Gram-Schmidt process: it is the identity for an upper triangular matrix with positive
            diagonal, and its determinant has the sign of the matrix's determinant. If true, Q has
            the signs of LAPACK, and therefore of `jnp.linalg.qr`.

    Returns:
        Orthogonal matrices `[..., J, J]`.
    """
    dim = matrix.shape[-1]
    index = jnp.arange(dim)

    def eliminate(rows: Array, j: Array) -> tuple[Array, Array]:
        """Reflect column j of the present R (row j of its transpose) onto its diagonal."""
        row = jax.lax.dynamic_index_in_dim(rows, j, axis=-2, keepdims=False)
        column = jnp.where(index >= j, row, 0)
        sign = _sign(jax.lax.dynamic_index_in_dim(column, j, axis=-1, keepdims=False))
        squares = jnp.sum(column * column, axis=-1)
        length = jnp.sqrt(jnp.where(squares > 0, squares, 1))
        vector = column + jnp.where(index == j, (sign * length)[..., None], 0)
        direction = vector * jax.lax.rsqrt(jnp.sum(vector * vector, axis=-1, keepdims=True))
        rows = small_matmul(rows, _reflection(direction, jnp.full_like(length, 2)))
        # The reflection makes the diagonal entry of R equal to -sign * length. LAPACK leaves a
        # reflection out if there is nothing to eliminate.
        nothing = jnp.all(jnp.where(index > j, column, 0) == 0, axis=-1)
        return rows, jnp.where(nothing, -1, 1).astype(sign.dtype) if lapack_signs else -sign

    identity = jnp.broadcast_to(jnp.eye(dim, dtype=matrix.dtype), matrix.shape)
    # The transpose of R is stacked above Q, because the reflections act on the rows of both.
    rows = jnp.concatenate([jnp.swapaxes(matrix, -1, -2), identity], axis=-2)
    rows, signs = jax.lax.scan(eliminate, rows, jnp.arange(dim - 1))
    last = rows[..., dim - 1, dim - 1]
    last = jnp.ones_like(last) if lapack_signs else _sign(last)
    signs = jnp.concatenate([signs, last[None]])
    return rows[..., dim:, :] * jnp.moveaxis(signs, 0, -1)[..., None, :]


def _reflection(direction: Array, factor: Array) -> Array:
    """Return `1 - factor k k^T`, [..., J, J], for directions k [..., J] and factors [...]."""
    row = direction[..., None, :]
    outer = small_matmul(jnp.swapaxes(factor[..., None, None] * row, -1, -2), row)
    return jnp.eye(direction.shape[-1], dtype=outer.dtype) - outer


def _sign(x: Array) -> Array:
    """Return the sign of x, with sign(0) = 1."""
    return jnp.where(x >= 0, 1, -1).astype(x.dtype)


# The computed norm is too large by a factor of at most J ** (2 ** -25): by less than 7e-8 at J = 8.
_NORM_SQUARINGS = 24
# For a normal matrix the computed radius is too large by a factor of at most J ** (2 ** -13), which
# is 3e-4 at J = 8.
_RADIUS_SQUARINGS = 12


@jax.custom_vjp
def spectral_norm(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S"]:
    """Return the largest singular value, or an upper bound that is equal to it up to rounding.

    The result is `trace((M^T M)^N)^(1 / 2N)` with `N = 2^24`, computed by repeated squaring. It is
    at least the norm and at most `J^(1 / 2N)` times the norm. The power `(M^T M)^N`, scaled to
    trace 1, is the projector on the leading singular vectors, which the gradient needs. If several
    singular values are the largest, the gradient is the mean of their gradients.

    Args:
        matrix: The matrices `[..., J, J]` in float32 or float64.

    Returns:
        The norms `[...]`. A zero matrix has norm 0 and gradient 0.
    """
    return _norm_and_projector(matrix)[0]


def _norm_and_projector(matrix: Array) -> tuple[Array, Array]:
    size = jnp.max(jnp.abs(matrix), axis=(-2, -1), keepdims=True)
    unit = matrix / jnp.where(size > 0, size, 1)
    gram = small_matmul(jnp.swapaxes(unit, -1, -2), unit)
    trace = _trace(gram)
    gram = gram / jnp.where(trace > 0, trace, 1)

    def square(step: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        power, log_norm = carry
        power = small_matmul(power, power)
        trace = jnp.where(size > 0, _trace(power), 1)
        # After squaring s the power is N = 2^(s + 1), so its trace enters with 1 / 2N = 2^-(s + 2).
        weight = jnp.exp2(-(step + 2).astype(matrix.dtype))
        return power / trace, log_norm + weight * jnp.log(trace)

    start = (gram, jnp.zeros_like(trace))
    projector, log_norm = jax.lax.fori_loop(0, _NORM_SQUARINGS, square, start)
    norm = size * jnp.sqrt(trace) * jnp.exp(log_norm)
    return norm[..., 0, 0], projector


def _norm_forward(matrix: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    norm, projector = _norm_and_projector(matrix)
    return norm, (matrix, norm, projector)


def _norm_backward(residuals: tuple[Array, Array, Array], cotangent: Array) -> tuple[Array]:
    matrix, norm, projector = residuals
    rate = cotangent / jnp.where(norm > 0, norm, 1)
    return (rate[..., None, None] * small_matmul(matrix, projector),)


spectral_norm.defvjp(_norm_forward, _norm_backward)


def spectral_radius(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S"]:
    """Return a close upper bound of the largest modulus of an eigenvalue.

    The bound is that of Gelfand's formula, `|M^N|_F^(1/N)` with `N = 2^12`. It is never below the
    spectral radius, and within 0.1 % of it unless the eigenvectors are almost parallel.

    Args:
        matrix: The matrices `[..., J, J]` in float32 or float64.

    Returns:
        The bounds `[...]`, which are positive (tiny for a nilpotent matrix).
    """

    def square(carry: tuple[Array, Array], weight: Array) -> tuple[tuple[Array, Array], None]:
        power, log_radius = carry
        power = small_matmul(power, power)
        size = _frobenius(power)
        return (power / size, log_radius + weight * jnp.log(size)), None

    size = _frobenius(matrix)
    weights = jnp.exp2(-jnp.arange(1, _RADIUS_SQUARINGS + 1, dtype=matrix.dtype))
    (_, log_radius), _ = jax.lax.scan(square, (matrix / size, jnp.log(size)), weights)
    return jnp.exp(log_radius)[..., 0, 0]


def _trace(matrix: Array) -> Array:
    return jnp.trace(matrix, axis1=-2, axis2=-1)[..., None, None]


def _frobenius(matrix: Array) -> Array:
    squares = jnp.sum(matrix * matrix, axis=(-2, -1), keepdims=True)
    return jnp.sqrt(jnp.maximum(squares, jnp.finfo(matrix.dtype).tiny))


# The degree of the Taylor polynomial, and the norm up to which it is exact to rounding error.
_DEGREE_AND_RADIUS = {"float32": (6, 0.3), "float64": (12, 0.3)}
# Every squaring doubles the error of the angles. If a generator's norm would need more squarings
# than this, rounding would leave its angles hardly any digits, so it is scaled back to the largest
# norm.
_MAX_SQUARINGS = {"float32": 13, "float64": 21}


def exponential_of_skew(skew: Float[Array, "*S J J"]) -> Float[Array, "*S J J"]:
    """Return `exp(skew)`, a rotation.

    For `J = 2` there is a closed form. For larger J, the matrix is scaled down, its exponential is
    computed with a Taylor polynomial and then squared as often as the norm requires (Higham,
    Functions of Matrices, section 10.3). A last step towards the nearest orthogonal matrix removes
    the error that the squarings amplified. The backward pass keeps only `skew`, from which it
    computes the adjoint of the derivative, `L(skew^T, cotangent)`.

    Args:
        skew: The matrices `[..., J, J]` in float32 or float64, with `skew^T = -skew`. A matrix
            whose norm exceeds 2,400 (6e5 in float64) is scaled back to that norm: beyond it
            rounding leaves the angles few digits.

    Returns:
        Matrices `[..., J, J]` with determinant 1, orthogonal to a few units of rounding error.
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


# The compiler would fuse a product of products into one loop, which computes the inner product anew
# for each of its J uses. Below, every product is therefore in a loop or branch of its own, which
# the compiler does not fuse with others.


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
    """Return how often to halve each matrix, `[..., 1, 1]`, until its norm is within `radius`.

    The eigenvalues of a skew matrix come in pairs, so its spectral norm is at most the Frobenius
    norm divided by sqrt(2).
    """
    norm = jnp.sqrt(jnp.sum(skew * skew, axis=(-2, -1), keepdims=True) / 2)
    return jnp.ceil(jnp.log2(jnp.maximum(norm / radius, 1))).astype(jnp.int32)


def _to_orthogonal(x: Array) -> Array:
    """Take a Newton-Schulz step to the nearest orthogonal matrix: an error e becomes e^2."""
    identity = jnp.eye(x.shape[-1], dtype=x.dtype)

    def step(i: Array, correction: Array) -> Array:
        return jax.lax.cond(
            i == 0,
            lambda: (3 * identity - _product(jnp.swapaxes(x, -1, -2), x)) / 2,
            lambda: _product(x, correction),
        )

    return jax.lax.fori_loop(0, 2, step, x)


def _product(left: Array, right: Array) -> Array:
    """Multiply like `small_matmul`, without the custom rule that forbids forward derivatives."""
    terms = (left[..., :, j, None] * right[..., None, j, :] for j in range(left.shape[-1]))
    return reduce(jnp.add, terms)


@jax.jit
def qr(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S J J"]:
    """Return Q of `matrix = Q R` with a positive diagonal of R, in the type of `matrix`."""
    return orthogonal_factor(matrix)


@jax.jit
def eigenvalue_restriction(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S J J"]:
    """Divide matrices by their spectral radius if that exceeds 1."""
    return matrix / jnp.maximum(spectral_radius(matrix), 1)[..., None, None]


@jax.jit
def singularvalue_restriction(
    matrix: Float[Array, "*S J J"], bound: float | Float[Array, ""] = 1.0
) -> Float[Array, "*S J J"]:
    """Scale matrices whose spectral norm exceeds `bound` back to that norm."""
    return matrix / jnp.maximum(spectral_norm(matrix) / bound, 1)[..., None, None]


@jax.jit
def householder_orthogonalization(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S J J"]:
    """Return `-H_1 ... H_J`, where `H_i` is the reflection along row i.

    The result is a rotation, and for the identity matrix it is the identity.
    """
    return -reflection_product(unit(matrix), jnp.full(matrix.shape[:-1], 2, matrix.dtype))


@jax.jit
def exponential_orthogonalization(
    matrix: Float[Array, "*S J J"], factor: float | Float[Array, ""] = 1.0
) -> Float[Array, "*S J J"]:
    """Return `exp(factor (matrix - matrix^T))`, a rotation."""
    return exponential_of_skew(factor * skew_part(matrix))


def skew_part(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S J J"]:
    """Return `matrix - matrix^T`."""
    return matrix - jnp.swapaxes(matrix, -1, -2)
