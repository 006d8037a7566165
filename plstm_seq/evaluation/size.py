"""Accuracy at sizes beyond those of training: images, grids, graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from plstm_seq.evaluation.length import Axis, LengthGeneralization, check_arguments, rows_of
from plstm_seq.evaluation.metrics import scaled
from plstm_seq.evaluation.outcomes import Outcomes, Tally
from plstm_seq.evaluation.sources import Examples


class Draw(Protocol):
    """Draws a batch of a size, on the device or on the host."""

    def __call__(self, key: Array, batch: int, size: int, /) -> Examples:
        """Draw `batch` examples of size `size`."""
        ...


@runtime_checkable
class InOrder(Protocol):
    """Examples in an order, such as those of files: each comes once, and none is drawn."""

    def at(self, start: int, batch: int, size: int) -> Examples:
        """The examples from `start` on; after the last one, unscored ones fill up the batch."""
        ...


def size_generalization(
    model: nnx.Module,
    draw: Draw | InOrder,
    sizes: Sequence[int],
    *,
    chance: float,
    key: Array,
    num_examples: int = 512,
    batch_size: int = 64,
    confidence: float = 0.95,
    axis: Axis = "size",
) -> LengthGeneralization:
    """Measure accuracy at many sizes; at each size, new examples are drawn and run whole.

    Args:
        model: an nnx module, `model(inputs)` -> logits [B, ..., V].
        draw: draws the examples; of examples that have an order, the first `num_examples` are
            taken, and one batch at a time is in memory.
        sizes: the sizes to measure; any that the task has.
        chance: accuracy of a guess at one scored position, in [0, 1).
        key: typed key; batch b of size n draws from `fold_in(fold_in(key, n), b)`.
        num_examples: number of examples at each size; at least 512 where a claim is made.
        batch_size: number of examples that are run at once.
        confidence: coverage of the intervals.
        axis: what the sizes are; tables and figures name them so.

    Returns:
        The accuracies, as `length_generalization` returns them. `token` is the mean over all scored
        cells of a grid or nodes of a graph (an image has one label), `sequence` says whether an
        example is right as a whole, `last` whether its last scored position is.

    Raises:
        ValueError: a number below 1, no size, or `chance` outside [0, 1).

    Example:
        >>> import jax
        >>> import tasks
        >>> from flax import nnx
        >>> from plstm_seq.evaluation import size_generalization
        >>> task, model = tasks.get_grid("grid_parity"), nnx.Embed(2, 2, rngs=nnx.Rngs(0))
        >>> options = {"chance": task.chance, "key": jax.random.key(0), "num_examples": 16}
        >>> result = size_generalization(model, task.sample, [2, 4], **options)
        >>> print(result.describe())
        16 examples at each size of [2, 4]
    """
    numbers = {"num_examples": num_examples, "batch_size": batch_size}
    wanted = check_arguments(axis, sizes, numbers)
    scaled(0.0, chance)
    batch_size = min(batch_size, num_examples)
    graphdef, variables = nnx.split(model)

    def measure(size: int) -> Tally:
        batches = []
        for number in range(-(-num_examples // batch_size)):
            if isinstance(draw, InOrder):
                batch = draw.at(number * batch_size, batch_size, size)
            else:
                batch_key = jax.random.fold_in(jax.random.fold_in(key, size), number)
                batch = draw(batch_key, batch_size, size)
            predicted = np.asarray(_predicted(graphdef, variables, batch.inputs))
            batches.append(_count(predicted, batch, batch_size))
        joined = (np.concatenate(parts)[:num_examples] for parts in zip(*batches, strict=True))
        return Tally(*joined)

    counts = [measure(size) for size in wanted]
    outcomes = Outcomes(
        lengths=tuple(wanted),
        nested=False,
        **{name: np.stack([getattr(c, name) for c in counts]) for name in Tally._fields},
    )
    return LengthGeneralization(
        outcomes=outcomes,
        chance=chance,
        confidence=confidence,
        chunk_size=wanted[-1],
        whole=True,
        skipped=(),
        rows=tuple(rows_of(outcomes, chance, confidence)),
        axis=axis,
    )


@jax.jit(static_argnums=0)
def _predicted(graphdef: nnx.GraphDef[Any], variables: Any, inputs: Any) -> Int[Array, "B ..."]:
    model: Any = nnx.merge(graphdef, variables)
    return model(inputs).argmax(-1)


def _count(predicted: np.ndarray, batch: Examples, examples: int) -> Tally:
    mask = np.asarray(batch.mask)
    owner = getattr(batch, "owner", None)
    if owner is None:
        shape = (-1, *[1] * (mask.ndim - 1))
        owner = np.broadcast_to(np.arange(examples).reshape(shape), mask.shape)
    whose = np.asarray(owner)[mask]
    right = (predicted == np.asarray(batch.targets))[mask]
    final = np.full(examples, -1)
    np.maximum.at(final, whose, np.arange(len(whose)))
    return Tally(
        correct=np.bincount(whose[right], minlength=examples),
        scored=np.bincount(whose, minlength=examples),
        last=np.append(right, False)[final],
    )
