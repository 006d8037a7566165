"""The group behind a task."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import tasks
from plstm_seq.probing import Composition
from tasks.groups import group


class TaskGroup(NamedTuple):
    """The group that a task's symbols generate.

    Attributes:
        name: of the group, or of that which it is part of.
        elements: their names.
        table: Cayley table [G, G].
        symbols: the element of each symbol.
        composition: the side on which the task multiplies its newest symbol.
        images: [G, points] for permutations.
    """

    name: str
    elements: tuple[str, ...]
    table: np.ndarray
    symbols: tuple[int, ...]
    composition: Composition
    images: np.ndarray | None


def task_group(task: tasks.Task) -> TaskGroup | None:
    """The group behind a task: of a word problem, or of an automaton whose symbols permute states.

    None: there is no such group, or an element takes several tokens.
    """
    if isinstance(task, tasks.WordProblem):
        if task.tokens_per_transition > 1:
            return None
        whole = group(task.group)
        symbols = [whole.elements.index(symbol) for symbol in task.vocabulary]
        composition = task.composition
    else:
        machine = getattr(task, "machine", None)
        moves = None if machine is None else np.asarray(machine.transition).T
        if moves is None or (np.sort(moves, axis=1) != np.arange(moves.shape[1])).any():
            return None
        named = list(dict.fromkeys(filter(None, map(_in_cycles, moves.tolist()))))
        if not named:
            return None
        try:
            whole = group(f"<{','.join(named)}>")
        except ValueError:  # more than MAX_ORDER elements
            return None
        images = whole.images
        if images is None:  # never: it was made of permutations
            return None
        points = images.shape[1]
        known = {tuple(image): number for number, image in enumerate(images.tolist())}
        symbols = [known[tuple(move[:points])] for move in moves.tolist()]
        # The newest permutation acts last.
        composition = "left"
    kept = sorted(whole.closure(symbols))
    place = {element: number for number, element in enumerate(kept)}
    table = np.vectorize(place.__getitem__)(whole.table[np.ix_(kept, kept)])
    return TaskGroup(
        name=whole.name,
        elements=tuple(whole.elements[element] for element in kept),
        table=table,
        symbols=tuple(place[symbol] for symbol in symbols),
        composition=composition,
        images=None if whole.images is None else whole.images[kept],
    )


def _in_cycles(image: list[int]) -> str:
    text, seen = "", set()
    for start in range(len(image)):
        cycle, point = [], start
        while point not in seen:
            seen.add(point)
            cycle.append(str(point))
            point = image[point]
        if len(cycle) > 1:
            text += f"({' '.join(cycle)})"
    return text
