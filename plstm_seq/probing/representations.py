"""Matrices that represent a group: those of its permutations, or the smallest possible ones."""

import numpy as np
from jaxtyping import Float, Int

from plstm_seq.probing.characters import (
    character_table,
    real_irreducibles,
    smallest_faithful,
)
from plstm_seq.probing.groups import inverses

MAX_ORDER = 1000


def permutation_matrices(images: Int[np.ndarray, "G N"]) -> Float[np.ndarray, "G N N"]:
    """Return the matrices that permute the unit vectors: `P[g] e_i = e_(images[g, i])`.

    Args:
        images: where each element sends each point.

    Example:
        >>> import numpy as np
        >>> from plstm_seq.probing import permutation_matrices
        >>> permutation_matrices(np.array([[0, 1], [1, 0]])).astype(int).tolist()
        [[[1, 0], [0, 1]], [[0, 1], [1, 0]]]
    """
    images = np.asarray(images)
    return np.swapaxes(np.eye(images.shape[1])[images], -1, -2)


def faithful_representation(
    table: Int[np.ndarray, "G G"], *, rotations: bool = False
) -> Float[np.ndarray, "G M M"]:
    """Return a faithful orthogonal representation of the smallest dimension.

    The group acts on the functions on itself. A random symmetric matrix that commutes with this
    action has irreducible eigenspaces; those with the wanted characters are joined.

    Args:
        table: Cayley table; element 0 is the identity.
        rotations: whether all determinants have to be 1.

    Raises:
        ValueError: the group has more than `MAX_ORDER` elements, too many to act on functions on
            it. For a permutation group, use `permutation_matrices` instead.

    Example:
        Three elements as turns of the plane.

        >>> import numpy as np
        >>> from plstm_seq.probing import faithful_representation
        >>> table = np.add.outer(range(3), range(3)) % 3
        >>> matrices = faithful_representation(table)
        >>> matrices.shape, np.allclose(matrices[1] @ matrices[1], matrices[2])
        ((3, 2, 2), True)
    """
    table = np.asarray(table, np.int64)
    order = len(table)
    if order > MAX_ORDER:
        raise ValueError(
            f"table: got {order} elements, expected at most {MAX_ORDER}; for permutation groups "
            "take permutation_matrices"
        )
    characters = character_table(table)
    irreducibles = real_irreducibles(table, characters)
    wanted = smallest_faithful(irreducibles, rotations=rotations)
    random = np.random.default_rng(0).standard_normal(order)
    inverse = inverses(table)
    # f(a^-1 b) with f(g) = f(g^-1) is symmetric, and the same for g a and g b.
    values, vectors = np.linalg.eigh((random + random[inverse])[table[inverse]])
    edges = np.flatnonzero(np.diff(values) > 1e-8 * np.ptp(values)) + 1
    spaces = np.split(vectors, edges, axis=1)
    parts = []
    for index in wanted:
        for space in spaces:
            # (g f)(a) = f(g^-1 a)
            action = np.einsum("gam,an->gmn", space[table[inverse]], space)
            action = np.swapaxes(action, -1, -2)
            traces = np.trace(action, axis1=-2, axis2=-1)
            expected = irreducibles.characters[index][characters.class_of]
            if np.allclose(traces, expected, atol=1e-6):
                parts.append(action)
                break
        else:
            raise ValueError("table: got one with an eigenspace missing, expected that of a group")
    return _joined(parts)


def orthogonal_form(
    representation: Float[np.ndarray, "G M M"],
) -> Float[np.ndarray, "G M M"]:
    """Change the basis such that all matrices of a representation are orthogonal.

    The mean of `R^T R` over the group defines a scalar product that the group preserves.

    Args:
        representation: [G, m, m], the matrix of each element.

    Example:
        >>> import numpy as np
        >>> from plstm_seq.probing import orthogonal_form
        >>> sheared = np.array([[[1, 0], [0, 1]], [[1, 3], [0, -1]]])
        >>> found = orthogonal_form(sheared)
        >>> np.allclose(found.mT @ found, np.eye(2))
        True
    """
    matrices = np.asarray(representation, np.float64)
    kept = np.mean(np.swapaxes(matrices, -1, -2) @ matrices, axis=0)
    factor = np.linalg.cholesky(kept).T
    return factor @ matrices @ np.linalg.inv(factor)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    size = sum(part.shape[-1] for part in parts)
    joined = np.zeros((len(parts[0]), size, size))
    start = 0
    for part in parts:
        end = start + part.shape[-1]
        joined[:, start:end, start:end] = part
        start = end
    return joined
