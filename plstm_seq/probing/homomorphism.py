"""How much the products of transitions differ from those of a group's elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from plstm_seq.layers.arguments import require, require_choice

Composition = Literal["right", "left"]
"""The side on which a task multiplies its newest symbol."""


@dataclass(frozen=True)
class Homomorphism:
    """The defect of every pair of a group element and a symbol.

    Attributes:
        action: [G, m, m], the matrix of every element: that of a symbol, if a symbol is the
            element, else the product along a shortest word of symbols.
        words: a shortest word of each element, as symbol ids.
        defects: [G, S], for element g and symbol s the distance between the matrix of their product
            and the product of their matrices, in the order of the task. It is the Frobenius norm,
            divided by that of the identity.

    Example:
        >>> import numpy as np
        >>> from plstm_seq.probing import Homomorphism, homomorphism
        >>> found: Homomorphism = homomorphism(np.ones((1, 1, 1)), np.array([[0, 1], [1, 0]]), [1])
        >>> found.words, found.worst, found.mean
        (((), (0,)), 0.0, 0.0)
    """

    action: Float[np.ndarray, "G M M"]
    words: tuple[tuple[int, ...], ...]
    defects: Float[np.ndarray, "G S"]

    @property
    def worst(self) -> float:
        """The largest defect."""
        return float(self.defects.max(initial=0))

    @property
    def mean(self) -> float:
        """The mean defect."""
        return float(self.defects.mean()) if self.defects.size else 0.0


def homomorphism(
    transitions: Float[np.ndarray, "S M M"],
    table: Int[np.ndarray, "G G"],
    symbols: Sequence[int],
    composition: Composition = "right",
) -> Homomorphism:
    """Compare the transitions of symbols with the multiplication table of their group.

    The state after a word is `T(x_t) ... T(x_0) C`. Where the task's label is `x_0 ... x_t` (the
    newest symbol on the right), transitions that represent the group reverse the order:
    `T(b) T(a) = T(a b)`. Where the label is `x_t ... x_0`, they keep it: `T(a) T(b) = T(a b)`.

    Args:
        transitions: a matrix for each symbol, preferably from a minimal `realization`.
        table: Cayley table, `table[a, b]` is `a b`; element 0 is the identity.
        symbols: the element of each symbol.
        composition: the side on which the task multiplies the newest symbol.

    Raises:
        ValueError: symbols and transitions differ in number, or the symbols do not generate the
            group.

    Example:
        A symbol that should change the sign at every step, and one that does so almost.

        >>> import numpy as np
        >>> from plstm_seq.probing import homomorphism
        >>> table = np.array([[0, 1], [1, 0]])
        >>> homomorphism(np.array([[[-1.0]]]), table, [1]).worst
        0.0
        >>> round(homomorphism(np.array([[[-0.9]]]), table, [1]).worst, 2)
        0.19
    """
    matrices = _matrices(transitions, symbols)
    step = _steps(table, symbols, composition)
    words = shortest_words(table, symbols, composition)
    size = matrices.shape[-1]
    action = np.stack([_product(matrices, word) for word in words])
    for symbol, element in reversed(list(enumerate(symbols))):
        action[element] = matrices[symbol]
    away = [
        np.linalg.norm(matrix @ action - action[step[:, symbol]], axis=(-2, -1))
        for symbol, matrix in enumerate(matrices)
    ]
    defects = np.stack(away, axis=1) / np.sqrt(max(1, size))
    return Homomorphism(action, words, defects)


@dataclass(frozen=True)
class RelatorDefects:
    """The defects of relators: words whose product is the identity should act as the identity.

    Attributes:
        words: the relators, as symbol ids, first symbol first; short ones come first.
        defects: `|T(w) - I|` of each word w: the Frobenius norm, divided by that of the identity.

    Example:
        >>> import numpy as np
        >>> from plstm_seq.probing import RelatorDefects, relator_defects
        >>> found: RelatorDefects = relator_defects(np.array([[[-1.0]]]), [(0, 0), (0, 0, 0)])
        >>> found.defects.tolist(), found.worst
        ([0.0, 2.0], 2.0)
    """

    words: tuple[tuple[int, ...], ...]
    defects: Float[np.ndarray, " W"]

    @property
    def worst(self) -> float:
        """The largest defect."""
        return float(self.defects.max(initial=0))


def relator_defects(
    transitions: Float[np.ndarray, "S M M"], words: Sequence[Sequence[int]]
) -> RelatorDefects:
    """Measure how far given words are from acting as the identity: `|T(w) - I|`.

    Args:
        transitions: a matrix for each symbol, preferably from a minimal `realization`.
        words: the words, for instance from `relators`; the state after a word w of n symbols is
            `T(w_n) ... T(w_1) C`.

    Raises:
        ValueError: a word has a symbol without a transition.

    Example:
        Three turns by 120 degrees should lead back.

        >>> import numpy as np
        >>> from plstm_seq.probing import faithful_representation, relator_defects
        >>> turns = faithful_representation(np.add.outer(range(3), range(3)) % 3)
        >>> relator_defects(turns[1:2], [(0, 0, 0)]).worst < 1e-9
        True
    """
    matrices = np.asarray(transitions, np.float64)
    for word in words:
        known = all(0 <= symbol < len(matrices) for symbol in word)
        require(known, "words", tuple(word), f"symbols below {len(matrices)}")
    identity = np.eye(matrices.shape[-1])
    away = [np.linalg.norm(_product(matrices, word) - identity) for word in words]
    size = np.sqrt(max(1, matrices.shape[-1]))
    return RelatorDefects(tuple(map(tuple, words)), np.array(away, np.float64) / size)


def relators(
    table: Int[np.ndarray, "G G"], symbols: Sequence[int], composition: Composition = "right"
) -> tuple[tuple[int, ...], ...]:
    """Find words whose product is the identity, from which all other such words follow.

    For every element g and symbol s there is such a word: a shortest word of g, then s, then a
    shortest word that leads back. These words are the closed walks that leave a spanning tree of
    the Cayley graph at one edge (Reidemeister and Schreier), so transitions under which all of them
    act as the identity represent the group.

    Args:
        table: see `homomorphism`.
        symbols: the element of each symbol.
        composition: see `homomorphism`.

    Returns:
        The words, each once, short ones first.

    Raises:
        ValueError: the symbols do not generate the group.

    Example:
        The integers modulo 3, generated by 1.

        >>> import numpy as np
        >>> from plstm_seq.probing import relators
        >>> relators(np.add.outer(range(3), range(3)) % 3, [1])
        ((0, 0, 0),)
    """
    there = shortest_words(table, symbols, composition)
    step = _steps(table, symbols, composition)
    # The way back from g is a shortest word of its inverse, whose product with g is the identity.
    inverse = np.argmin(table, axis=1)
    found = {(*there[g], *there[inverse[g]]) for g in range(len(table))}
    for g in range(len(table)):
        for symbol in range(len(symbols)):
            back = there[inverse[step[g, symbol]]]
            found.add((*there[g], symbol, *back))
    return tuple(sorted(found - {()}, key=lambda word: (len(word), word)))


def shortest_words(
    table: Int[np.ndarray, "G G"], symbols: Sequence[int], composition: Composition = "right"
) -> tuple[tuple[int, ...], ...]:
    """Find a shortest word of symbols for each element; the arguments are those of `relators`.

    A word begins with its first symbol.

    Raises:
        ValueError: the symbols do not generate the group.
    """
    step = _steps(table, symbols, composition)
    words: dict[int, tuple[int, ...]] = {0: ()}
    frontier = [0]
    while frontier:
        reached = []
        for element in frontier:
            for symbol, following in enumerate(step[element].tolist()):
                if following not in words:
                    words[following] = (*words[element], symbol)
                    reached.append(following)
        frontier = reached
    if len(words) < len(table):
        raise ValueError(
            f"symbols: got elements that generate {len(words)} of {len(table)} elements, expected "
            "all: hand over the table of the subgroup"
        )
    return tuple(words[element] for element in range(len(table)))


def _steps(table: np.ndarray, symbols: Sequence[int], composition: Composition) -> np.ndarray:
    """Return [G, S]: the element that an element becomes when a symbol follows."""
    require_choice("composition", composition, Composition)
    table = np.asarray(table)
    return (table if composition == "right" else table.T)[:, list(symbols)]


def _matrices(transitions: np.ndarray, symbols: Sequence[int]) -> np.ndarray:
    matrices = np.asarray(transitions, np.float64)
    if len(matrices) != len(symbols):
        raise ValueError(
            f"symbols: got {len(symbols)} elements, expected one for each of {len(matrices)} "
            "transitions"
        )
    return matrices


def _product(matrices: np.ndarray, word: Sequence[int]) -> np.ndarray:
    product = np.eye(matrices.shape[-1])
    for symbol in word:
        product = matrices[symbol] @ product
    return product
