"""The length up to which models stay right: exact constructions, and corrections of drift."""

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
"""The noise on the numbers of an exact construction, which shows what drift does to it."""


class Carried(NamedTuple):
    """Measurements of how long a model stays right.

    Attributes:
        lengths: the lengths that were measured.
        accuracy: the accuracy at the last position, for each length.
        horizon: the longest length at which 0.9 of the sequences are right at every position.

    Example:
        >>> import tasks
        >>> from experiments import load_run
        >>> from experiments.probing import Carried, carry
        >>> model = load_run("parity-1").model  # a run, see `experiments.train`
        >>> carried: Carried = carry(model, tasks.get("parity"), [16, 64], num_sequences=8)
        >>> carried.lengths, min(carried.accuracy) > 0.8
        ((16, 64), True)
    """

    lengths: tuple[int, ...]
    accuracy: tuple[float, ...]
    horizon: str


@contextmanager
def declining() -> Iterator[None]:
    """Turns a ValueError of the library into a RunError: the run does not suit a probe."""
    try:
        yield
    except ValueError as error:
        raise RunError(str(error)) from None


def require_stream(task: tasks.Task) -> Stream:
    """Returns the task as a stream.

    Raises:
        RunError: the task does not label every position.
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
    """Measures up to which length a model stays right, on sequences fixed by the seed.

    Args:
        model: a model whose state does not grow with the length.
        task: a task that labels every position.
        lengths: the lengths to measure.
        seed: seed of the sequences.
        num_sequences: number of sequences; they run at once.
        chunk_size: number of symbols of a sequence that run at once; a `Snapped` model is corrected
            after each such chunk.

    Example:
        >>> import tasks
        >>> from experiments.probing import carry
        >>> from plstm_seq.probing import exact_model, faithful_representation
        >>> task, group = tasks.get("word_problem", group="Z3"), tasks.groups.group("Z3")
        >>> symbols = [group.elements.index(symbol) for symbol in task.vocabulary]
        >>> model = exact_model(faithful_representation(group.table), symbols)
        >>> carry(model, task, [16, 256], num_sequences=8)
        Carried(lengths=(16, 256), accuracy=(1.0, 1.0), horizon='>=256')
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
    """Measures as `carry` does, but corrects the model's state every `SNAP_EVERY` symbols.

    It replaces the state by the learned prototype of the label that the model predicts.

    Args:
        model: see `carry`.
        task: see `carry`.
        lengths: see `carry`.
        learned_at: length of the sequences from which prototypes are learned.
        **options: see `carry`.

    Example:
        >>> import tasks
        >>> from experiments import load_run
        >>> from experiments.probing import carry_snapped
        >>> model = load_run("parity-1").model  # a run, see `experiments.train`
        >>> carry_snapped(model, tasks.get("parity"), [16, 64], num_sequences=8).lengths
        (16, 64)
    """
    corrected = snapped(model, task, length=learned_at, seed=options.get("seed", 0))
    return carry(corrected, task, lengths, **{**options, "chunk_size": SNAP_EVERY})


def exact_horizons(
    task: tasks.Task, lengths: Sequence[int], *, noise: float = NOISE, **options: Any
) -> dict[str, Carried]:
    """Measures up to which length the exact construction for a word problem stays right.

    Seven models are measured. Their transitions are stored as matrices or computed as matrix
    exponentials; each kind is in float32, in bfloat16, and with noise on the parameters, as
    training leaves it. The seventh is the noisy matrices, corrected as in `carry_snapped`.

    Args:
        task: a word problem with one token for each element.
        lengths: the lengths to measure.
        noise: standard deviation of the noise, see `exact_model`.
        **options: see `carry`.

    Returns:
        The measurements, by the name of the model.

    Raises:
        RunError: the task is not such a word problem, or its group is too large.

    Example:
        >>> import tasks
        >>> from experiments.probing import exact_horizons
        >>> found = exact_horizons(tasks.get("s3_word_problem"), [16, 64])  # doctest: +SKIP
        >>> found["matrices, float32"].horizon  # doctest: +SKIP
        '>=64'
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
