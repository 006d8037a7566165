"""Defects: zero for representations whatever the basis, and what they should be elsewhere."""

import numpy as np
import pytest
from tolerances import AGREEMENT

from plstm_seq.probing import (
    character_table,
    faithful_representation,
    homomorphism,
    match_representations,
    real_irreducibles,
    realization,
    relator_defects,
    relators,
    spectrum,
)
from tasks.groups import group

EXACT = AGREEMENT["float64"]
S3, A4 = group("S3"), group("A4")
BASIS = np.random.default_rng(3).standard_normal((5, 5))


def transitions(known, composition="right"):
    """Those of a representation: for labels that grow to the right, transposed."""
    matrices = faithful_representation(known.table)
    return np.swapaxes(matrices, -1, -2) if composition == "right" else matrices


def with_unread_and_unreached(matrices):
    """In another basis, with a dimension that nothing reads and one that nothing reaches."""
    count, size, _ = matrices.shape
    larger = np.zeros((count, size + 2, size + 2))
    larger[:, :size, :size] = matrices
    random = np.random.default_rng(4)
    larger[:, size, : size + 1] = random.standard_normal((count, size + 1))  # written, never read
    larger[:, : size + 2, size + 1] = random.standard_normal((count, size + 2))  # read, never there
    basis = BASIS[: size + 2, : size + 2]
    inverse = np.linalg.inv(basis)
    start = np.concatenate([np.eye(size), random.standard_normal((1, size)), np.zeros((1, size))])
    read = np.concatenate([np.eye(size), np.zeros((size, 1)), random.standard_normal((size, 1))], 1)
    return basis @ larger @ inverse, basis @ start, read @ inverse


@pytest.mark.parametrize("composition", ["right", "left"])
@pytest.mark.parametrize("known", [S3, A4], ids=["S3", "A4"])
def test_basis_and_unused_dimensions_do_not_count(known, composition):
    matrices, start, read = with_unread_and_unreached(transitions(known, composition))
    part = realization(matrices, start, read, tolerance=1e-9)
    size = matrices.shape[-1] - 2
    assert (part.dim, part.reached, part.seen) == (size, size + 1, size + 1)
    symbols = range(known.order)
    found = homomorphism(part.transitions, known.table, symbols, composition)
    assert found.worst < EXACT
    whole = homomorphism(matrices, known.table, symbols, composition)
    assert whole.worst > 0.1
    other = "left" if composition == "right" else "right"
    assert homomorphism(part.transitions, known.table, symbols, other).worst > 0.1


def test_a_defect_is_the_distance_in_a_product():
    matrices = transitions(S3)
    matrices[3] += 0.01 * np.eye(2)
    found = homomorphism(matrices, S3.table, range(6))
    direct = [
        [np.linalg.norm(matrices[s] @ matrices[g] - matrices[S3.table[g, s]]) for s in range(6)]
        for g in range(6)
    ]
    np.testing.assert_allclose(found.defects, np.array(direct) / np.sqrt(2), atol=EXACT)
    assert found.mean < found.worst < 0.03


@pytest.mark.parametrize("composition", ["right", "left"])
def test_generators_are_tested_by_relators(composition):
    words = relators(A4.table, A4.generators, composition)
    for word in words:
        product = 0
        for symbol in word:
            step = (product, A4.generators[symbol])
            product = A4.table[step if composition == "right" else step[::-1]]
        assert product == 0
    matrices = transitions(A4, composition)[list(A4.generators)]
    assert relator_defects(matrices, words).worst < EXACT
    extended = homomorphism(matrices, A4.table, A4.generators, composition)
    np.testing.assert_allclose(extended.action, transitions(A4, composition), atol=EXACT)
    # Orthogonal, of the right orders, and no representation all the same.
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    apart = np.stack([matrices[0], turn @ matrices[1] @ turn.T])
    assert spectrum(apart).distance.max() < EXACT
    assert relator_defects(apart, words).worst > 0.1


def test_representations_are_found_by_their_characters():
    characters = character_table(S3.table)
    real = real_irreducibles(S3.table, characters)
    assert real.names == ("1", "1'", "2")
    standard, sign = transitions(S3), np.linalg.det(transitions(S3))[:, None, None]
    basis = BASIS[:2, :2]
    conjugated = basis @ standard @ np.linalg.inv(basis)
    both = np.zeros((6, 3, 3))
    both[:, :2, :2], both[:, 2:, 2:] = conjugated, sign
    found = match_representations([conjugated, sign, both], characters, real)
    np.testing.assert_allclose(found.multiplicities, [[0, 0, 1], [0, 1, 0], [0, 1, 1]], atol=EXACT)
    assert [found.label(head) for head in range(3)] == ["2", "1'", "1' + 2"]
    assert found.faithful.tolist() == [True, False, True]
    assert found.together
    assert found.distance.max() < EXACT
    near = match_representations([0.9 * standard], characters, real)
    assert near.label(0) == "2"
    assert 0.05 < near.distance[0] < 0.2


def test_spectrum_of_a_turn_a_reflection_and_a_shrinking_one():
    matrices = np.array([[[0, -1.0], [1, 0]], [[1, 0], [0, -1.0]], [[0.5, 0], [0, 0.1]]])
    found = spectrum(matrices)
    np.testing.assert_allclose(np.abs(found.eigenvalues[:2]), 1)
    assert sorted(found.eigenvalues[0].imag) == [-1, 1]
    np.testing.assert_allclose(found.determinant, [1, -1, 0.05])
    np.testing.assert_allclose(found.distance, [0, 0, 0.99], atol=EXACT)
    np.testing.assert_allclose(found.singular_values[2], [0.5, 0.1])
    assert np.isnan(spectrum(np.full((2, 2), np.nan)).distance)


def test_refusals():
    matrices = transitions(S3)
    with pytest.raises(ValueError, match="one for each"):
        homomorphism(matrices, S3.table, [0, 1])
    with pytest.raises(ValueError, match="generate 2 of 6"):
        homomorphism(matrices[:2], S3.table, [0, 1])
    with pytest.raises(ValueError, match="composition"):
        homomorphism(matrices, S3.table, range(6), "up")
    with pytest.raises(ValueError, match="below 6"):
        relator_defects(matrices, [(0, 6)])
