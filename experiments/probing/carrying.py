"""How far models carry: exact constructions, and models with what fights drift."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import tasks
from experiments.run import RunError
from experiments.streams import snapped, stream_of
from plstm_seq import probing
from plstm_seq.evaluation import Stream, length_generalization
from plstm_seq.models import SequenceModel
from tasks.groups import group

SNAP_EVERY = 16
NOISE = 0.02
"""What is added to the numbers of an exact construction to see what drift does to it."""


class Carried(NamedTuple):
    """How far a model carries.

    Attributes:
        lengths: where it was measured.
        accuracy: at the last position, at each length.
        horizon: of whole sequences, 0.9 of them right.
    """

    lengths: tuple[int, ...]
    accuracy: tuple[float, ...]
    horizon: str


@contextmanager
def declining() -> Iterator[None]:
    """Says of what the library cannot do with a model or task that the run does not suit."""
    try:
        yield
    except ValueError as error:
        raise RunError(str(error)) from None


def require_stream(task: tasks.Task) -> Stream:
    """The task as a stream.

    Raises:
        RunError: it does not label every position.
    """
    stream = stream_of(task)
    if stream is None:
        raise RunError(f"{type(task).__name__} does not label every position")
    return stream


def carry(
    model: Any,
    task: tasks.Task,
    lengths: Sequence[int],
    *,
    seed: int = 0,
    num_sequences: int = 64,
    chunk_size: int = 256,
) -> Carried:
    """Measure how far a model carries, on sequences that depend on the seed alone.

    Args:
        model: of bounded state.
        task: labels every position.
        lengths: where to measure.
        seed: of the sequences.
        num_sequences: run at once.
        chunk_size: symbols run at once; a snapped model is snapped as often.
    """
    found = length_generalization(
        model,
        require_stream(task),
        lengths,
        chance=task.chance,
        key=jax.random.key(seed),
        num_sequences=num_sequences,
        batch_size=num_sequences,
        chunk_size=chunk_size,
    )
    accuracy = tuple(found.row("last", length).value for length in found.lengths)
    return Carried(found.lengths, accuracy, str(found.horizon("sequence", 0.9)))


def carry_snapped(
    model: Any, task: tasks.Task, lengths: Sequence[int], *, learned_at: int = 16, **options: Any
) -> Carried:
    """The same with the state put back every `SNAP_EVERY` symbols onto prototypes.

    Args:
        model: see `carry`.
        task: see `carry`.
        lengths: see `carry`.
        learned_at: length of the sequences that prototypes are learned from.
        **options: see `carry`.
    """
    corrected = snapped(model, task, length=learned_at, seed=options.get("seed", 0))
    return carry(corrected, task, lengths, **{**options, "chunk_size": SNAP_EVERY})


def exact_horizons(
    task: tasks.Task, lengths: Sequence[int], *, noise: float = NOISE, **options: Any
) -> dict[str, Carried]:
    """Measure how far the exact construction for a word problem carries.

    In both types, with transitions held as matrices and made as exponentials; and both disturbed,
    which is what training leaves, the matrices also snapped.

    Args:
        task: a word problem with one token an element.
        lengths: where to measure.
        noise: standard deviation of the disturbance, see `exact_model`.
        **options: see `carry`.

    Raises:
        RunError: the task is not one of those, or its group is too large.
    """
    if not isinstance(task, tasks.WordProblem) or task.tokens_per_transition > 1:
        raise RunError("exact constructions are for word problems with one token an element")
    whole = group(task.group)
    if whole.order <= probing.MAX_ORDER:
        with declining():
            matrices = probing.faithful_representation(whole.table)
    elif whole.images is not None:
        matrices = probing.permutation_matrices(whole.images)
    else:
        raise RunError(f"{whole.name} has more than {probing.MAX_ORDER} elements")
    symbols = [whole.elements.index(symbol) for symbol in task.vocabulary]

    def made(**changed: Any) -> SequenceModel:
        return probing.exact_model(
            matrices,
            symbols,
            composition=task.composition,
            implementation="recurrent",
            **changed,
        )

    disturbed = made(noise=noise)
    models = {
        "matrices, float32": made(),
        "matrices, bfloat16": made(dtype=jnp.bfloat16),
        "exponentials, float32": made(family="orthogonal"),
        "exponentials, bfloat16": made(family="orthogonal", dtype=jnp.bfloat16),
        f"matrices, noise {noise:g}": disturbed,
        f"exponentials, noise {noise:g}": made(family="orthogonal", noise=noise),
    }
    found = {name: carry(model, task, lengths, **options) for name, model in models.items()}
    corrected = carry_snapped(disturbed, task, lengths, **options)
    return found | {f"matrices, noise {noise:g}, snapped every {SNAP_EVERY}": corrected}
