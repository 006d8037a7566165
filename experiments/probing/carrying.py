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
    """Up to which length a model answers correctly.

    Attributes:
        lengths: the lengths that were measured.
        accuracy: the accuracy at the last position of each length.
        horizon: the longest length up to which 0.9 of the whole sequences are right, as a text.
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
    """Measure up to which length a model answers correctly; the sequences follow from the seed.

    Args:
        model: a model whose state has a bounded size.
        task: a task that labels every position.
        lengths: the lengths to measure.
        seed: the seed of the sequences.
        num_sequences: the number of sequences.
        chunk_size: the number of symbols that are run at once; a snapped model is snapped after
            each such piece.

    Example:
        A model with written weights makes no mistake.

        >>> import numpy as np
        >>> from experiments.probing import Carried, carry
        >>> from experiments.problems import make_task
        >>> from plstm_seq.probing import exact_model, faithful_representation
        >>> task = make_task("word_problem", group="Z3")
        >>> matrices = faithful_representation(np.add.outer(range(3), range(3)) % 3)
        >>> model = exact_model(matrices, range(3), implementation="recurrent")
        >>> found: Carried = carry(model, task, [8], num_sequences=4)
        >>> found.accuracy, found.horizon
        ((1.0,), '>=8')
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
    """As `carry`, with the state replaced by a learned prototype every `SNAP_EVERY` symbols.

    Args:
        model: see `carry`.
        task: see `carry`.
        lengths: see `carry`.
        learned_at: length of the sequences that prototypes are learned from.
        **options: see `carry`.

    Example:
        >>> import numpy as np
        >>> from experiments.probing import carry_snapped
        >>> from experiments.problems import make_task
        >>> from plstm_seq.probing import exact_model, faithful_representation
        >>> task = make_task("word_problem", group="Z3")
        >>> matrices = faithful_representation(np.add.outer(range(3), range(3)) % 3)
        >>> model = exact_model(matrices, range(3), implementation="recurrent")
        >>> carry_snapped(model, task, [16], num_sequences=4).accuracy
        (1.0,)
    """
    corrected = snapped(model, task, length=learned_at, seed=options.get("seed", 0))
    return carry(corrected, task, lengths, **{**options, "chunk_size": SNAP_EVERY})


def exact_horizons(
    task: tasks.Task, lengths: Sequence[int], *, noise: float = NOISE, **options: Any
) -> dict[str, Carried]:
    """Measure up to which length exact constructions for a word problem answer correctly.

    There is one with transitions that are stored as matrices, and one with exponentials; each in
    float32, in bfloat16, and with noise, as training leaves it. The noisy matrices are also
    measured with snapping.

    Args:
        task: a word problem with one token for each element.
        lengths: the lengths to measure.
        noise: standard deviation of the disturbance, see `exact_model`.
        **options: see `carry`.

    Raises:
        RunError: the task is not one of those, or its group is too large.

    Example:
        Majority has no group, hence no exact construction.

        >>> from experiments import RunError
        >>> from experiments.probing import exact_horizons
        >>> from experiments.problems import make_task
        >>> try:
        ...     exact_horizons(make_task("majority"), [16])
        ... except RunError as error:
        ...     print(error)
        exact constructions are for word problems with one token an element
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
