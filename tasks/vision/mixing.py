"""Batches whose images, and labels, are mixed in pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.base import check_at_least
from tasks.vision.sources import ImageBatch


@dataclass(frozen=True)
class Mixing:
    """Mixup or CutMix, one for each batch, and smooth labels.

    Every image is mixed with the one at the same place of the reversed batch, by one share a batch.

    Args:
        classes: Number of classes, at least 2.
        mixup: Parameter of mixup's Beta distribution; 0 for no mixup.
        cutmix: Parameter of CutMix's Beta distribution; 0 for no CutMix. With both, either is
            taken half of the time.
        probability: Share of the batches that are mixed.
        smoothing: Share of a label that is spread over all classes, at least 0 and below 1.

    Raises:
        ValueError: If an option leaves its range.
    """

    classes: int
    mixup: float = 0.8
    cutmix: float = 1.0
    probability: float = 1.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_at_least("classes", self.classes, 2)
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must lie in 0 .. 1, got {self.probability}")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must be at least 0 and below 1, got {self.smoothing}")

    def __call__(self, batch: ImageBatch, random: np.random.Generator) -> ImageBatch:
        """Mix one batch with `targets [B]`; labels come out as float32 `[B, classes]`."""
        share = np.eye(self.classes, dtype=np.float32)[batch.targets]
        share = (1 - self.smoothing) * share + self.smoothing / self.classes
        mixed = ImageBatch(batch.images, share.astype(np.float32))
        kinds = [kind for kind in (mixup, cutmix) if getattr(self, kind.__name__)]
        if not kinds or random.random() >= self.probability:
            return mixed
        kind = kinds[int(random.integers(len(kinds)))]
        return kind(mixed, random, getattr(self, kind.__name__))


def mixup(batch: ImageBatch, random: np.random.Generator, alpha: float) -> ImageBatch:
    """Weighted means of images, rounded to whole values, and of labels.

    *Source.* Zhang et al., mixup, arXiv 1710.09412.

    Args:
        batch: With `targets` float `[B, classes]`.
        random: What the weight is drawn with.
        alpha: The weight of a batch's own images is drawn from Beta(alpha, alpha).
    """
    weight = np.float32(random.beta(alpha, alpha))
    return ImageBatch(
        np.rint(_mean(batch.images.astype(np.float32), weight)).astype(np.uint8),
        _mean(batch.targets, weight),
    )


def cutmix(batch: ImageBatch, random: np.random.Generator, alpha: float) -> ImageBatch:
    """A rectangle of each image taken from another, labels weighted by area.

    The rectangle has the image's shape, its middle is uniform and what leaves the image is cut.

    *Source.* Yun et al., CutMix, arXiv 1905.04899.

    Args:
        batch: With `targets` float `[B, classes]`.
        random: What the rectangle is drawn with.
        alpha: One minus the rectangle's share, before it is cut, is drawn from Beta(alpha, alpha).
    """
    rows, columns = batch.images.shape[1:3]
    side = np.sqrt(1 - random.beta(alpha, alpha))
    top, bottom = _cut(random, rows, side)
    left, right = _cut(random, columns, side)
    images = batch.images.copy()
    images[:, top:bottom, left:right] = batch.images[::-1, top:bottom, left:right]
    weight = np.float32(1 - (bottom - top) * (right - left) / (rows * columns))
    return ImageBatch(images, _mean(batch.targets, weight))


def _mean(values: np.ndarray, weight: np.float32) -> np.ndarray:
    return weight * values + (1 - weight) * values[::-1]


def _cut(random: np.random.Generator, length: int, side: float) -> tuple[int, int]:
    middle, size = int(random.integers(length)), int(length * side)
    start = middle - size // 2
    return max(start, 0), min(start + size, length)
