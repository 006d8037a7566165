"""How far beyond its training length a run holds."""

from collections.abc import Sequence

import jax

import tasks
from experiments.run import Run
from plstm_seq.evaluation import LengthGeneralization, Stream, length_generalization, write_parquet


def evaluate(
    run: Run, lengths: Sequence[int] | None = None, *, num_sequences: int | None = None
) -> LengthGeneralization:
    """Measures accuracy against length on fresh sequences, and keeps it in the run's folder.

    Args:
        run: a trained run.
        lengths: where to measure; None: those of the config.
        num_sequences: sequences a length; None: that of the config.

    Returns:
        Token, sequence and last-position accuracy at every length, with intervals and horizons.

    Raises:
        RunError: the run has no checkpoint.
        ValueError: a length or number is below 1.
    """
    settings = run.config.evaluation
    task = run.task
    streams = isinstance(task, tasks.StreamingTask)
    result = length_generalization(
        run.model,
        Stream(task.draw, task.start, task.advance, task.period) if streams else task.sample,
        settings.lengths if lengths is None else lengths,
        chance=task.chance,
        key=jax.random.key(settings.seed),
        num_sequences=settings.num_sequences if num_sequences is None else num_sequences,
        batch_size=settings.batch_size,
        chunk_size=settings.chunk_size,
    )
    config = run.config
    write_parquet(
        run.evaluation_path,
        result,
        run=run.name,
        task=config.task.name,
        transition=config.model.mixer.transition.kind,
        JT=config.model.mixer.transition.dim,
        seed=config.seed,
        trained_length=config.training.curriculum.longest,
    )
    return result
