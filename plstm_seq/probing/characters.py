"""Character tables, real irreducible representations, and the smallest faithful one."""

from __future__ import annotations

import functools
import heapq
import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from plstm_seq.layers.arguments import require
from plstm_seq.probing.groups import conjugacy_classes, element_orders, inverses

MAX_CLASSES = 256
MAX_KERNELS = 10_000


@dataclass(frozen=True)
class CharacterTable:
    """The irreducible complex characters of a group.

    Attributes:
        classes: the conjugacy classes, as element ids; that of the identity is the first.
        class_of: [G], the class of each element.
        values: [K, K], a row for each character, a column for each class. Characters are ordered
            by their degree; the trivial one is the first.
        types: [K], the Frobenius-Schur indicator of each character: 1 for a representation of real
            type, 0 for complex type, -1 for quaternionic type.
    """

    classes: tuple[tuple[int, ...], ...]
    class_of: Int[np.ndarray, " G"]
    values: Complex[np.ndarray, "K K"]
    types: Int[np.ndarray, " K"]

    @property
    def degrees(self) -> Int[np.ndarray, " K"]:
        """The dimension of each complex representation."""
        return np.rint(np.real(self.values[:, 0])).astype(np.int64)

    @property
    def sizes(self) -> Int[np.ndarray, " K"]:
        """The number of elements of each class."""
        return np.array([len(members) for members in self.classes])


@dataclass(frozen=True)
class RealIrreducibles:
    """The irreducible representations of a group by real matrices.

    Each is a complex one of real type, or the sum of a complex one and its conjugate.

    Attributes:
        characters: [R, K], the character of each representation at each class. They are ordered by
            dimension; the trivial one is the first.
        dims: [R], the real dimension of each representation.
        norms: [R], the inner product of each character with itself: 1 for the real type, 2 for the
            complex type, 4 for the quaternionic type.
        kernels: [R, K], whether a representation maps a class to the identity.
        determinants: [R, K], the determinant of the matrices of a class, 1 or -1.
        ranks: [R, K], `rank(I - P)` of the matrix P of a class. If P is orthogonal, this is the
            number of reflections whose product it is.
    """

    characters: Float[np.ndarray, "R K"]
    dims: Int[np.ndarray, " R"]
    norms: Int[np.ndarray, " R"]
    kernels: Bool[np.ndarray, "R K"]
    determinants: Int[np.ndarray, "R K"]
    ranks: Int[np.ndarray, "R K"]

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each: its dimension, and a prime for each earlier one of that dimension."""
        dims = self.dims.tolist()
        return tuple(f"{dim}{chr(39) * dims[:index].count(dim)}" for index, dim in enumerate(dims))


def character_table(table: Int[np.ndarray, "G G"]) -> CharacterTable:
    """Compute the characters of a group, by Burnside's method.

    The class sums multiply as `K_i K_j = sum_k a_ijk K_k`, and every character gives a common
    eigenvector of the matrices `a_i`. One random combination of these matrices has the same
    eigenvectors, which are found from it.

    Args:
        table: Cayley table; element 0 is the identity.

    Raises:
        ValueError: the group has more than `MAX_CLASSES` conjugacy classes.

    Example:
        The permutations of three points.

        >>> from plstm_seq.probing import CharacterTable, character_table
        >>> from tasks.groups import group
        >>> found: CharacterTable = character_table(group("S3").table)
        >>> found.degrees.tolist(), found.sizes.tolist()
        ([1, 1, 2], [1, 2, 3])
    """
    table = np.asarray(table, np.int64)
    classes = conjugacy_classes(table)
    count = len(classes)
    require(count <= MAX_CLASSES, "table", count, f"at most {MAX_CLASSES} classes of elements")
    class_of = np.empty(len(table), np.int64)
    for number, members in enumerate(classes):
        class_of[list(members)] = number
    sizes = np.array([len(members) for members in classes])
    weights = np.random.default_rng(0).standard_normal(count)
    combined = np.zeros((count, count))
    for k, members in enumerate(classes):
        # x y = z for the first z of class k: y is the inverse of x times z.
        others = class_of[table[inverses(table), members[0]]]
        np.add.at(combined[:, k], others, weights[class_of])
    _, vectors = np.linalg.eig(combined / np.sqrt(sizes)[:, None] * np.sqrt(sizes)[None])
    omega = vectors * np.sqrt(sizes)[:, None]
    omega = (omega / omega[:1]).T
    degrees = np.sqrt(len(table) / (np.abs(omega) ** 2 / sizes).sum(1))
    values = omega / sizes * degrees[:, None]
    squares = class_of[table[np.arange(len(table)), np.arange(len(table))]]
    types = np.rint(values[:, squares].sum(1).real / len(table)).astype(np.int64)
    trivial = ~np.isclose(values, 1, atol=1e-6).all(1)
    keys = [np.round(-part, 6) for column in values.T[::-1] for part in (column.imag, column.real)]
    order = np.lexsort((*keys, np.rint(degrees), trivial))
    return CharacterTable(classes, class_of, values[order], types[order])


def real_irreducibles(
    table: Int[np.ndarray, "G G"], characters: CharacterTable
) -> RealIrreducibles:
    """Compute the irreducible real representations of a group from its complex characters.

    Args:
        table: Cayley table.
        characters: the result of `character_table(table)`.

    Example:
        The permutations of three points.

        >>> from plstm_seq.probing import RealIrreducibles, character_table, real_irreducibles
        >>> from tasks.groups import group
        >>> table = group("S3").table
        >>> found: RealIrreducibles = real_irreducibles(table, character_table(table))
        >>> found.names
        ('1', "1'", '2')
    """
    factors = {1: 1, 0: 2, -1: 2}
    rows, norms = [], []
    for values, kind in zip(characters.values, characters.types.tolist(), strict=True):
        row = factors[kind] * values.real
        if kind == 0 and any(np.allclose(row, other, atol=1e-6) for other in rows):
            continue  # its complex conjugate has given the same row
        rows.append(row)
        norms.append({1: 1, 0: 2, -1: 4}[kind])
    found = np.array(rows)
    order = np.argsort(np.rint(found[:, 0]), kind="stable")
    found = found[order]
    determinants, ranks = _determinants_and_ranks(np.asarray(table), characters, found)
    return RealIrreducibles(
        characters=found,
        dims=np.rint(found[:, 0]).astype(np.int64),
        norms=np.array(norms)[order],
        kernels=np.isclose(found, found[:, :1], atol=1e-6),
        determinants=determinants,
        ranks=ranks,
    )


def _determinants_and_ranks(
    table: np.ndarray, of: CharacterTable, characters: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute them from the multiplicities of the eigenvalues -1 and 1.

    The multiplicities follow from the characters of an element's powers.
    """
    orders = element_orders(table)
    signs = np.ones(characters.shape, np.int64)
    ranks = np.zeros(characters.shape, np.int64)
    for number, members in enumerate(of.classes):
        element, order = members[0], int(orders[members[0]])
        powers = [0]
        for _ in range(order - 1):
            powers.append(int(table[powers[-1], element]))
        values = characters[:, of.class_of[powers]]
        ranks[:, number] = np.rint(characters[:, 0] - values.mean(1))
        if order % 2 == 0:
            multiplicity = np.rint((values * (-1.0) ** np.arange(order)).sum(1) / order)
            signs[:, number] = 1 - 2 * (multiplicity.astype(np.int64) % 2)
    return signs, ranks


def smallest_faithful(
    irreducibles: RealIrreducibles, *, rotations: bool = False
) -> tuple[int, ...]:
    """Find the faithful sum of real irreducible representations that has the least dimension.

    A head whose transitions represent the group needs at least this dimension as its JT.

    Args:
        irreducibles: the representations of the group.
        rotations: whether all determinants of the sum have to be 1.

    Returns:
        The indices of the representations in the sum, ascending. Their `dims` add up to its
        dimension.

    Raises:
        ValueError: there are more than `MAX_KERNELS` kernels to compare.

    Example:
        Turns and reflections of a triangle; without reflections a third dimension is needed.

        >>> from plstm_seq.probing import character_table, real_irreducibles, smallest_faithful
        >>> from tasks.groups import group
        >>> table = group("S3").table
        >>> real = real_irreducibles(table, character_table(table))
        >>> [real.names[index] for index in smallest_faithful(real)]
        ['2']
        >>> [real.names[index] for index in smallest_faithful(real, rotations=True)]
        ["1'", '2']
    """
    kernels = _masks(irreducibles.kernels[:, _minimal_normal(irreducibles.kernels)])
    signs = _masks(irreducibles.determinants < 0)
    numbers = itertools.count()
    everything = functools.reduce(operator.or_, kernels)
    queue: list[tuple[int, int, tuple[int, int], tuple[int, ...]]] = []
    queue.append((0, next(numbers), (everything, 0), ()))
    best = {(everything, 0): 0}
    for _ in range(MAX_KERNELS):
        if not queue:
            raise ValueError("irreducibles: got no faithful sum, expected all of a group")
        dim, _, state, chosen = heapq.heappop(queue)
        if state == (0, 0):
            return tuple(sorted(chosen))
        if dim > best[state]:
            continue
        # A second copy may change the determinant, but tells no more elements apart.
        for index, size in enumerate(irreducibles.dims.tolist()):
            sign = state[1] ^ signs[index] if rotations else 0
            following = (state[0] & kernels[index], sign)
            if dim + size < best.get(following, dim + size + 1):
                best[following] = dim + size
                heapq.heappush(queue, (dim + size, next(numbers), following, (*chosen, index)))
    raise ValueError(
        f"irreducibles: got sums of more than {MAX_KERNELS} kernels, expected fewer to compare"
    )


def smallest_faithful_sums(irreducibles: RealIrreducibles) -> tuple[tuple[int, ...], ...]:
    """Find all faithful sums of the least dimension; `smallest_faithful` returns one of them.

    S4 has two of dimension 3: a swap is a reflection in one of them, half a turn in the other.

    Args:
        irreducibles: the representations of the group.

    Returns:
        At most `MAX_KERNELS` sums, each as `smallest_faithful` returns it.

    Raises:
        ValueError: see `smallest_faithful`.

    Example:
        >>> from plstm_seq.probing import character_table, real_irreducibles, smallest_faithful_sums
        >>> from tasks.groups import group
        >>> table = group("S4").table
        >>> real = real_irreducibles(table, character_table(table))
        >>> [[real.names[index] for index in chosen] for chosen in smallest_faithful_sums(real)]
        [['3'], ["3'"]]
    """
    first = smallest_faithful(irreducibles)
    kernels = _masks(irreducibles.kernels[:, _minimal_normal(irreducibles.kernels)])
    dims = irreducibles.dims.tolist()
    everything = functools.reduce(operator.or_, kernels)
    found: list[tuple[int, ...]] = []
    stack: list[tuple[int, int, int, tuple[int, ...]]] = []
    stack.append((0, sum(dims[index] for index in first), everything, ()))
    for _ in range(MAX_KERNELS):
        if not stack:
            break
        start, left, kernel, chosen = stack.pop()
        if not kernel and not left:
            found.append(chosen)
            continue
        for index in range(start, len(dims)):
            smaller = kernel & kernels[index]
            # A representation that makes the kernel no smaller is in no smallest sum.
            if dims[index] <= left and smaller != kernel:
                stack.append((index + 1, left - dims[index], smaller, (*chosen, index)))
    return tuple(sorted(found or [first]))


def _minimal_normal(kernels: Bool[np.ndarray, "R K"]) -> list[int]:
    """Find a class of each minimal normal subgroup; a kernel without all of these is trivial."""
    # The normal subgroup that a class generates is in every kernel that has the class.
    closures = [np.all(kernels[kernels[:, k]], axis=0) for k in range(kernels.shape[1])]
    found: list[int] = []
    for k, closure in enumerate(closures):
        inner = [other for other in np.flatnonzero(closure) if other]
        minimal = all(np.array_equal(closures[other], closure) for other in inner)
        if k and minimal and k == inner[0]:
            found.append(k)
    return found


def _masks(rows: Bool[np.ndarray, "R K"]) -> list[int]:
    """Write each row as the bits of a number."""
    return [sum(1 << int(place) for place in np.flatnonzero(row)) for row in rows]


@dataclass(frozen=True)
class RepresentationMatch:
    """The real irreducible representations that make up the learned actions of heads.

    Attributes:
        names: the names of the irreducible representations, ordered by dimension.
        dims: [R], their dimensions.
        multiplicities: [H, R], how often each one is in the action of a head. These are real
            numbers, and whole numbers if the action is a representation.
        characters: [H, K], the learned characters: means over classes.
        distance: [H], the root mean square over the group of the difference between the learned
            character and that of the nearest sum of representations; 0 for a representation.
        faithful: [H], whether the nearest sum tells all elements apart. This says something about
            the head only where the distance is small.
        together: whether the nearest sums of all heads together tell all elements apart.
    """

    names: tuple[str, ...]
    dims: Int[np.ndarray, " R"]
    multiplicities: Float[np.ndarray, "H R"]
    characters: Float[np.ndarray, "H K"]
    distance: Float[np.ndarray, " H"]
    faithful: Bool[np.ndarray, " H"]
    together: bool

    def label(self, head: int) -> str:
        """Return the nearest sum of representations of a head, such as `1 + 2`."""
        counts = np.rint(self.multiplicities[head]).astype(int).tolist()
        parts = [
            f"{count} x {name}" if count > 1 else name
            for count, name in zip(counts, self.names, strict=True)
            if count > 0
        ]
        return " + ".join(parts) or "0"


def match_representations(
    actions: Sequence[Float[np.ndarray, "G M M"]],
    characters: CharacterTable,
    irreducibles: RealIrreducibles,
) -> RepresentationMatch:
    """Find the irreducible representations in what heads have learned, by their characters.

    Traces do not depend on the basis in which a head computes.

    Args:
        actions: for each head the matrix of every element (`Homomorphism.action`).
        characters: the character table of the group.
        irreducibles: the real irreducible representations of the group.

    Example:
        A head on which every element acts as 1 has learned the trivial representation.

        >>> import numpy as np
        >>> from plstm_seq.probing import RepresentationMatch, character_table
        >>> from plstm_seq.probing import match_representations, real_irreducibles
        >>> table = np.array([[0, 1], [1, 0]])
        >>> characters = character_table(table)
        >>> real = real_irreducibles(table, characters)
        >>> heads = [np.ones((2, 1, 1))]
        >>> found: RepresentationMatch = match_representations(heads, characters, real)
        >>> found.label(0), found.together
        ('1', False)
    """
    sizes, order = characters.sizes, len(characters.class_of)
    traces = np.stack([np.trace(action, axis1=-2, axis2=-1) for action in actions])
    means = np.stack([traces[:, list(members)].mean(1) for members in characters.classes], axis=1)
    multiplicities = (means * sizes) @ irreducibles.characters.T / order / irreducibles.norms
    nearest = np.maximum(np.rint(multiplicities), 0)
    left = traces - (nearest @ irreducibles.characters)[:, characters.class_of]
    kernels = np.where((nearest > 0)[..., None], irreducibles.kernels, True).all(1)
    return RepresentationMatch(
        names=irreducibles.names,
        dims=irreducibles.dims,
        multiplicities=multiplicities,
        characters=means,
        distance=np.sqrt(np.square(left).mean(1)),
        faithful=kernels.sum(1) == 1,
        together=bool(kernels.all(0).sum() == 1),
    )
