"""Enumeration of transition monoids: the maps of states that words make, and the groups in them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.groups import cayley_table
from tasks.prefix import Machine

MAX_ELEMENTS = 20_000
"""The largest number of members of a monoid, a group or a set of images that is enumerated."""

MAX_ENTRIES = 2**22
"""The largest number of members times states that is kept in memory during enumeration."""

MAX_WORK = 2**24
"""The largest number of states that is followed while sets of states are enumerated."""

_OVERHEAD = 64
"""The cost of a set in the same unit that does not depend on the number of its states."""

MAX_TABLE = 5040
"""The largest order of a group whose Cayley table is computed."""


@dataclass(frozen=True, eq=False)
class TransitionGroup:
    """What words do to a set of states that they permute, as a Cayley table.

    Attributes:
        table: Integer `[order, order]`; `table[a, b]` is the word a followed by b, element 0 the
            identity.
        symbols: Integer `[symbols]`, the element of each symbol; -1 for a symbol that does not
            permute the states.
        labels: Integer `[order]`, the label that each element leads to, if these tell all elements
            apart as in a word problem; otherwise None.
    """

    table: np.ndarray
    symbols: np.ndarray
    labels: np.ndarray | None = None


def regular_group(machine: Machine) -> PermutationGroup | None:
    """The group of a permutation automaton in which a state tells which element has acted.

    Word problems are such. Then the automaton has a Cayley table in it, of as many elements as
    states, and no products of maps need to be counted out.
    """
    transition = machine.transition
    states = len(transition)
    if states > MAX_TABLE:
        return None
    generators: list[np.ndarray] = []
    reached = np.zeros(1, np.int64)
    for column in np.ascontiguousarray(transition.T, np.int64):
        if column[0] in reached:
            continue
        generators.append(column)
        reached = np.unique(_closed(generators, np.zeros(1, np.int64))[:, 0])
    if len(reached) < states:
        return None
    # Row s of `words` is the map of a word that leads from the initial state to state s.
    words = np.full((states, states), -1, np.int64)
    words[0] = np.arange(states)
    frontier = [0]
    while frontier:
        following = []
        for state in frontier:
            for column in generators:
                after = column[state]
                if words[after, 0] < 0:
                    words[after] = column[words[state]]
                    following.append(after)
        frontier = following
    for column in generators:
        if not np.array_equal(column[words], words[column]):
            return None
    if not np.array_equal(words[transition[0]], transition.T):
        return None
    known = TransitionGroup(
        words.T, transition[0].astype(np.int64), _all_different(machine.outputs)
    )
    return PermutationGroup(generators, np.zeros(1, np.int64), states, known=known)


@dataclass(eq=False)
class PermutationGroup:
    """A group of permutations of a set of states.

    Attributes:
        generators: Permutations of points 0, 1, ...
        base: Points whose images tell all elements apart.
        order: Number of elements; None above `MAX_ELEMENTS`.
        points: The states that points 0, 1, ... are.
        known: Its Cayley table, where that is known already.
    """

    generators: list[np.ndarray]
    base: np.ndarray
    order: int | None
    points: np.ndarray | None = None
    known: TransitionGroup | None = None

    @classmethod
    def generated(cls, permutations: Sequence[np.ndarray], points: np.ndarray) -> PermutationGroup:
        """Return the group that permutations of the same points generate, with few generators."""
        base = np.arange(len(permutations[0]))
        generators: list[np.ndarray] = []
        members = {base.tobytes()}
        for permutation in permutations:
            if permutation.tobytes() in members:
                continue
            generators.append(permutation)
            try:
                members = set(map(bytes, _closed(generators, base)))
            except _TooManyError:
                # Superfluous generators need to be left out only if the group is enumerated.
                return cls(list(permutations), base, None, points)
        return cls(generators, base, len(members), points)

    @property
    def is_abelian(self) -> bool:
        """Whether the generators commute."""
        return all((a[b] == b[a]).all() for a in self.generators for b in self.generators)

    @functools.cached_property
    def is_solvable(self) -> bool | None:
        """Whether the derived series ends in the identity; None if it is too large to be known."""
        if self.is_abelian:
            return True
        if self.order is None:
            # A solvable group of n points has at most 24^((n - 1) / 3) elements (Dixon, 1967).
            return False if 24 ** ((len(self.base) - 1) / 3) < MAX_ELEMENTS else None
        of, order = self.generators, self.order
        while of:
            of = self._commutators(of)
            smaller = len(_closed(of, self.base))
            if smaller == order:
                return False
            order = smaller
        return True

    def _commutators(self, of: list[np.ndarray]) -> list[np.ndarray]:
        """Return generators of the commutator subgroup of the group that `of` generates."""
        candidates = [np.argsort(a)[np.argsort(b)][a][b] for a in of for b in of]
        chosen: list[np.ndarray] = []
        members = {self.base.tobytes()}
        for candidate in candidates:  # the loop itself appends to it
            if candidate[self.base].tobytes() in members:
                continue
            chosen.append(candidate)
            members = set(map(bytes, _closed(chosen, self.base)))
            candidates += [g[candidate[np.argsort(g)]] for g in of]
        return chosen

    def tabulated(self, maps: np.ndarray, outputs: np.ndarray) -> TransitionGroup | None:
        """Return the group with its Cayley table, or None if the table is too large.

        A symbol is an element of the group if it permutes all states.
        """
        if self.known is not None or self.order is None or self.order > MAX_TABLE:
            return self.known
        rows = _closed(self.generators, self.base)
        table = cayley_table(rows)
        if table is None:
            return None
        symbols = np.full(len(maps), -1)
        if rows.shape[1] == maps.shape[1]:
            ids = {row.tobytes(): element for element, row in enumerate(rows)}
            symbols = np.array([ids.get(one.tobytes(), -1) for one in maps])
        labels = None
        if self.points is not None and len(set(rows[:, 0].tolist())) == len(rows):
            labels = _all_different(outputs[self.points[rows[:, 0]]])
        # Words are read from left to right, so the first of two words acts first.
        return TransitionGroup(table.T, symbols, labels)


class _TooManyError(Exception):
    """The enumeration exceeds its limit."""


def _closed(generators: Sequence[np.ndarray], start: np.ndarray) -> np.ndarray:
    """Return the images of the points `start` under all words in some maps, `[N, points]`.

    The first row is `start` itself. `_TooManyError` is raised if there are too many rows.
    """
    rows = [np.ascontiguousarray(start, np.int64)[None]]
    found = {rows[0].tobytes()}
    frontier = rows[0]
    most = min(MAX_ELEMENTS, MAX_ENTRIES // max(1, len(start)))
    while len(frontier):
        fresh = []
        for generator in generators:
            after = generator[frontier]
            keys = list(map(bytes, after))
            kept = [k for k, key in enumerate(keys) if key not in found]
            kept = list({keys[k]: k for k in kept}.values())
            found.update(keys[k] for k in kept)
            fresh.append(after[kept])
            if len(found) > most:
                raise _TooManyError
        frontier = np.concatenate(fresh) if fresh else frontier[:0]
        rows.append(frontier)
    return np.concatenate(rows)


def _all_different(labels: np.ndarray) -> np.ndarray | None:
    return labels if len(np.unique(labels)) == len(labels) else None


def monoid_order(columns: np.ndarray) -> int | None:
    """Count the different maps of words, the empty word included; None above `MAX_ELEMENTS`."""
    try:
        return len(_closed(list(columns), np.arange(columns.shape[1])))
    except _TooManyError:
        return None


def images(columns: np.ndarray, states: int) -> tuple[list[np.ndarray], list[list[int]], bool]:
    """Find the images of words: the sets of states to which they lead from all states.

    Returns:
        The sets, largest first; for each set and symbol the number of the set that follows, or -1
        if that is smaller or was left out; and whether no set was left out.
    """
    sets = [np.arange(states)]
    ids = {sets[0].tobytes(): 0}
    following: list[list[int]] = []
    work = 0
    for one in sets:  # the loop appends to the list
        work += len(columns) * (len(one) + _OVERHEAD)
        if work > MAX_WORK:
            known = len(following)
            cut = [[one if one < known else -1 for one in row] for row in following]
            return sets[:known], cut, False
        row = []
        for column in columns:
            after = np.unique(column[one])
            after = after[after < states]
            key = after.tobytes()
            if key not in ids and len(after):
                ids[key] = len(sets)
                sets.append(after)
            row.append(ids[key] if len(after) == len(one) else -1)
        following.append(row)
    return sets, following, True


def groups(
    columns: np.ndarray, sets: list[np.ndarray], following: list[list[int]]
) -> list[PermutationGroup]:
    """Find the groups in a monoid from its images; without any, return the trivial group.

    The image of a word is a set of states, which is permuted by the words that lead from it back to
    it. Sets that can be reached from each other form a class and have the same group, so one set of
    each class is enough. Its group is generated by the loops along a spanning tree (Schreier).
    """
    groups: list[PermutationGroup] = []
    for members in _components(following):
        root = sets[members[0]]
        if len(root) == 1:
            continue
        inside = set(members)
        # For each set of the class, the places to which a word sends the points of the root.
        places = {members[0]: root}
        loops: dict[bytes, np.ndarray] = {}
        walk = [members[0]]
        for one in walk:  # the loop appends to the list
            for column, other in zip(columns, following[one], strict=True):
                if other not in inside:
                    continue
                after = column[places[one]]
                if other not in places:
                    places[other] = after
                    walk.append(other)
                    continue
                back = np.argsort(places[other])
                loop = back[np.searchsorted(places[other][back], after)]
                if (loop != np.arange(len(loop))).any():
                    loops.setdefault(loop.tobytes(), loop)
        if loops:
            groups.append(PermutationGroup.generated(list(loops.values()), root))
    return groups or [PermutationGroup([], np.zeros(1, np.int64), 1)]


def _components(following: list[list[int]]) -> list[list[int]]:
    """Return the strongly connected components of a graph (Kosaraju); -1 means no edge."""
    order: list[int] = []
    seen = [False] * len(following)
    for root in range(len(following)):
        stack = [] if seen[root] else [(root, iter(following[root]))]
        seen[root] = True
        while stack:
            node, edges = stack[-1]
            for other in edges:
                if other >= 0 and not seen[other]:
                    seen[other] = True
                    stack.append((other, iter(following[other])))
                    break
            else:
                order.append(node)
                stack.pop()
    before: list[list[int]] = [[] for _ in following]
    for node, edges in enumerate(following):
        for other in edges:
            if other >= 0:
                before[other].append(node)
    found: list[list[int]] = []
    taken = [False] * len(following)
    for root in reversed(order):
        if taken[root]:
            continue
        taken[root] = True
        component = [root]
        for node in component:  # the loop itself appends to it
            for other in before[node]:
                if not taken[other]:
                    taken[other] = True
                    component.append(other)
        found.append(component)
    return found
