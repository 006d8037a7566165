"""The transition layer with every family: parameters, shapes, types, heads and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from plstm_seq.layers.initializers import Normal
from plstm_seq.layers.transition import (
    Bounded,
    Diagonal,
    Factorized,
    HouseholderProduct,
    Orthogonal,
    Selection,
    Transition,
)
from plstm_seq.probing import modular_arithmetic_form

FAMILIES = {
    "factorized": Factorized,
    "orthogonal": Orthogonal,
    "orthogonal_fixed": lambda **shared: Orthogonal(determinant="fixed", **shared),
    "orthogonal_straight_through": lambda **shared: Orthogonal(
        determinant="straight_through", **shared
    ),
    "householder": HouseholderProduct,
    "bounded": Bounded,
    "diagonal": Diagonal,
    "selection": Selection,
    "selection_soft_rows": lambda **shared: Selection(lines="rows", choice="soft", **shared),
}
families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def make(config, num_heads=4, input_dim=8, seed=0, **types) -> Transition:
    return Transition(num_heads, input_dim, config, **types, rngs=nnx.Rngs(seed))


def randomized(family, **shared):
    """The family with random weights also where the published ones are zero."""
    if family is Factorized:
        weights = ("eigenvalue", "inproj", "outproj")
        shared |= {f"{name}_weight_init": Normal() for name in weights}
    return family(**shared)


def inputs(*shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(1), shape, dtype)


def call(module, x):
    return jax.jit(lambda x: module(x))(x)


def names(module) -> set[str]:
    return {name for (name,), _ in nnx.to_flat_state(nnx.state(module, nnx.Param))}


def norms(matrices, order: float = 2) -> np.ndarray:
    return np.linalg.norm(np.asarray(matrices, np.float64), ord=order, axis=(-2, -1))


def norm_of(config) -> float:
    """The norm in which a family does not grow a state: entries of a selection move, whole."""
    if isinstance(config, Selection):
        return 1 if config.lines == "columns" else np.inf
    return 2


@families
@pytest.mark.parametrize("dim", [1, 3], ids=["JT1", "JT3"])
def test_matrices_have_their_shape_and_do_not_grow_a_state(family, dim):
    module = make(randomized(family, dim=dim))
    y = call(module, 30 * inputs(2, 5, 8))
    assert y.shape == (2, 5, 4, dim, dim)
    assert y.dtype == jnp.float32
    assert norms(y, norm_of(module.config)).max() <= 1 + 1e-6
    stems = module.config.quantities()
    assert names(module) == {f"{stem}_{part}" for stem in stems for part in ("bias", "weight")}
    changes = np.ptp(y, axis=(0, 1)).max() > 1e-3
    assert changes == (len(stems) > 0)


@pytest.mark.parametrize("name", ["factorized", "orthogonal_straight_through", "diagonal"])
def test_a_head_reads_its_block_of_the_input_alone(name):
    module = make(randomized(FAMILIES[name], dim=2, sub_heads=2))
    x = inputs(8)
    one, other = call(module, jnp.stack([x, x.at[4:].add(1.0)]))
    differs = np.any(one != other, axis=(-2, -1))
    np.testing.assert_array_equal(differs, [False, True, False, True])


@pytest.mark.parametrize("name", ["factorized", "orthogonal_straight_through", "bounded"])
def test_vmap_and_grad_over_members(name):
    config = randomized(FAMILIES[name], dim=3)
    members = [make(config, seed=seed) for seed in range(2)]
    graph, _, rest = nnx.split(members[0], nnx.Param, ...)
    states = [nnx.state(member, nnx.Param) for member in members]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    x, weight = inputs(5, 8), inputs(5, 4, 3, 3)

    def loss(state):
        return jnp.sum(weight * nnx.merge(graph, state, rest)(x))

    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(loss)))(stacked)
    expected = [jnp.sum(weight * call(member, x)) for member in members]
    np.testing.assert_allclose(values, expected, rtol=1e-4)
    for gradient in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(gradient))
        assert np.all(np.any(gradient != 0, axis=tuple(range(1, gradient.ndim))))


@pytest.mark.parametrize("name", ["factorized", "orthogonal_straight_through", "bounded"])
def test_low_precision_inputs_give_float32_matrices(name):
    config = randomized(FAMILIES[name], dim=2)
    x = inputs(5, 8, dtype=jnp.bfloat16)
    y = call(make(config, dtype=jnp.bfloat16), x)
    assert y.dtype == jnp.float32
    if isinstance(config, Orthogonal):
        np.testing.assert_allclose(y @ y.mT, np.broadcast_to(np.eye(2), y.shape), atol=2e-6)


def test_an_orthogonal_constant_takes_the_type_asked_for():
    config = Orthogonal(dim=1)
    assert make(config)(inputs(8, dtype=jnp.float64)).dtype == jnp.float64
    assert make(config, dtype=jnp.bfloat16)(inputs(8)).dtype == jnp.float32


@families
def test_without_weights_it_is_one_matrix_near_the_identity(family):
    module = make(family(dim=3, weight=False))
    y = call(module, inputs(2, 8))
    assert y.shape == (2, 4, 3, 3)
    assert names(module) == {f"{stem}_bias" for stem in module.config.quantities()}
    np.testing.assert_array_equal(y[0], y[1])
    distance = norms(y[0] - np.eye(3))
    if family is FAMILIES["orthogonal_fixed"]:
        distance = distance[::2]  # the other heads reflect
    assert np.all(distance < 0.6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"determinant": "positive"}, [1, 1, 1, 1]),
        ({"determinant": "fixed"}, [1, -1, 1, -1]),
        ({"determinant": "fixed", "signs": (-1,)}, [-1, -1, -1, -1]),
        ({"determinant": "fixed", "signs": (1, 1, -1)}, [1, 1, -1, 1]),
    ],
    ids=str,
)
@pytest.mark.parametrize("dim", [1, 2])
def test_determinants(options, expected, dim):
    y = call(make(Orthogonal(dim=dim, **options)), inputs(3, 8))
    np.testing.assert_allclose(np.linalg.det(y), np.broadcast_to(expected, (3, 4)), atol=1e-5)


def test_determinants_found_by_the_input():
    y = call(make(Orthogonal(dim=3, determinant="straight_through")), inputs(50, 8))
    determinants = np.linalg.det(y)
    np.testing.assert_allclose(np.abs(determinants), 1, atol=1e-5)
    assert 0.3 < np.mean(determinants > 0) < 0.7


@pytest.mark.parametrize(
    ("entries", "low", "high"), [("positive", 0, 1), ("signed", -1, 1)], ids=["positive", "signed"]
)
def test_diagonals_fill_their_range(entries, low, high):
    y = call(make(Diagonal(dim=3, entries=entries)), 30 * inputs(50, 8))
    np.testing.assert_array_equal(y * (1 - np.eye(3)), 0 * y)
    diagonal = np.diagonal(y, axis1=-2, axis2=-1)
    np.testing.assert_allclose([diagonal.min(), diagonal.max()], [low, high], atol=1e-6)


@pytest.mark.parametrize("bound", [0.5, 1.0])
def test_the_bound_is_reached_and_kept(bound):
    largest = norms(call(make(Bounded(dim=4, norm_bound=bound)), inputs(50, 8)))
    np.testing.assert_allclose(largest, bound, rtol=1e-6)


def test_one_reflection_at_beta_one_is_a_projection():
    config = HouseholderProduct(dim=3, num_reflections=1, beta_max=1.0)
    module = make(config, num_heads=1)
    quantities = {"direction": jnp.array([[[3.0, 0, 4]]]), "beta": jnp.array([[40.0]])}
    expected = np.eye(3) - np.outer([0.6, 0, 0.8], [0.6, 0, 0.8])
    np.testing.assert_allclose(module.config.matrix(quantities, 1)[0], expected, atol=1e-12)


@pytest.mark.parametrize("lines", ["columns", "rows"])
def test_hard_choices_are_zeros_and_ones_and_learn_as_soft_ones(lines):
    hard, soft = (make(Selection(dim=3, lines=lines, choice=choice)) for choice in ("hard", "soft"))
    x, weight = inputs(5, 8), inputs(5, 4, 3, 3)
    chosen, shares = call(hard, x), call(soft, x)
    axis = -2 if lines == "columns" else -1
    one = np.expand_dims([0, 0, 1], -1 if lines == "columns" else 0)
    np.testing.assert_array_equal(np.sort(chosen, axis), np.broadcast_to(one, chosen.shape))
    np.testing.assert_array_equal(np.argmax(chosen, axis), np.argmax(shares, axis))
    np.testing.assert_allclose(np.sum(shares, axis), 1, rtol=1e-6)

    def gradient(module):
        graph, state = nnx.split(module)
        return jax.grad(lambda state: jnp.sum(weight * nnx.merge(graph, state)(x)))(state)

    for one, other in zip(*map(jax.tree.leaves, map(gradient, (hard, soft))), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lines", ["columns", "rows"])
def test_a_rotated_selection_turns_the_pair_that_it_moves(lines):
    choice, angle = inputs(5, 4, 3, 3), 3 * inputs(5, 4, 3)
    plain = Selection(dim=3, lines=lines).matrix({"choice": choice}, 4)
    rotated = Selection(dim=6, lines=lines, rotated=True)
    found = np.asarray(rotated.matrix({"choice": choice, "angle": angle}, 4))
    parts = found.reshape(5, 4, 3, 2, 3, 2)
    np.testing.assert_array_equal(parts[..., 0, :, 0], parts[..., 1, :, 1])
    np.testing.assert_array_equal(parts[..., 0, :, 1], -parts[..., 1, :, 0])
    turns = np.exp(1j * np.asarray(angle))
    turns = turns[..., None, :] if lines == "columns" else turns[..., None]
    np.testing.assert_allclose(
        parts[..., 0, :, 0] + 1j * parts[..., 1, :, 0], plain * turns, atol=1e-6
    )
    one_place = Selection(dim=2, rotated=True).matrix({"angle": angle[..., :1]}, 4)
    np.testing.assert_allclose(np.linalg.det(one_place), 1, rtol=1e-6)
    assert call(make(rotated), inputs(7, 8)).shape == (7, 4, 6, 6)


def test_a_rotated_selection_of_rows_computes_modular_arithmetic():
    """The matrices of the exact form in one layer; see `probing.modular_arithmetic_form`."""
    matrices = modular_arithmetic_form(5).matrices
    turns = matrices[:, :5, :5] + 1j * matrices[:, 5:, :5]
    quantities = {"choice": 9.0 * (np.abs(turns) > 0.5), "angle": np.angle(turns.sum(-1))}
    found = Selection(dim=10, lines="rows", rotated=True).matrix(quantities, len(turns))
    pairs = np.arange(10).reshape(2, 5).T.ravel()  # an entry's two parts beside each other
    np.testing.assert_allclose(found, matrices[:, pairs][:, :, pairs], atol=1e-6)


def test_a_colder_selection_is_sharper():
    warm, cold = (
        call(make(Selection(dim=3, choice="soft", temperature=t)), inputs(50, 8))
        for t in (1.0, 0.1)
    )
    assert cold.max(-2).mean() > warm.max(-2).mean() + 0.1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Selection(lines="both"), "lines: got 'both'"),
        (lambda: Selection(choice="random"), "choice: got 'random'"),
        (lambda: Selection(dim=3, rotated=True), "dim: got 3, expected an even number"),
        (lambda: Selection(temperature=0.0), "temperature: got 0.0"),
        (lambda: Factorized(normalization_mode="svd"), "normalization_mode: got 'svd'"),
        (lambda: Factorized(eigenvalue_representation="exp"), "eigenvalue_representation: got"),
        (lambda: Factorized(eigenvalue_factor=0.0), "eigenvalue_factor: got 0.0"),
        (
            lambda: Factorized(normalization_mode="qr", orthogonalization_factor=0.5),
            "orthogonalization_factor: got 0.5, expected 1.0",
        ),
        (lambda: Factorized(orthogonalization_order=8), "orthogonalization_order: got 8"),
        (lambda: Factorized(dim=0), "dim: got 0"),
        (lambda: Orthogonal(determinant="negative"), "determinant: got 'negative'"),
        (lambda: Orthogonal(signs=(1,)), r"signs: got \(1,\), expected None"),
        (lambda: Orthogonal(determinant="fixed", signs=(2,)), r"signs: got \(2,\)"),
        (lambda: make(Orthogonal(determinant="fixed", signs=(1,) * 5)), "signs: got 5"),
        (lambda: HouseholderProduct(num_reflections=0), "num_reflections: got 0"),
        (lambda: HouseholderProduct(beta_max=2.5), "beta_max: got 2.5"),
        (lambda: Bounded(norm_bound=1.5), "norm_bound: got 1.5"),
        (lambda: Diagonal(entries="any"), "entries: got 'any'"),
        (lambda: Diagonal(sub_heads=0), "sub_heads: got 0"),
        (lambda: make(Diagonal(sub_heads=3)), "num_heads: got 4, expected a multiple of sub_heads"),
        (lambda: make(Diagonal(sub_heads=4), input_dim=6), "input_dim: got 6"),
        (lambda: make(Diagonal())(inputs(3, 7)), r"x: got shape \(3, 7\)"),
    ],
)
def test_wrong_options(build, message):
    with pytest.raises(ValueError, match=message):
        build()
