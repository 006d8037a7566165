"""A run with what several probes need of it, such as the group behind its task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

import tasks
from experiments.probing.carrying import declining, require_stream
from experiments.run import Run, RunError
from plstm_seq import probing
from plstm_seq.evaluation import Stream
from plstm_seq.models import SequenceModel
from plstm_seq.probing import Composition
from tasks.groups import MAX_ORDER, cycles, group


class TaskGroup(NamedTuple):
    """The group that a task's symbols generate.

    Attributes:
        name: the name of the group, or of a larger group that it is part of.
        elements: the names of the elements.
        table: the Cayley table `[G, G]`.
        symbols: for each symbol of the task the number of its element.
        composition: the side on which the task multiplies its newest symbol.
        images: `[G, points]`, where each element sends each point, if the elements are
            permutations; None: they are not.

    Example:
        >>> import tasks
        >>> from experiments.probing import TaskGroup, task_group
        >>> found: TaskGroup = task_group(tasks.get("parity"))
        >>> found.elements, found.table.tolist()
        (('e', '(0,1)'), [[0, 1], [1, 0]])
    """

    name: str
    elements: tuple[str, ...]
    table: np.ndarray
    symbols: tuple[int, ...]
    composition: Composition
    images: np.ndarray | None


def task_group(task: tasks.Task) -> TaskGroup | None:
    """Finds the group behind a task: a word problem, or an automaton whose symbols permute states.

    Returns:
        The group; None if there is none, or if an element takes several tokens.

    Example:
        >>> import tasks
        >>> from experiments.probing import task_group
        >>> found = task_group(tasks.get("cycle_navigation"))
        >>> len(found.elements), found.symbols, task_group(tasks.get("flip_flop"))
        (5, (4, 0, 1), None)
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
        named = dict.fromkeys(cycles(move, 0) for move in moves.tolist())
        named.pop("e", None)
        if not named:
            return None
        try:
            whole = group(f"<{','.join(named)}>")
        except ValueError:  # the group has more than MAX_ORDER elements
            return None
        images = whole.images
        if images is None:  # never true: the group was made of permutations
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


POSITIONS_A_TOKEN, MOST_SEQUENCES = 50, 256
LONGEST = 4096

L = TypeVar("L", probing.LayerRecord, probing.GridLayerRecord)


def layer_of(layers: Sequence[L], block: int) -> L:
    """Returns the record of a block.

    Args:
        layers: the layers of a recording.
        block: the number of the block.

    Raises:
        RunError: the block has no pLSTM layer.
    """
    for layer in layers:
        if layer.block == block:
            return layer
    known = ", ".join(str(layer.block) for layer in layers)
    raise RunError(f"no pLSTM layer in block {block}: they are in {known}")


class Subject:
    """A run with what several probes need of it.

    Each property is computed when the first probe asks for it.
    """

    def __init__(self, run: Run, block: int):
        model: Any = run.model
        if not isinstance(model, SequenceModel):
            raise RunError(
                f"run {run.folder} has a {type(model).__name__}: probes are for models of "
                "sequences and of grids"
            )
        self.run, self.model, self.task, self.block = run, model, run.task, block
        self.longest = run.config.training.curriculum.longest
        self.seed = run.config.evaluation.seed + 2
        self.key = jax.random.key(self.seed)

    @cached_property
    def recording(self) -> probing.Recording:
        """A recording of some sequences in which every token occurs often."""
        length = min(self.longest, 64)
        count = math.ceil(POSITIONS_A_TOKEN * len(self.task.vocabulary) / length)
        count = min(max(count, 8), MOST_SEQUENCES)
        tokens = self.task.sample(self.key, count, length).inputs
        with declining():
            return probing.record(self.model, tokens)

    @cached_property
    def gates(self) -> list[probing.TokenGates]:
        """The gates by token of every layer."""
        symbols = len(self.task.vocabulary)
        layers = range(len(self.recording.layers))
        return [probing.by_token(self.recording, n, num_tokens=symbols) for n in layers]

    @cached_property
    def group(self) -> TaskGroup:
        """The group behind the task."""
        found = task_group(self.task)
        if found is None:
            raise RunError(
                f"the symbols of {self.run.config.task.name} are no elements of a group (of up to "
                f"{MAX_ORDER} elements, one token each)"
            )
        return found

    @cached_property
    def actions(self) -> list[list[probing.Homomorphism]]:
        """How far the transitions of every layer and head are from an action of the group."""
        of = self.group
        if any(np.isnan(gates.transitions).any() for gates in self.gates):
            raise RunError("a symbol never came up in the sequences that were recorded")
        return [
            [
                probing.homomorphism(part.transitions, of.table, of.symbols, of.composition)
                for part in probing.realizations(layer, gates)
            ]
            for layer, gates in zip(self.recording.layers, self.gates, strict=True)
        ]

    @cached_property
    def stream(self) -> Stream:
        """The task as a stream; it has to label every position."""
        return require_stream(self.task)

    @cached_property
    def lengths(self) -> list[int]:
        """Powers of two, and the longest length in training, rounded up to whole periods."""
        period = self.stream.period
        until = min(LONGEST, max(*self.run.config.evaluation.lengths, 8 * self.longest))
        # The model runs in pieces of the smallest length.
        smallest = 4 if self.longest >= 8 else 1
        powers = [smallest * 2**n for n in range(13) if smallest * 2**n <= until]
        wanted = [*powers, max(self.longest // smallest, 1) * smallest]
        found = {-(-length // period) * period for length in wanted}
        return sorted(found)

    @cached_property
    def sample(self) -> probing.StateSample:
        """The states of the model at `lengths`."""
        with declining():
            return probing.sample_states(self.model, self.stream, self.lengths, key=self.key)
