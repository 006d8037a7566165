"""Prepares an evaluation: the task as a stream, and the model with a snapped state."""

from typing import Any

import jax

import tasks
from plstm_seq.evaluation import Snapped, Stream, learn_prototypes

# Number of sequences per label from which the prototypes of states are learned.
_SEQUENCES_A_PROTOTYPE = 64


def stream_of(task: tasks.Task) -> Stream | None:
    """Turns the task into a stream, on which one pass measures every length.

    Returns:
        The stream, or None if the task cannot be streamed or does not label every position.
    """
    if isinstance(task, tasks.StreamingTask) and task.per_token:
        return Stream(task.draw, task.start, task.advance, task.period)
    return None


def snapped(model: Any, task: tasks.Task, *, length: int, seed: int, **options: int) -> Snapped:
    """Returns the model with a state that can be snapped to learned prototypes.

    Args:
        model: a model that predicts the labels of the task.
        task: the task that draws the sequences from which the prototypes are learned.
        length: the length of these sequences.
        seed: the seed of the evaluation; its own sequences are other ones.
        **options: further options of `learn_prototypes`.
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
