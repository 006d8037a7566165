"""How a task is read by an evaluation: as a stream, and with a model that is snapped on the way."""

from typing import Any

import jax

import tasks
from plstm_seq.evaluation import Snapped, Stream, learn_prototypes

# Sequences that each label's prototype of a state is learned from.
_SEQUENCES_A_PROTOTYPE = 64


def stream_of(task: tasks.Task) -> Stream | None:
    """The task as a stream, of which one pass measures every length.

    Returns:
        None where the task does not label every position.
    """
    if isinstance(task, tasks.StreamingTask) and task.per_token:
        return Stream(task.draw, task.start, task.advance, task.period)
    return None


def snapped(model: Any, task: tasks.Task, *, length: int, seed: int, **options: int) -> Snapped:
    """The model, corrected by what it predicts on sequences of a length.

    Args:
        model: predicts the labels of the task.
        task: what the sequences are drawn from.
        length: of the sequences that prototypes of states are learned from.
        seed: of the evaluation, whose own sequences are others.
        **options: of `learn_prototypes`.
    """
    prototypes = learn_prototypes(
        model,
        task.sample,
        key=jax.random.key(seed + 1),
        length=length,
        num_sequences=_SEQUENCES_A_PROTOTYPE * len(task.labels),
        **options,
    )
    return Snapped(model, prototypes)
