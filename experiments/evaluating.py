"""How far beyond its training length a run holds."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax

import tasks
from experiments.run import Run
from plstm_seq.evaluation import (
    LengthGeneralization,
    Stream,
    length_generalization,
    mixture_of_lengths,
    write_parquet,
)
from plstm_seq.evaluation.sources import Source


def evaluate(
    run: Run, lengths: Sequence[int] | None = None, *, num_sequences: int | None = None
) -> LengthGeneralization:
    """Measures accuracy against length on fresh sequences, and keeps it in the run's folder.

    Args:
        run: a trained run.
        lengths: where to measure; None: those of the config.
        num_sequences: sequences a length; None: that of the config.

    Returns:
        Token, sequence and last-position accuracy at every length, with intervals and horizons; and
        where the config names a mixture of lengths, its rows (`mixture_of_lengths`).

    Raises:
        RunError: the run has no checkpoint.
        ValueError: a length or number is below 1.
    """
    settings = run.config.evaluation
    task = run.task
    shared: dict[str, Any] = {"chance": task.chance, "batch_size": settings.batch_size}
    result = length_generalization(
        run.model,
        _source(task),
        settings.lengths if lengths is None else lengths,
        key=jax.random.key(settings.seed),
        num_sequences=settings.num_sequences if num_sequences is None else num_sequences,
        chunk_size=settings.chunk_size,
        **shared,
    )
    if settings.mixture is not None:
        mixture = mixture_of_lengths(
            run.model,
            task.sample,
            *settings.mixture,
            key=jax.random.key(settings.seed),
            num_sequences=settings.mixture_sequences,
            **shared,
        )
        result = replace(result, rows=(*result.rows, *mixture))
    config = run.config
    transition = getattr(config.model.mixer, "transition", None)
    write_parquet(
        run.evaluation_path,
        result,
        run=run.name,
        task=config.task.name,
        mixer=config.model.mixer.kind,
        transition=None if transition is None else transition.kind,
        JT=None if transition is None else transition.dim,
        seed=config.seed,
        trained_length=config.training.curriculum.longest,
    )
    return result


def _source(task: tasks.Task) -> Source:
    """A stream where one pass measures every length."""
    if isinstance(task, tasks.StreamingTask) and task.per_token:
        return Stream(task.draw, task.start, task.advance, task.period)
    return task.sample
