"""Batches from a source of images, in any order, with bounded memory, and resumable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import numpy as np

from tasks.base import check_at_least
from tasks.vision.mixing import Mixing
from tasks.vision.packages import package
from tasks.vision.sources import Example, ImageBatch, ImageSource


class BatchIterator(Protocol):
    """Batches one after another.

    It is grain's iterator, so a checkpoint can hold it as one.
    """

    def __iter__(self) -> BatchIterator:
        """Itself."""
        ...

    def __next__(self) -> ImageBatch:
        """The next batch."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Where it stands, as what JSON can hold."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that `get_state` of the same call of `batches` gave."""
        ...


def batches(
    source: ImageSource,
    batch: int,
    *,
    transform: Callable[[Example, np.random.Generator], Example] | None = None,
    mixing: Mixing | None = None,
    seed: int = 0,
    shuffle: bool = True,
    epochs: int | None = None,
    drop_remainder: bool = True,
    part: tuple[int, int] = (0, 1),
    threads: int = 16,
    prefetch: int = 256,
) -> BatchIterator:
    """Read a source in batches.

    Order, augmentation and mixing are a function of the seed and of how far it has been read; each
    epoch has another order. A batch may hold the end of an epoch and the start of the next.

    Args:
        source: Where the images lie.
        batch: Images a batch, at least 1.
        transform: Applied to each image with random numbers of its own, such as an `Augmentation`.
        mixing: Applied to each batch.
        seed: Says which order and which random numbers.
        shuffle: Whether the order is random; that of the source otherwise.
        epochs: How often the source is read, at least 1; without end by default.
        drop_remainder: Whether to leave out a last batch that is not full.
        part: `(i, n)` reads the i-th of n parts, one for each process of a training; every part
            has other images.
        threads: Images that are read at once, at least 1.
        prefetch: Images that are read ahead, at least 1: no more than these and one batch are held.

    Returns:
        An iterator over `ImageBatch`es.

    Raises:
        ValueError: If an option leaves its range, if the part holds no image or, while reading, if
            images of a batch differ in size.
        TypeError: If one has the wrong type.
    """
    for name, value in {"batch": batch, "threads": threads, "prefetch": prefetch}.items():
        check_at_least(name, value, 1)
    check_at_least("seed", seed, 0)
    if epochs is not None:
        check_at_least("epochs", epochs, 1)
    index, parts = part
    if not 0 <= index < parts:
        raise ValueError(f"part must be (i, n) with 0 <= i < n, got {part}")
    if len(source) <= index:
        raise ValueError(f"the source has {len(source)} images, too few for part {part}")
    grain = package("grain.python", "grain")
    examples = grain.MapDataset.source(source).seed(seed)
    if shuffle:
        examples = examples.shuffle()
    examples = examples[index::parts].repeat(epochs)
    if transform is not None:
        examples = examples.random_map(transform)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    rows = examples.to_iter_dataset(options)
    rows = rows.batch(batch, drop_remainder=drop_remainder, batch_fn=_stack)
    if mixing is not None:
        rows = rows.random_map(mixing)
    return cast(BatchIterator, iter(rows))


def _stack(examples: Sequence[Example]) -> ImageBatch:
    images, labels = zip(*examples, strict=True)
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise ValueError(
            f"images of a batch must have one size, got {shapes[0]} and {shapes[-1]}; "
            "a transform such as Augmentation(size=224) makes them so"
        )
    return ImageBatch(np.stack(images), np.array(labels, np.int32))
