"""Batches from a source of images, in any order, with bounded memory, and resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, cast

import numpy as np

from tasks.grid import ImageBatch
from tasks.options import check_at_least
from tasks.vision.augmentation import Augmentation, Mixing
from tasks.vision.sources import Example, FileImage, ImageFolder, ImageSource, package


class BatchIterator(Iterator[ImageBatch[np.ndarray]], Protocol):
    """Yields batches one after another.

    It is an iterator of grain, so a checkpoint can hold it.
    """

    def get_state(self) -> dict[str, Any]:
        """Where it stands, as what JSON can hold."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that `get_state` of the same call of `batches` gave."""
        ...

    def close(self) -> None:
        """Let go of what was read ahead, and of the processes that read."""
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
    start: int = 0,
    part: tuple[int, int] = (0, 1),
    threads: int = 4,
    processes: int = 0,
    prefetch: int = 4,
) -> BatchIterator:
    """Read a source in batches.

    Order, augmentation and mixing depend only on the seed and on how far the source has been read;
    each epoch has another order. A batch may hold the end of an epoch and the start of the next.

    Of an `ImageFolder` with an `Augmentation`, only the needed part of each image is decoded.
    Threads decode and resize on several cores; where Python itself is too slow for that, processes
    do. Each process takes some seconds to start. They are spawned, so that a script with processes
    needs `if __name__ == "__main__":`.

    Args:
        source: The images.
        batch: Number of images in a batch, at least 1.
        transform: Applied to each image with random numbers of its own, such as an `Augmentation`.
        mixing: Applied to each batch.
        seed: Determines the order and all random numbers.
        shuffle: Whether the order is random; otherwise it is that of the source.
        epochs: How often the source is read, at least 1; without end by default.
        drop_remainder: Whether to leave out a last batch that is not full.
        start: Number of batches at the beginning that are skipped, without being read.
        part: `(i, n)` reads the i-th of n parts, one for each process of a training; no image is
            in two parts.
        threads: Number of batches that are read at once (by each process), at least 1.
        processes: Number of processes that read; 0: this process does. The batches are the same.
        prefetch: Number of batches that are read ahead (by each process), at least 1. These and one
            or two more (for each process) are in memory.

    Returns:
        An iterator over `ImageBatch`es.

    Raises:
        ValueError: If an option leaves its range, if the part holds no image or, while reading, if
            images of a batch differ in size.
        TypeError: If one has the wrong type.

    Example:
        >>> import numpy as np
        >>> from tasks.vision import BatchIterator, Example, ImageSource, batches
        >>> class Tiles:
        ...     classes = ("black", "white")
        ...     def __len__(self):
        ...         return 4
        ...     def __getitem__(self, index):
        ...         return Example(np.full((8, 8, 3), 255 * (index % 2), np.uint8), index % 2)
        >>> source: ImageSource = Tiles()
        >>> found: BatchIterator = batches(source, 2, shuffle=False, epochs=1)
        >>> [batch.targets.tolist() for batch in found]
        [[0, 1], [0, 1]]
    """
    for name, value in {"batch": batch, "threads": threads, "prefetch": prefetch}.items():
        check_at_least(name, value, 1)
    for name, value in {"seed": seed, "processes": processes, "start": start}.items():
        check_at_least(name, value, 0)
    if epochs is not None:
        check_at_least("epochs", epochs, 1)
    index, parts = part
    if not 0 <= index < parts:
        raise ValueError(f"part must be (i, n) with 0 <= i < n, got {part}")
    if len(source) <= index:
        raise ValueError(f"the source has {len(source)} images, too few for part {part}")
    grain = package("grain.python", "grain")
    rows, change = source, transform
    if isinstance(source, ImageFolder) and isinstance(transform, Augmentation):
        rows, change = _Opened(source), _AugmentedFile(transform)
    examples = grain.MapDataset.source(rows).seed(seed)
    if shuffle:
        examples = examples.shuffle()
    examples = examples[index::parts].repeat(epochs)
    if change is not None:
        examples = examples.random_map(change)
    rows = examples.batch(batch, drop_remainder=drop_remainder, batch_fn=_stack)
    if mixing is not None:
        rows = rows.random_map(mixing)
    if start:
        rows = rows[start:]
    options = grain.ReadOptions(num_threads=min(threads, prefetch), prefetch_buffer_size=prefetch)
    rows = rows.to_iter_dataset(options)
    if processes:
        flags = package("absl.flags", "absl-py").FLAGS
        if not flags.is_parsed():
            flags.mark_as_parsed()  # grain asks them; without, it refuses to start processes
        rows = rows.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=processes, per_worker_buffer_size=1)
        )
    return cast(BatchIterator, iter(rows))


class _Opened:
    """The images of a folder, not decoded."""

    def __init__(self, folder: ImageFolder) -> None:
        self._folder = folder

    def __len__(self) -> int:
        return len(self._folder)

    def __getitem__(self, index: int) -> tuple[FileImage, int]:
        return self._folder.open(index)


class _AugmentedFile:
    """An augmentation of images that are not decoded."""

    def __init__(self, augmentation: Augmentation) -> None:
        self._augmentation = augmentation

    def __call__(self, opened: tuple[FileImage, int], random: np.random.Generator) -> Example:
        image, label = opened
        return Example(self._augmentation.change(image, random), label)


def _stack(examples: Sequence[Example]) -> ImageBatch[np.ndarray]:
    images, labels = zip(*examples, strict=True)
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise ValueError(
            f"images of a batch must have one size, got {shapes[0]} and {shapes[-1]}; "
            "a transform such as Augmentation(size=224) makes them so"
        )
    return ImageBatch(np.stack(images), np.array(labels, np.int32))
