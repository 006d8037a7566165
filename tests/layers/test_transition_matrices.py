"""The matrix functions behind the transitions: exact structure, bounds and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from plstm_seq.layers.transition import matrices
from plstm_seq.layers.transition.factorized import published_qr
from plstm_seq.layers.transition.families import skew_matrix, straight_through_sign
from plstm_seq.layers.transition.matrices import (
    exponential_of_skew,
    reflection_product,
    spectral_norm,
    spectral_radius,
    unit,
)

SIZES = [*((dim, jnp.float32) for dim in range(1, 9)), (3, jnp.float64), (8, jnp.float64)]
sizes = pytest.mark.parametrize(
    ("dim", "dtype"), SIZES, ids=[f"J{dim}-{jnp.dtype(dtype).name}" for dim, dtype in SIZES]
)
few_sizes = pytest.mark.parametrize(
    ("dim", "dtype"),
    [(1, jnp.float32), (3, jnp.float64), (8, jnp.float32)],
    ids=["J1-float32", "J3-float64", "J8-float32"],
)
SCALES = np.array([0.1, 0.3, 1.0, 3.0, 10.0, 30.0])


exponential = jax.jit(exponential_of_skew)


def random_matrices(dim: int, dtype, count: int = 50) -> jax.Array:
    """[scale, count, J, J]: of all scales, drawn in float64."""
    noise = np.random.default_rng(dim).normal(size=(len(SCALES), count, dim, dim))
    return jnp.asarray(SCALES[:, None, None, None] * noise, dtype)


def distance_to_orthogonal(matrix: jax.Array) -> float:
    matrix = np.asarray(matrix, np.float64)
    return np.abs(matrix @ matrix.swapaxes(-1, -2) - np.eye(matrix.shape[-1])).max()


def determinant(matrix: jax.Array) -> np.ndarray:
    return np.linalg.det(np.asarray(matrix, np.float64))


@sizes
def test_the_exponential_is_accurate_and_a_rotation_to_rounding_error(dim, dtype):
    skew = matrices.skew_part(random_matrices(dim, dtype))
    rotation = exponential(skew)
    assert rotation.dtype == dtype
    assert distance_to_orthogonal(rotation) < 8 * jnp.finfo(dtype).eps
    np.testing.assert_allclose(determinant(rotation), 1, atol=1e-5)
    # From the eigenvalues of the Hermitian matrix i S: scipy's exponential is not as accurate.
    angles, vectors = np.linalg.eigh(1j * np.asarray(skew, np.float64))
    phases = np.exp(-1j * angles)[..., None, :]
    expected = np.real((vectors * phases) @ vectors.conj().swapaxes(-1, -2))
    errors = np.abs(rotation - expected).max(axis=(1, 2, 3))
    # An angle is known to its own rounding error.
    np.testing.assert_array_less(errors, 20 * (1 + SCALES) * jnp.finfo(dtype).eps)


@pytest.mark.parametrize("norm", [1e4, 1e8, 1e30])
def test_absurd_generators_still_give_rotations(norm):
    skew = matrices.skew_part(norm * random_matrices(5, jnp.float32, count=5))
    assert distance_to_orthogonal(exponential(skew)) < 3e-6


def test_a_generator_that_is_not_finite_gives_nan_there_and_nowhere_else():
    skew = matrices.skew_part(random_matrices(3, jnp.float32, count=3)[2])
    rotation = exponential(skew.at[0, 0, 1].set(jnp.nan).at[1, 0, 1].set(jnp.inf))
    assert np.all(np.isnan(rotation[:2]).any(axis=(-2, -1)))
    assert distance_to_orthogonal(rotation[2]) < 1e-6


@pytest.mark.parametrize("angle", [np.pi / 2, np.pi, 3.0 * np.pi])
def test_the_exponential_reaches_and_passes_the_angle_pi(angle):
    skew = skew_matrix(jnp.array([0.0, angle, 0.0]), 3)
    expected = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    np.testing.assert_allclose(exponential(skew), expected, atol=1e-14)


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_gradient_of_the_exponential(dim):
    noise = np.random.default_rng(0).normal(size=(3, dim * (dim - 1) // 2))
    entries = jnp.array([[0.0], [0.3], [5.0]]) * noise
    check_grads(
        jax.jit(lambda entries: exponential_of_skew(skew_matrix(entries, dim))),
        (entries,),
        order=1,
        modes=["rev"],
        rtol=1e-6,
        atol=1e-8,
    )


def test_hessian_vector_products_pass_the_exponential():
    skew = matrices.skew_part(random_matrices(3, jnp.float64, count=1)[2, 0])
    weight = random_matrices(3, jnp.float64, count=2)[2, 1]

    @jax.jit
    @jax.grad
    def gradient(skew):
        return jnp.sum(weight * exponential_of_skew(skew))

    _, forward = jax.jvp(gradient, (skew,), (skew,))
    step = 1e-5
    numeric = (gradient(skew * (1 + step)) - gradient(skew * (1 - step))) / (2 * step)
    np.testing.assert_allclose(forward, numeric, rtol=1e-6, atol=1e-8)


@few_sizes
def test_the_orthogonal_factor_is_orthogonal_and_a_factor(dim, dtype):
    matrix = random_matrices(dim, dtype)
    q = np.asarray(matrices.qr(matrix), np.float64)
    assert distance_to_orthogonal(q) < 16 * jnp.finfo(dtype).eps
    r = q.swapaxes(-1, -2) @ np.asarray(matrix, np.float64)
    size = np.abs(matrix).max(axis=(-2, -1), keepdims=True)
    assert np.abs(np.tril(r, -1) / size).max() < 32 * jnp.finfo(dtype).eps
    assert np.diagonal(r, axis1=-2, axis2=-1).min() > 0


def test_the_orthogonal_factor_with_the_signs_of_lapack():
    matrix = jnp.concatenate([random_matrices(4, jnp.float64)[2], jnp.eye(4)[None]])
    found = published_qr(matrix)
    np.testing.assert_allclose(found, jnp.linalg.qr(matrix).Q, atol=1e-13)


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.ones((3, 3)), np.diag([1.0, 0, 2])])
def test_singular_matrices_have_an_orthogonal_factor_and_a_finite_gradient(matrix):
    value, pull = jax.vjp(matrices.qr, jnp.asarray(matrix))
    assert distance_to_orthogonal(value) < 1e-14
    assert np.all(np.isfinite(pull(jnp.ones((3, 3)))[0]))


@few_sizes
def test_householder_orthogonalization_is_a_rotation(dim, dtype):
    rotation = matrices.householder_orthogonalization(random_matrices(dim, dtype))
    assert distance_to_orthogonal(rotation) < 32 * jnp.finfo(dtype).eps
    np.testing.assert_allclose(determinant(rotation), 1, atol=1e-4)


def test_every_row_of_a_householder_orthogonalization_counts():
    matrix = random_matrices(3, jnp.float64)[2, 0]
    _, pull = jax.vjp(matrices.householder_orthogonalization, matrix)
    (gradient,) = pull(random_matrices(3, jnp.float64)[2, 1])
    assert np.all(np.linalg.norm(gradient, axis=-1) > 0.01)


@few_sizes
def test_reflection_products_never_grow_a_vector(dim, dtype):
    directions = unit(random_matrices(dim, dtype))
    factors = jnp.asarray(np.random.default_rng(0).uniform(0, 2, directions.shape[:-1]), dtype)
    product = jax.jit(reflection_product)(directions, factors)
    norms = np.linalg.norm(np.asarray(product, np.float64), ord=2, axis=(-2, -1))
    assert norms.max() < 1 + 16 * jnp.finfo(dtype).eps
    np.testing.assert_allclose(
        determinant(product), np.prod(1 - np.asarray(factors, np.float64), axis=-1), atol=1e-5
    )


@jax.jit
def norm_and_bounded(matrix):
    return spectral_norm(matrix), matrices.singularvalue_restriction(matrix, 0.9)


@sizes
def test_the_spectral_norm_is_exact_and_bounds(dim, dtype):
    matrix = random_matrices(dim, dtype)
    norm, bounded = norm_and_bounded(matrix)
    exact = np.linalg.norm(np.asarray(matrix, np.float64), ord=2, axis=(-2, -1))
    precision = jnp.finfo(dtype).eps
    # By construction not too small, and too large by less than 7e-8.
    assert np.min(norm / exact) > 1 - 8 * precision
    assert np.max(norm / exact) < 1 + 8 * precision + 7e-8
    bounded = np.asarray(bounded, np.float64)
    largest = np.linalg.norm(bounded, ord=2, axis=(-2, -1))
    assert largest.max() < 0.9 * (1 + 8 * precision)
    inside = exact < 0.9
    np.testing.assert_array_equal(bounded[inside], np.asarray(matrix, np.float64)[inside])


def test_gradient_of_the_spectral_norm():
    matrix = random_matrices(4, jnp.float64, count=3)
    check_grads(jax.jit(spectral_norm), (matrix,), order=1, modes=["rev"], rtol=1e-6)


def test_the_spectral_norm_of_special_matrices():
    rotation = exponential(skew_matrix(jnp.arange(6.0), 4))
    value_and_grad = jax.jit(jax.value_and_grad(spectral_norm))
    value, gradient = value_and_grad(3 * rotation)
    np.testing.assert_allclose(value, 3, rtol=1e-7)
    np.testing.assert_allclose(gradient, rotation / 4, atol=1e-7)  # all four norms at once
    value, gradient = value_and_grad(jnp.zeros((4, 4)))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros((4, 4)))


@jax.jit
def radius_and_restricted(matrix):
    return spectral_radius(matrix), matrices.eigenvalue_restriction(matrix)


@few_sizes
def test_the_spectral_radius_is_bounded_closely(dim, dtype):
    matrix = random_matrices(dim, dtype)
    exact = np.abs(np.linalg.eigvals(np.asarray(matrix, np.float64))).max(axis=-1)
    radius, restricted = radius_and_restricted(matrix)
    ratio = radius / exact
    assert np.min(ratio) > 1 - 1e2 * jnp.finfo(dtype).eps
    assert np.max(ratio) < 1.003
    restricted = np.asarray(restricted, np.float64)
    assert np.abs(np.linalg.eigvals(restricted)).max() < 1 + 1e2 * jnp.finfo(dtype).eps


def test_gradient_of_the_spectral_radius():
    matrix = random_matrices(3, jnp.float64, count=2)
    nilpotent = jnp.zeros((1, 3, 3)).at[0, 0, 1].set(1.0)

    @jax.jit
    def value_and_grad(matrix):
        value, pull = jax.vjp(spectral_radius, matrix)
        return value, *pull(jnp.ones_like(value))

    _, gradient = value_and_grad(matrix)
    rates = np.sum(gradient * matrix, axis=(-2, -1))
    np.testing.assert_allclose(rates, value_and_grad(matrix)[0], rtol=1e-10)  # Euler: homogeneous
    step = (
        1e-6 * random_matrices(3, jnp.float64, count=2)[::-1, ::-1] / SCALES[::-1, None, None, None]
    )
    numeric = (value_and_grad(matrix + step)[0] - value_and_grad(matrix - step)[0]) / 2
    np.testing.assert_allclose(
        np.sum(gradient * step, axis=(-2, -1)), numeric, rtol=1e-4, atol=1e-13
    )
    value, gradient = value_and_grad(jnp.broadcast_to(nilpotent, matrix.shape))
    assert np.all(value < 0.9)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["float32", "float64"])
def test_straight_through_signs_are_exact_and_pass_gradients(dtype):
    x = jnp.array([-3.0, -0.1, 0.0, 2.0], dtype)
    np.testing.assert_array_equal(straight_through_sign(x), [-1, -1, 1, 1])
    gradient = jax.grad(lambda x: jnp.sum(straight_through_sign(x)))(x)
    np.testing.assert_allclose(gradient, 1 - np.tanh(x) ** 2, rtol=1e-4)
