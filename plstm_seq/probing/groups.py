"""What a group is like, from its Cayley table: how hard its word problem is, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class GroupAnalysis:
    """A group and its generators.

    Attributes:
        order: number of elements.
        abelian: whether all elements commute.
        solvable: whether the derived series ends in the identity.
        classes: conjugacy classes, as ids; the identity's first, then by size and smallest id.
        class_of: [G], the class of each element.
        derived_orders: orders of the group, its commutator subgroup, that one's, and so on.
        generators: element ids.
        generator_orders: the order of each.
        generator_ranks: of each generator `rank(I - P)` for its permutation matrix P, on the points
            that it permutes (given permutations) or on the group itself: the fewest Householder
            factors whose product it is.
    """

    order: int
    abelian: bool
    solvable: bool
    classes: tuple[tuple[int, ...], ...]
    class_of: Int[np.ndarray, " G"]
    derived_orders: tuple[int, ...]
    generators: tuple[int, ...]
    generator_orders: tuple[int, ...]
    generator_ranks: tuple[int, ...]

    @cached_property
    def complexity(self) -> str:
        """Of the word problem: "TC0" for solvable groups, else "NC1" (complete for it).

        Barrington, 1989; that solvable ones are in TC0 (even ACC0): Barrington and Therien, 1988.
        """
        return "TC0" if self.solvable else "NC1"


def analyse(
    table: Int[np.ndarray, "G G"],
    generators: Sequence[int],
    images: Int[np.ndarray, "G N"] | None = None,
) -> GroupAnalysis:
    """Analyse a group.

    Args:
        table: Cayley table, `table[a, b]` is `a b`; element 0 is the identity.
        generators: element ids; the group that they generate is what `table` holds.
        images: where each element sends the points, for permutation groups.

    Raises:
        ValueError: the table is not that of a group with identity 0.
    """
    table = _checked(table)
    classes = conjugacy_classes(table)
    class_of = np.empty(len(table), np.int64)
    for number, members in enumerate(classes):
        class_of[list(members)] = number
    series = [frozenset(range(len(table)))]
    while True:
        following = commutator_subgroup(table, series[-1])
        if following == series[-1]:
            break
        series.append(following)
    return GroupAnalysis(
        order=len(table),
        abelian=bool((table == table.T).all()),
        solvable=len(series[-1]) == 1,
        classes=classes,
        class_of=class_of,
        derived_orders=tuple(map(len, series)),
        generators=tuple(generators),
        generator_orders=tuple(element_orders(table)[list(generators)].tolist()),
        generator_ranks=tuple(
            _moved(table[g] if images is None else np.asarray(images)[g]) for g in generators
        ),
    )


def conjugacy_classes(table: Int[np.ndarray, "G G"]) -> tuple[tuple[int, ...], ...]:
    """The conjugacy classes, the identity's first, then by size and smallest id."""
    inverse, elements = inverses(table), np.arange(len(table))
    left, found = set(range(len(table))), []
    while left:
        first = min(left)
        members = frozenset(table[table[elements, first], inverse].tolist())
        found.append(tuple(sorted(members)))
        left -= members
    return tuple(sorted(found, key=lambda members: (members != (0,), len(members), members)))


def inverses(table: Int[np.ndarray, "G G"]) -> Int[np.ndarray, " G"]:
    """The inverse of each element."""
    return np.argmin(table, axis=1)


def element_orders(table: Int[np.ndarray, "G G"]) -> Int[np.ndarray, " G"]:
    """The order of each element."""
    elements = np.arange(len(table))
    power, orders = elements.copy(), np.ones(len(table), np.int64)
    while (power != 0).any():
        orders[power != 0] += 1
        power = np.where(power != 0, table[power, elements], 0)
    return orders


def generated(table: Int[np.ndarray, "G G"], ids: Iterable[int]) -> frozenset[int]:
    """The subgroup that elements generate."""
    steps = table[:, sorted({0, *ids})]
    reached = frontier = frozenset({0})
    while frontier:
        frontier = frozenset(np.unique(steps[sorted(frontier)]).tolist()) - reached
        reached |= frontier
    return reached


def commutator_subgroup(table: Int[np.ndarray, "G G"], subgroup: Iterable[int]) -> frozenset[int]:
    """The subgroup that the commutators of a subgroup generate."""
    members, inverse = np.array(sorted(subgroup)), inverses(table)
    found: set[int] = set()
    for a in members:
        found.update(np.unique(table[table[a, members], table[inverse[a], inverse[members]]]))
    return generated(table, map(int, found))


def _moved(image: np.ndarray) -> int:
    """`rank(I - P)` of a permutation: its points less its cycles."""
    left, cycles = set(range(len(image))), 0
    while left:
        point, cycles = left.pop(), cycles + 1
        while (point := int(image[point])) in left:
            left.remove(point)
    return len(image) - cycles


def _checked(table: np.ndarray) -> np.ndarray:
    table = np.asarray(table, np.int64)
    elements = np.arange(len(table))
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise ValueError(f"table: got shape {table.shape}, expected [G, G]")
    latin = (np.sort(table, axis=1) == elements).all()
    latin &= (np.sort(table, axis=0) == elements[:, None]).all()
    if not latin or (table[0] != elements).any() or (table[:, 0] != elements).any():
        raise ValueError(
            "table: got another one, expected that of a group whose element 0 is the identity"
        )
    return table
