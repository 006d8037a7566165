"""The matrix functions behind the transitions: exact structure, bounds and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.test_util import check_grads

from plstm_seq.layers.transition import normalizations
from plstm_seq.layers.transition.exponential import exponential_of_skew
from plstm_seq.layers.transition.orthogonal import skew_matrix, straight_through_sign
from plstm_seq.layers.transition.reflections import orthogonal_factor, reflection_product, unit
from plstm_seq.layers.transition.spectrum import spectral_norm, spectral_radius

SIZES = [*((dim, jnp.float32) for dim in range(1, 9)), (3, jnp.float64), (8, jnp.float64)]
sizes = pytest.mark.parametrize(
    ("dim", "dtype"), SIZES, ids=[f"J{dim}-{jnp.dtype(dtype).name}" for dim, dtype in SIZES]
)
SCALES = np.array([0.1, 0.3, 1.0, 3.0, 10.0, 30.0])


def random_matrices(dim: int, dtype, count: int = 100) -> jax.Array:
    """[scale, count, J, J]: of all scales, drawn in float64."""
    noise = np.random.default_rng(dim).normal(size=(len(SCALES), count, dim, dim))
    return jnp.asarray(SCALES[:, None, None, None] * noise, dtype)


def distance_to_orthogonal(matrix: jax.Array) -> float:
    matrix = np.asarray(matrix, np.float64)
    return np.abs(matrix @ matrix.swapaxes(-1, -2) - np.eye(matrix.shape[-1])).max()


def determinant(matrix: jax.Array) -> np.ndarray:
    return np.linalg.det(np.asarray(matrix, np.float64))


@sizes
def test_the_exponential_is_a_rotation_to_rounding_error(dim, dtype):
    matrix = random_matrices(dim, dtype)
    rotation = jax.jit(normalizations.exponential_orthogonalization)(matrix)
    assert rotation.dtype == dtype
    assert distance_to_orthogonal(rotation) < 8 * jnp.finfo(dtype).eps
    np.testing.assert_allclose(determinant(rotation), 1, atol=1e-5)


@sizes
def test_the_exponential_is_that_of_scipy(dim, dtype):
    skew = normalizations.skew_part(random_matrices(dim, dtype, count=4))
    rotation = jax.jit(exponential_of_skew)(skew)
    for scale, matrices, found in zip(SCALES, skew, rotation, strict=True):
        expected = [scipy.linalg.expm(np.asarray(matrix, np.float64)) for matrix in matrices]
        # An angle is known to its own rounding error.
        tolerance = 20 * dim * (1 + scale) * jnp.finfo(dtype).eps
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("norm", [1e4, 1e8, 1e30])
def test_absurd_generators_still_give_rotations(norm):
    skew = normalizations.skew_part(norm * random_matrices(5, jnp.float32, count=5))
    assert distance_to_orthogonal(exponential_of_skew(skew)) < 3e-6


@pytest.mark.parametrize("angle", [np.pi / 2, np.pi, 3.0 * np.pi])
def test_the_exponential_reaches_and_passes_the_angle_pi(angle):
    skew = skew_matrix(jnp.array([0.0, angle, 0.0]), 3)
    expected = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    np.testing.assert_allclose(exponential_of_skew(skew), expected, atol=1e-14)


@pytest.mark.parametrize("dim", [2, 3, 5])
@pytest.mark.parametrize("scale", [0.0, 0.3, 5.0])
def test_gradient_of_the_exponential(dim, scale):
    entries = scale * jnp.asarray(np.random.default_rng(0).normal(size=(2, dim * (dim - 1) // 2)))
    check_grads(
        lambda entries: exponential_of_skew(skew_matrix(entries, dim)),
        (entries,),
        order=1,
        modes=["rev"],
        rtol=1e-6,
        atol=1e-8,
    )


def test_hessian_vector_products_pass_the_exponential():
    skew = normalizations.skew_part(random_matrices(3, jnp.float64, count=1)[2, 0])
    weight = random_matrices(3, jnp.float64, count=2)[2, 1]

    def gradient(skew):
        return jax.grad(lambda skew: jnp.sum(weight * exponential_of_skew(skew)))(skew)

    _, forward = jax.jvp(gradient, (skew,), (skew,))
    step = 1e-5
    numeric = (gradient(skew * (1 + step)) - gradient(skew * (1 - step))) / (2 * step)
    np.testing.assert_allclose(forward, numeric, rtol=1e-6, atol=1e-8)


@sizes
def test_the_orthogonal_factor_is_orthogonal_and_a_factor(dim, dtype):
    matrix = random_matrices(dim, dtype)
    q = np.asarray(jax.jit(orthogonal_factor)(matrix), np.float64)
    assert distance_to_orthogonal(q) < 16 * jnp.finfo(dtype).eps
    r = q.swapaxes(-1, -2) @ np.asarray(matrix, np.float64)
    size = np.abs(matrix).max(axis=(-2, -1), keepdims=True)
    assert np.abs(np.tril(r, -1) / size).max() < 32 * jnp.finfo(dtype).eps
    assert np.diagonal(r, axis1=-2, axis2=-1).min() > 0


def test_the_orthogonal_factor_with_the_signs_of_lapack():
    matrix = jnp.concatenate([random_matrices(4, jnp.float64)[2], jnp.eye(4)[None]])
    found = orthogonal_factor(matrix, lapack_signs=True)
    np.testing.assert_allclose(found, jnp.linalg.qr(matrix).Q, atol=1e-13)


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.ones((3, 3)), np.diag([1.0, 0, 2])])
def test_singular_matrices_have_an_orthogonal_factor_and_a_finite_gradient(matrix):
    value, pull = jax.vjp(orthogonal_factor, jnp.asarray(matrix))
    assert distance_to_orthogonal(value) < 1e-14
    assert np.all(np.isfinite(pull(jnp.ones((3, 3)))[0]))


@sizes
def test_householder_orthogonalization_is_a_rotation(dim, dtype):
    rotation = jax.jit(normalizations.householder_orthogonalization)(random_matrices(dim, dtype))
    assert distance_to_orthogonal(rotation) < 32 * jnp.finfo(dtype).eps
    np.testing.assert_allclose(determinant(rotation), 1, atol=1e-4)


def test_every_row_of_a_householder_orthogonalization_counts():
    matrix = random_matrices(3, jnp.float64)[2, 0]
    jacobian = jax.jacobian(normalizations.householder_orthogonalization)(matrix)
    assert np.all(np.linalg.norm(jacobian, axis=(0, 1, 3)) > 0.1)


@sizes
def test_reflection_products_never_grow_a_vector(dim, dtype):
    directions = unit(random_matrices(dim, dtype))
    factors = jnp.asarray(np.random.default_rng(0).uniform(0, 2, directions.shape[:-1]), dtype)
    product = jax.jit(reflection_product)(directions, factors)
    norms = np.linalg.norm(np.asarray(product, np.float64), ord=2, axis=(-2, -1))
    assert norms.max() < 1 + 16 * jnp.finfo(dtype).eps
    np.testing.assert_allclose(
        determinant(product), np.prod(1 - np.asarray(factors, np.float64), axis=-1), atol=1e-5
    )


@sizes
def test_the_spectral_norm_is_exact_and_bounds(dim, dtype):
    matrix = random_matrices(dim, dtype)
    norm = jax.jit(spectral_norm)(matrix)
    exact = np.linalg.norm(np.asarray(matrix, np.float64), ord=2, axis=(-2, -1))
    precision = jnp.finfo(dtype).eps
    # By construction not too small, and too large by less than 7e-8.
    assert np.min(norm / exact) > 1 - 8 * precision
    assert np.max(norm / exact) < 1 + 8 * precision + 7e-8
    bounded = np.asarray(normalizations.singularvalue_restriction(matrix, 0.9), np.float64)
    largest = np.linalg.norm(bounded, ord=2, axis=(-2, -1))
    assert largest.max() < 0.9 * (1 + 8 * precision)
    inside = exact < 0.9
    np.testing.assert_array_equal(bounded[inside], np.asarray(matrix, np.float64)[inside])


def test_gradient_of_the_spectral_norm():
    matrix = random_matrices(4, jnp.float64, count=3)
    check_grads(spectral_norm, (matrix,), order=1, modes=["rev"], rtol=1e-6)


def test_the_spectral_norm_of_special_matrices():
    rotation = exponential_of_skew(skew_matrix(jnp.arange(6.0), 4))
    value, pull = jax.vjp(spectral_norm, 3 * rotation)
    np.testing.assert_allclose(value, 3, rtol=1e-7)
    np.testing.assert_allclose(pull(1.0)[0], rotation / 4, atol=1e-7)  # all four norms at once
    value, pull = jax.vjp(spectral_norm, jnp.zeros((4, 4)))
    assert value == 0
    np.testing.assert_array_equal(pull(1.0)[0], np.zeros((4, 4)))


@sizes
def test_the_spectral_radius_is_bounded_closely(dim, dtype):
    matrix = random_matrices(dim, dtype)
    exact = np.abs(np.linalg.eigvals(np.asarray(matrix, np.float64))).max(axis=-1)
    ratio = jax.jit(spectral_radius)(matrix) / exact
    assert np.min(ratio) > 1 - 1e2 * jnp.finfo(dtype).eps
    assert np.max(ratio) < 1.003
    restricted = np.asarray(normalizations.eigenvalue_restriction(matrix), np.float64)
    assert np.abs(np.linalg.eigvals(restricted)).max() < 1 + 1e2 * jnp.finfo(dtype).eps


def test_gradient_of_the_spectral_radius():
    matrix = random_matrices(3, jnp.float64, count=2)
    check_grads(spectral_radius, (matrix,), order=1, modes=["rev"], rtol=1e-5)
    nilpotent = jnp.zeros((3, 3)).at[0, 1].set(1.0)
    value, gradient = jax.value_and_grad(spectral_radius)(nilpotent)
    assert value < 0.9
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["float32", "float64"])
def test_straight_through_signs_are_exact_and_pass_gradients(dtype):
    x = jnp.array([-3.0, -0.1, 0.0, 2.0], dtype)
    np.testing.assert_array_equal(straight_through_sign(x), [-1, -1, 1, 1])
    gradient = jax.grad(lambda x: jnp.sum(straight_through_sign(x)))(x)
    np.testing.assert_allclose(gradient, 1 - np.tanh(x) ** 2, rtol=1e-5)
