"""Which matrices a parametrisation reaches by gradient descent: the table of layers/README.md.

Every case fits a transposition (determinant -1) and a 3-cycle (determinant 1), eight random starts
each, and states the smallest squared distance that exists: 0 where the matrix is reached, and
otherwise the distance to the nearest matrix of the family, which the fit must find and not pass.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from plstm_seq.layers.initializers import Constant, Normal
from plstm_seq.layers.transition import (
    Bounded,
    Diagonal,
    Factorized,
    HouseholderProduct,
    Orthogonal,
    Selection,
    Transition,
)

TRANSPOSITION = np.eye(3)[[1, 0, 2]]
CYCLE = np.eye(3)[[1, 2, 0]]
STARTS = 8
NOISE = Normal(stddev=0.5)


def factorized(**options) -> Factorized:
    starts = {f"{name}_bias_init": Normal() for name in ("inproj", "outproj")}
    return Factorized(**starts, eigenvalue_bias_init=Normal(stddev=0.2), **options)


def orthogonal(**options) -> Orthogonal:
    return Orthogonal(generator_bias_init=NOISE, determinant_bias_init=NOISE, **options)


# name: (family, squared distance of a transposition, of a 3-cycle)
CASES = {
    "factorized exponential tanh": (factorized(), 0, 0),
    # Both factors are rotations and the eigenvalues not negative, so one has to be 0.
    "factorized exponential logsigmoid": (
        factorized(eigenvalue_representation="logsigmoid"),
        1,
        0,
    ),
    # Symmetric matrices: the skew part of the cycle stays.
    "factorized exponential symmetric": (factorized(symmetric=True), 0, 1.5),
    "factorized householder": (
        factorized(normalization_mode="householder_orthogonalization"),
        0,
        0,
    ),
    "factorized qr": (factorized(normalization_mode="qr"), 0, 0),
    "factorized singularvalue": (factorized(normalization_mode="singularvalue_restriction"), 0, 0),
    "factorized eigenvalue": (factorized(normalization_mode="eigenvalue_restriction"), 0, 0),
    # The nearest rotation to a matrix of determinant -1 is 2 away, and conversely.
    "orthogonal positive": (orthogonal(), 4, 0),
    "orthogonal negative": (orthogonal(determinant="fixed", signs=(-1,)), 0, 4),
    "orthogonal straight-through": (orthogonal(determinant="straight_through"), 0, 0),
    # 1 - beta k k^T is symmetric: 6 - 9/4 at beta = 3/2.
    "householder 1": (HouseholderProduct(num_reflections=1), 0, 3.75),
    "householder 2": (HouseholderProduct(num_reflections=2), 0, 0),
    "householder 3": (HouseholderProduct(), 0, 0),
    "bounded": (Bounded(matrix_bias_init=Normal()), 0, 0),
    # What is off the diagonal stays.
    "diagonal signed": (Diagonal(eigenvalue_bias_init=NOISE), 2, 3),
    "diagonal positive": (Diagonal(entries="positive", eigenvalue_bias_init=NOISE), 2, 3),
    "selection columns": (Selection(choice_bias_init=Normal()), 0, 0),
    "selection rows": (Selection(lines="rows", choice_bias_init=Normal()), 0, 0),
    "selection soft": (Selection(choice="soft", choice_bias_init=Normal()), 0, 0),
}


def fit(module: Transition, targets: np.ndarray, optimizer, steps: int) -> np.ndarray:
    """The matrices [H, J, J] after so many steps towards the targets, each head for itself."""
    graph, start = nnx.split(module)

    def matrices(state):
        return nnx.merge(graph, state)(jnp.zeros((1, module.input_dim)))[0]

    def step(carry, _):
        state, memory = carry
        gradient = jax.grad(lambda state: jnp.sum((matrices(state) - targets) ** 2))(state)
        updates, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(state, updates), memory), None

    @jax.jit
    def run(state):
        return matrices(jax.lax.scan(step, (state, optimizer.init(state)), None, steps)[0][0])

    return np.asarray(run(start))


@pytest.mark.parametrize("case", CASES)
def test_a_family_reaches_what_the_table_says(case):
    family, *nearest = CASES[case]
    config = type(family)(**{**vars(family), "dim": 3, "weight": False})
    module = Transition(2 * STARTS, 1, config, rngs=nnx.Rngs(0))
    targets = np.repeat([TRANSPOSITION, CYCLE], STARTS, axis=0)
    found = fit(module, targets, optax.adam(0.05), 400)
    distances = np.sum((found - targets) ** 2, axis=(1, 2)).reshape(2, STARTS)
    assert np.all(distances > np.array(nearest)[:, None] - 1e-4)
    np.testing.assert_allclose(distances.min(axis=1), nearest, atol=0.02)


@pytest.mark.parametrize(
    ("target", "start"), [(TRANSPOSITION, 1.0), (CYCLE, -1.0)], ids=["to -1", "to +1"]
)
def test_gradient_descent_crosses_to_the_other_determinant(target, start):
    config = Orthogonal(
        dim=3,
        weight=False,
        determinant="straight_through",
        determinant_bias_init=Constant(start),
        generator_bias_init=Normal(stddev=0.1),
    )
    module = Transition(1, 1, config, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(np.linalg.det(module(jnp.zeros(1))), start, atol=1e-5)
    found = fit(module, target[None], optax.sgd(0.1), 400)
    np.testing.assert_allclose(np.linalg.det(found), -start, atol=1e-5)
    np.testing.assert_allclose(found[0], target, atol=1e-3)
