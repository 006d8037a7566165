"""Groups against sympy, and characters against their orthogonality."""

import numpy as np
import pytest
from sympy.combinatorics import Permutation, PermutationGroup

from plstm_seq.probing import (
    analyse,
    character_table,
    faithful_representation,
    orthogonal_form,
    permutation_matrices,
    real_irreducibles,
    smallest_faithful,
)
from tasks.groups import group

PERMUTATIONS = ["S3", "A4", "S4", "A5", "PSL2_5", "<(0 1)(2 3),(0 1 2 3 4)>", "<(0 1 2 3 4 5)>"]
# The smallest faithful real dimension, and that of rotations.
DIMS = {
    "Z2": (1, 2),
    "Z5": (2, 2),
    "S3": (2, 3),
    "D4": (2, 3),
    "Q8": (4, 4),
    "S4": (3, 3),
    "A4xZ5": (5, 5),
    "A5": (3, 3),
    "S5": (4, 5),
    "PSL2_7": (6, 6),
}


@pytest.mark.parametrize("name", PERMUTATIONS)
def test_permutation_groups_are_what_sympy_says(name):
    known = group(name)
    assert known.images is not None
    oracle = PermutationGroup([Permutation(known.images[g].tolist()) for g in known.generators])
    found = analyse(known.table, known.generators, known.images)
    assert found.order == oracle.order()
    assert found.abelian == oracle.is_abelian
    assert found.solvable == oracle.is_solvable
    assert found.complexity == ("TC0" if oracle.is_solvable else "NC1")
    assert found.derived_orders == tuple(part.order() for part in oracle.derived_series())
    sizes = sorted(len(members) for members in oracle.conjugacy_classes())
    assert sorted(map(len, found.classes)) == sizes
    generators = [Permutation(known.images[g].tolist()) for g in known.generators]
    assert found.generator_orders == tuple(g.order() for g in generators)
    assert found.generator_ranks == tuple(g.size - g.cycles for g in generators)


def test_rank_is_that_of_the_matrix():
    known = group("S4")
    found = analyse(known.table, range(known.order), known.images)
    matrices = permutation_matrices(known.images)
    ranks = np.linalg.matrix_rank(np.eye(4) - matrices)
    assert found.generator_ranks == tuple(ranks.tolist())


@pytest.mark.parametrize("name", DIMS)
def test_characters_are_orthogonal_and_give_the_smallest_dimension(name):
    table = group(name).table
    characters = character_table(table)
    weights = characters.sizes / len(table)
    values = characters.values
    np.testing.assert_allclose((values * weights) @ values.conj().T, np.eye(len(values)), atol=1e-9)
    np.testing.assert_allclose(values[0], 1, atol=1e-9)
    assert (characters.degrees**2).sum() == len(table)
    real = real_irreducibles(table, characters)
    # Every real representation is in the regular one as often as its dimension, over its type.
    assert (real.dims**2 // real.norms).sum() == len(table)
    dims = tuple(
        int(real.dims[list(smallest_faithful(real, rotations=rotations))].sum())
        for rotations in (False, True)
    )
    assert dims == DIMS[name]


@pytest.mark.parametrize("rotations", [False, True])
@pytest.mark.parametrize("name", ["Z2", "Z5", "S3", "Q8", "A5"])
def test_faithful_representations_multiply_as_the_table_says(name, rotations):
    table = group(name).table
    matrices = faithful_representation(table, rotations=rotations)
    assert matrices.shape[1] == DIMS[name][rotations]
    products = np.einsum("aij,bjk->abik", matrices, matrices)
    np.testing.assert_allclose(products, matrices[table], atol=1e-10)
    assert len(np.unique(np.round(matrices, 6), axis=0)) == len(table)
    if rotations:
        np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-10)


def test_any_representation_has_an_orthogonal_form():
    known = group("S3")
    change = np.array([[1.0, 0, 2], [0, 3, 1], [0, 0, 1]])
    given = np.linalg.inv(change) @ permutation_matrices(known.images) @ change
    found = orthogonal_form(given)
    np.testing.assert_allclose(
        np.swapaxes(found, -1, -2) @ found, np.tile(np.eye(3), (6, 1, 1)), atol=1e-10
    )
    np.testing.assert_allclose(
        found[known.table], np.einsum("aij,bjk->abik", found, found), atol=1e-10
    )


def test_what_is_no_group_is_refused():
    with pytest.raises(ValueError, match="identity"):
        analyse(np.array([[0, 1], [1, 1]]), [1])
    with pytest.raises(ValueError, match=r"\[G, G\]"):
        analyse(np.zeros((2, 3), int), [1])
    with pytest.raises(ValueError, match="permutation_matrices"):
        faithful_representation(np.zeros((1001, 1001), int))
