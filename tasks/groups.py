"""Finite groups by name, with their elements, Cayley tables and generators."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tasks.options import check, shown, some

MAX_ORDER = 5040
"""The largest order of a group (that of S7); a Cayley table has order x order entries."""

_FACTOR = re.compile(r"([zcdsaq]|psl2_)([1-9]\d*)")
_KINDS = (
    "Z5 (also C5), D4 (order 8), S5, A5, Q8, PSL2_7, products such as A4xZ5, and permutations "
    "that generate one, such as <(0 1)(2 3),(0 1 2 3 4)>"
)


@dataclass(frozen=True, eq=False)
class Group:
    """A finite group as a Cayley table over element ids; id 0 is the identity.

    Attributes:
        name: Canonical name, such as `S5` or `A4xZ5`.
        elements: Readable name of each element. Permutations are written in cycles of the points
            1 .. n (of 0 .. n - 1 in a group that is given by generators), the identity as `e`;
            names of a product's elements are joined by a colon.
        table: int32 `[order, order]`, read-only; `table[a, b]` is the product `a b`. For
            permutations `(a b)[i] = a[b[i]]`: `b` acts first.
        generators: Ids of a small generating set.
        images: int32 `[order, n]` for permutation groups: where each element sends the points
            0 .. n - 1. None for the others and for products.
    """

    name: str
    elements: tuple[str, ...]
    table: np.ndarray
    generators: tuple[int, ...]
    images: np.ndarray | None = None

    @property
    def order(self) -> int:
        """The number of elements."""
        return len(self.elements)

    @functools.cached_property
    def inverses(self) -> np.ndarray:
        """The id of the inverse of each element, int32 `[order]`."""
        return np.argmin(self.table, axis=1).astype(np.int32)

    def element(self, name: str) -> int:
        """Return the id of the element with a name.

        Raises:
            ValueError: If the group has no element of that name.
        """
        try:
            return self.elements.index(name)
        except ValueError:
            known = some(self.elements, ", ")
            raise ValueError(
                f"element: got {shown(name)}, expected one of {self.name}: {known}"
            ) from None

    def closure(self, ids: Iterable[int]) -> frozenset[int]:
        """Return the ids of the subgroup that given elements generate."""
        steps = self.table[:, sorted(set(ids))]
        reached = frontier = frozenset({0})
        while frontier:
            frontier = frozenset(steps[sorted(frontier)].ravel().tolist()) - reached
            reached |= frontier
        return reached


@functools.lru_cache(maxsize=32)
def group(name: str) -> Group:
    """Find a group by its name, in any case.

    `Zn` (or `Cn`) is cyclic, `Dn` dihedral of order 2n, `Sn` symmetric, `An` alternating, `Q8` the
    quaternion group, `PSL2_p` for a prime p the projective special linear group of 2 x 2 matrices
    modulo p, acting on the projective line (points 1 .. p are 0 .. p - 1, and p + 1 is infinity);
    `x` or `_x_` between names makes the direct product. Elements are numbered as in the published
    generators: permutations in lexicographic order of their images, `Zn` by the power of its
    generator, `Dn` with `r^p s^t` at `n t + p`, and products with the last factor fastest.

    A group can also be given by permutations that generate it, in cycles of the points 0, 1, ...
    and between `<` and `>`: `<(0 1)(2 3),(0 1 2 3 4)>`. They are its `generators`, in this order.
    Points of a cycle are separated by spaces or commas; points that are not named stay.

    Args:
        name: Such as `S5`, `z60`, `A4xZ5`, `A4_x_Z5`, `PSL2_7` or `<(0 1),(0 1 2)>`.

    Raises:
        TypeError: If the name is not text.
        ValueError: If the name is unknown, or the group trivial or larger than `MAX_ORDER`.
    """
    if not isinstance(name, str):
        raise TypeError(f"group: got {shown(name)}, expected a name such as 'S5'")
    if name.strip().startswith("<"):
        return _generated(read_permutations(name))
    factors = [_factor(part, name) for part in re.split(r"_?x_?", name.strip().lower())]
    order = math.prod(_order(kind, n) for kind, n in factors)
    check(order <= MAX_ORDER, "group", name, f"at most {MAX_ORDER} elements")
    check(order >= 2, "group", name, "at least 2 elements")
    return functools.reduce(_product, (_BUILDERS[kind](n) for kind, n in factors))


class OfGroup:
    """What tasks share whose labels are the elements of a group, to be mixed in."""

    group: str

    @property
    def labels(self) -> tuple[str, ...]:
        """All elements of the group."""
        return self._group.elements

    @property
    def _group(self) -> Group:
        return group(self.group)


def _factor(part: str, whole: str) -> tuple[str, int]:
    match = _FACTOR.fullmatch(part)
    if match is None or (match[1] == "q" and match[2] != "8"):
        raise ValueError(f"group: got {shown(whole)}, expected {_KINDS}")
    kind, n = match[1].replace("c", "z"), int(match[2])
    if kind == "psl2_" and (n < 2 or any(n % k == 0 for k in range(2, math.isqrt(n) + 1))):
        raise ValueError(f"group: got {shown(whole)}, expected PSL2_p with a prime p, not {n}")
    return kind, n


def _order(kind: str, n: int) -> int:
    if kind in "sa":
        # The order of n = 20 is already too large, so larger factorials need not be computed.
        order = math.factorial(min(n, 20))
        return order if kind == "s" else max(1, order // 2)
    if kind == "psl2_":
        return n * (n * n - 1) // math.gcd(2, n - 1)
    return {"z": n, "d": 2 * n, "q": 8}[kind]


def _frozen(table: np.ndarray) -> np.ndarray:
    table = np.ascontiguousarray(table, np.int32)
    table.setflags(write=False)
    return table


def _power(letter: str, exponent: int) -> str:
    return "" if exponent == 0 else letter if exponent == 1 else f"{letter}{exponent}"


def _cyclic(n: int) -> Group:
    ids = np.arange(n)
    table = (ids[:, None] + ids) % n
    return Group(f"Z{n}", tuple(map(str, range(n))), _frozen(table), (1 % n,))


def _dihedral(n: int) -> Group:
    turn, flip = np.arange(2 * n) % n, np.arange(2 * n) // n
    # r^p s^t r^q s^u = r^(p + q) s^(t + u), but with -q in place of q if t = 1.
    signed = np.where(flip[:, None] == 1, -turn, turn)
    table = n * (flip[:, None] ^ flip) + (turn[:, None] + signed) % n
    names = [_power("r", p) + _power("s", t) or "e" for t in (0, 1) for p in range(n)]
    return Group(f"D{n}", tuple(names), _frozen(table), (n, 1 % n))


def _quaternion(_: int) -> Group:
    # Products of the units 1, i, j, k and their signs; an element's id is 2 * unit + (negative).
    unit = np.array([[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]])
    negative = np.array([[0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 1, 0], [0, 0, 1, 1]])
    u, s = np.arange(8) // 2, np.arange(8) % 2
    sign = negative[u[:, None], u] ^ s[:, None] ^ s
    names = ("e", "-e", "i", "-i", "j", "-j", "k", "-k")
    return Group("Q8", names, _frozen(2 * unit[u[:, None], u] + sign), (2, 4))


def _symmetric(n: int) -> Group:
    images = np.array(list(itertools.permutations(range(n))), np.int32)
    swap, cycle = np.r_[1, 0, 2:n], np.roll(np.arange(n), -1)
    return _permutations(f"S{n}", images, [swap, cycle] if n > 1 else [])


def _alternating(n: int) -> Group:
    images = np.array([p for p in itertools.permutations(range(n)) if _is_even(p)], np.int32)
    threes = [np.r_[1, k, 2:k, 0, k + 1 : n] for k in range(2, n)]
    return _permutations(f"A{n}", images, threes)


def _is_even(image: tuple[int, ...]) -> bool:
    return sum(a > b for a, b in itertools.combinations(image, 2)) % 2 == 0


def _projective(p: int) -> Group:
    # The maps z -> z + 1 and z -> -1 / z generate the group; infinity is point p.
    shift = np.r_[(np.arange(p) + 1) % p, p]
    inverse = np.r_[p, [-pow(z, -1, p) % p for z in range(1, p)], 0]
    generators = [shift, inverse]
    return _permutations(f"PSL2_{p}", _closure(generators), generators)


def read_permutations(text: str) -> np.ndarray:
    """Read permutations in cycle notation.

    Args:
        text: Such as `(0 1)(2 3),(0 1 2 3 4)`, in `<` and `>` or not: permutations separated by
            commas, each a product of cycles, whose points are separated by spaces or commas.

    Returns:
        int `[number, points]`, where each sends the points 0 .. points - 1.

    Raises:
        ValueError: If the text is no such list, cycles of a permutation share a point, or a
            permutation comes twice.
    """
    inner = text.strip().removeprefix("<").removesuffix(">").strip()
    # The quantifiers are possessive (`++`): otherwise the search for a missing bracket could take
    # exponentially long.
    cycle = r"\(\s*+\d{1,9}+(?:[\s,]++\d{1,9}+)*+\s*+\)"
    if not re.fullmatch(rf"(?:{cycle}\s*+(?:,\s*+(?=\())?+)++", inner):
        raise ValueError(
            f"permutations: got {shown(text)}, expected cycles such as (0 1)(2 3),(0 1 2 3 4)"
        )
    permutations = [
        [[int(point) for point in re.findall(r"\d+", found)] for found in re.findall(cycle, part)]
        for part in re.split(r"(?<=\))\s*,\s*", inner)
    ]
    points = 1 + max(point for cycles in permutations for found in cycles for point in found)
    check(points <= MAX_ORDER, "points", points - 1, f"below {MAX_ORDER}")
    if len(permutations) * points > MAX_ORDER**2 // 8:
        raise ValueError(
            f"permutations: got {len(permutations)} of {points} points, expected fewer to multiply"
        )
    images = np.tile(np.arange(points), (len(permutations), 1))
    for image, cycles in zip(images, permutations, strict=True):
        named = [point for found in cycles for point in found]
        if len(set(named)) < len(named):
            raise ValueError(
                f"permutations: got {shown(text)}, expected different points in cycles of each"
            )
        for found in cycles:
            image[found] = np.roll(found, -1)
    if len(np.unique(images, axis=0)) < len(images):
        raise ValueError(f"permutations: got {shown(text)}, expected different ones")
    return images


def _generated(generators: np.ndarray) -> Group:
    images = _closure(list(generators))
    if len(images) < 2:
        raise ValueError("permutations: got a trivial group, expected at least 2 elements")
    texts = [cycles(image, 0) for image in generators.tolist()]
    return _permutations(f"<{','.join(texts)}>", images, list(generators), first=0)


def _closure(generators: list[np.ndarray]) -> np.ndarray:
    """Return all products of permutations, in lexicographic order of their images."""
    points = len(generators[0])
    weights = _weights(points)
    frontier = np.arange(points)[None]
    found, marks = [frontier], set((frontier @ weights).tolist())
    while len(frontier):
        level: list[np.ndarray] = []
        for generator in generators:
            products = frontier[:, generator]
            own = (products @ weights).tolist()
            fresh = {mark: row for row, mark in enumerate(own) if mark not in marks}
            marks.update(fresh)
            level.append(products[list(fresh.values())])
            if len(marks) > MAX_ORDER:
                raise ValueError(
                    f"permutations: got a larger group, expected at most {MAX_ORDER} elements"
                )
        frontier = np.concatenate(level)
        found.append(frontier)
    return np.unique(np.concatenate(found), axis=0).astype(np.int32)


def _weights(points: int) -> np.ndarray:
    """Return random weights of points; the weighted sum of a permutation's images identifies it."""
    return np.random.default_rng(0).integers(2**62, size=points)


def cayley_table(images: np.ndarray) -> np.ndarray | None:
    """Products of the permutations of a group, `[order, order]`; `table[a, b]`: b acts first.

    None if the marks by which they are told apart are no different ones, which is most unlikely.

    Args:
        images: Integer `[order, points]`, where each sends the points.
    """
    weights = _weights(images.shape[1])
    marks = images @ weights
    order = np.argsort(marks)
    if len(np.unique(marks)) < len(images):
        return None
    ascending = marks[order]
    return np.stack(
        [order[np.searchsorted(ascending, image[images] @ weights)] for image in images]
    )


def _permutations(
    name: str, images: np.ndarray, generators: list[np.ndarray], *, first: int = 1
) -> Group:
    table = cayley_table(images)
    if table is None:
        raise RuntimeError(f"two elements of {name} have the same mark")
    images.setflags(write=False)
    names = tuple(cycles(image, first) for image in images.tolist())
    found = dict.fromkeys(int((images == image).all(axis=1).argmax()) for image in generators)
    return Group(name, names, _frozen(table), tuple(found), images)


def cycles(image: list[int], first: int = 1) -> str:
    """A permutation in cycles of its points, which are counted from `first`; `e` if none moves."""
    separator = "" if first and len(image) < 10 else ","
    text, seen = "", set()
    for start in range(len(image)):
        cycle, point = [], start
        while point not in seen:
            seen.add(point)
            cycle.append(str(point + first))
            point = image[point]
        if len(cycle) > 1:
            text += f"({separator.join(cycle)})"
    return text or "e"


def _product(left: Group, right: Group) -> Group:
    n = right.order
    a, b = np.arange(left.order * n) // n, np.arange(left.order * n) % n
    table = n * left.table[a[:, None], a] + right.table[b[:, None], b]
    names = tuple(f"{x}:{y}" for x in left.elements for y in right.elements)
    generators = (*(n * g for g in left.generators), *right.generators)
    return Group(f"{left.name}x{right.name}", names, _frozen(table), generators)


_BUILDERS = {
    "z": _cyclic,
    "d": _dihedral,
    "q": _quaternion,
    "s": _symmetric,
    "a": _alternating,
    "psl2_": _projective,
}
