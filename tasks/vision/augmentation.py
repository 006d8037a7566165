"""Changes of one image that keep its label, and mixtures of the images and labels of a batch.

The former take an image uint8 `[rows, columns, 3]` and return one; what has chance in it takes a
`numpy.random.Generator`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tasks.grid import ImageBatch
from tasks.options import check_at_least, check_choice
from tasks.vision.sources import Box, Example, FileImage, pillow, resampled

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_TRIES = 10

Picture = np.ndarray | FileImage
"""An image uint8 `[rows, columns, 3]`, or one in a file, which is decoded when it is cropped."""


@dataclass(frozen=True)
class Augmentation:
    """The random changes to an image, in this order: crop, flip, three-augment, colour jitter.

    DeiT III trains with the defaults and `three_augment=True`, `jitter=0.3`; CIFAR is usually
    trained with `size=32, crop="padded"`; for evaluation, `crop="center", flip=0`.

    Args:
        size: Rows and columns of the changed image, at least 1.
        crop: "resized" cuts out a part of random area and shape and resizes it; "padded" resizes
            the image, puts a border of zeros (an eighth of the size) around it and cuts out a
            random part; "center" resizes the middle square of the image.
        area: For "resized", the smallest share of the image's area, above 0 and at most 1.
        keep: For "center", the share of the shorter side that is kept, above 0 and at most 1
            (224/256 in the ImageNet tradition).
        flip: Probability of a flip from left to right.
        vertical_flip: Probability of a flip upside down.
        three_augment: Apply one of grey, solarised, blurred.
        jitter: Brightness, contrast and saturation are multiplied by 1 - jitter .. 1 + jitter.

    Raises:
        ValueError: If an option leaves its range.

    Example:
        >>> import numpy as np
        >>> from tasks.vision import Augmentation, Example
        >>> example = Example(np.zeros((48, 64, 3), np.uint8), label=1)
        >>> Augmentation(size=32)(example, np.random.default_rng(0)).image.shape
        (32, 32, 3)
    """

    size: int
    crop: Literal["resized", "padded", "center"] = "resized"
    area: float = 0.08
    keep: float = 1.0
    flip: float = 0.5
    vertical_flip: float = 0.0
    three_augment: bool = False
    jitter: float = 0.0

    def __post_init__(self) -> None:
        check_at_least("size", self.size, 1)
        check_choice("crop", self.crop, ("resized", "padded", "center"))
        for name in ("area", "keep"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}")
        for name in ("flip", "vertical_flip", "jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0 .. 1, got {getattr(self, name)}")

    def __call__(self, example: Example, random: np.random.Generator) -> Example:
        """Change one image."""
        return Example(self.change(example.image, random), example.label)

    def change(self, image: Picture, random: np.random.Generator) -> np.ndarray:
        """Change one image, of which no more is decoded than is needed."""
        if self.crop == "resized":
            image = random_resized_crop(image, random, self.size, area=self.area)
        elif self.crop == "padded":
            image = padded_crop(resize(image, self.size), random, max(1, self.size // 8))
        else:
            image = center_crop(image, self.size, keep=self.keep)
        if random.random() < self.flip:
            image = image[:, ::-1]
        if random.random() < self.vertical_flip:
            image = image[::-1]
        if self.three_augment:
            image = three_augment(image, random)
        if self.jitter:
            image = colour_jitter(image, random, self.jitter)
        return np.ascontiguousarray(image)


def resize(image: Picture, size: int, box: Box | None = None) -> np.ndarray:
    """Resize an image, or a part of it, to a square by bicubic interpolation.

    Args:
        image: uint8 `[rows, columns, 3]`, or an image in a file.
        size: Rows and columns of the result.
        box: Left, top, right and bottom of the part in pixels; all of the image by default.
    """
    whole = (0, 0, image.shape[1], image.shape[0])
    part = whole if box is None else box
    if isinstance(image, FileImage):
        return image.resized(size, part)
    if image.shape[:2] == (size, size) and part == whole:
        return image
    return resampled(pillow("Image").fromarray(image), size, part)


def center_crop(image: Picture, size: int, *, keep: float = 1.0) -> np.ndarray:
    """The square in the middle, resized; its side is `keep` times the shorter one."""
    rows, columns = image.shape[:2]
    half = keep * min(rows, columns) / 2
    x, y = columns / 2, rows / 2
    return resize(image, size, (x - half, y - half, x + half, y + half))


def random_resized_crop(
    image: Picture,
    random: np.random.Generator,
    size: int,
    *,
    area: float = 0.08,
    ratio: float = 4 / 3,
) -> np.ndarray:
    """A random part, resized.

    Its share of the image's area is uniform in `area` .. 1, the logarithm of its width over its
    height uniform within that of `ratio`, its place uniform. Shapes that don't fit are drawn
    again; after ten tries the middle square is taken.

    *Source.* Szegedy et al., Going Deeper with Convolutions, arXiv 1409.4842, section 6.
    """
    rows, columns = image.shape[:2]
    for _ in range(_TRIES):
        pixels = random.uniform(area, 1) * rows * columns
        shape = math.exp(random.uniform(-math.log(ratio), math.log(ratio)))
        width, height = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
        if 0 < width <= columns and 0 < height <= rows:
            left = int(random.integers(columns - width + 1))
            top = int(random.integers(rows - height + 1))
            return resize(image, size, (left, top, left + width, top + height))
    return center_crop(image, size)


def padded_crop(image: np.ndarray, random: np.random.Generator, padding: int) -> np.ndarray:
    """A random part of the image's own size, after a border of zeros was put around it."""
    rows, columns = image.shape[:2]
    border = ((padding, padding), (padding, padding), (0, 0))
    top, left = random.integers(2 * padding + 1, size=2)
    return np.pad(image, border)[top : top + rows, left : left + columns]


def grey(image: np.ndarray) -> np.ndarray:
    """The luma of each pixel in all three channels."""
    return np.repeat(_to_bytes(image @ _LUMA)[..., None], 3, axis=2)


def solarise(image: np.ndarray, threshold: int = 128) -> np.ndarray:
    """Values of at least `threshold` inverted."""
    values = np.arange(256, dtype=np.uint8)
    return _looked_up(np.where(values >= threshold, 255 - values, values), image)


def blur(image: np.ndarray, radius: float) -> np.ndarray:
    """Gaussian blur; `radius` is its standard deviation in pixels."""
    drawn = pillow("Image").fromarray(np.ascontiguousarray(image))
    return np.asarray(drawn.filter(pillow("ImageFilter").GaussianBlur(radius)))


def three_augment(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One of grey, solarised and blurred (by 0.1 .. 2 pixels), equally often.

    *Source.* Touvron et al., DeiT III, arXiv 2204.07118, section 3.
    """
    changes: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
        grey,
        solarise,
        lambda drawn: blur(drawn, random.uniform(0.1, 2)),
    )
    return changes[int(random.integers(len(changes)))](image)


def colour_jitter(image: np.ndarray, random: np.random.Generator, amount: float) -> np.ndarray:
    """Brightness, contrast and saturation in random order, each by 1 - amount .. 1 + amount.

    Brightness is a distance from black, contrast from the image's mean luma and saturation from
    each pixel's.
    """
    factors = random.uniform(1 - amount, 1 + amount, 3)
    for change in random.permutation(3):
        factor = np.float32(factors[change])
        if change == 2:
            changed = factor * image
            changed += (1 - factor) * (image @ _LUMA)[..., None]
            image = _to_bytes(changed)
        else:
            origin = (image @ _LUMA).mean() if change else np.float32(0)
            values = origin + factor * (np.arange(256, dtype=np.float32) - origin)
            image = _looked_up(_to_bytes(values), image)
    return image


def _looked_up(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    """`values[image]`, uint8, by what is faster for bytes."""
    changed = image.tobytes().translate(values.tobytes())
    return np.frombuffer(changed, np.uint8).reshape(image.shape)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """Round float32 values in place, and make bytes of them."""
    np.rint(values, out=values)
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


@dataclass(frozen=True)
class Mixing:
    """Mixes the images of a batch by mixup or CutMix, and smooths their labels.

    Every image is mixed with the one at the same place of the reversed batch; all images of a batch
    are mixed in the same way and by the same share.

    Args:
        classes: Number of classes, at least 2.
        mixup: Parameter of mixup's Beta distribution; 0: no mixup.
        cutmix: Parameter of CutMix's Beta distribution; 0: no CutMix. If neither is 0, each is
            taken for half of the batches.
        probability: Share of the batches that are mixed.
        smoothing: Share of a label that is spread over all classes, at least 0 and below 1.

    Raises:
        ValueError: If an option leaves its range.

    Example:
        >>> import numpy as np
        >>> from tasks.vision import ImageBatch, Mixing
        >>> batch = ImageBatch(np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 2], np.int32))
        >>> mixing = Mixing(classes=4, probability=0.0, smoothing=0.5)
        >>> mixing(batch, np.random.default_rng(0)).targets.tolist()
        [[0.625, 0.125, 0.125, 0.125], [0.125, 0.125, 0.625, 0.125]]
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

    def __call__(
        self, batch: ImageBatch[np.ndarray], random: np.random.Generator
    ) -> ImageBatch[np.ndarray]:
        """Mix one batch with `targets [B]`; labels come out as float32 `[B, classes]`."""
        share = np.eye(self.classes, dtype=np.float32)[batch.targets]
        share = (1 - self.smoothing) * share + self.smoothing / self.classes
        mixed = ImageBatch(batch.images, share.astype(np.float32))
        kinds = [kind for kind in (mixup, cutmix) if getattr(self, kind.__name__)]
        if not kinds or random.random() >= self.probability:
            return mixed
        kind = kinds[int(random.integers(len(kinds)))]
        return kind(mixed, random, getattr(self, kind.__name__))


def mixup(
    batch: ImageBatch[np.ndarray], random: np.random.Generator, alpha: float
) -> ImageBatch[np.ndarray]:
    """Replaces images and labels by their weighted means with those of the reversed batch.

    Values of images are rounded. *Source.* Zhang et al., mixup, arXiv 1710.09412.

    Args:
        batch: A batch with `targets` float `[B, classes]`.
        random: Generator that draws the weight.
        alpha: The weight of each image's own values is drawn from Beta(alpha, alpha).

    Example:
        >>> import numpy as np
        >>> from tasks.vision import ImageBatch, mixup
        >>> batch = ImageBatch(np.zeros((2, 8, 8, 3), np.uint8), np.eye(2, dtype=np.float32))
        >>> mixed = mixup(batch, np.random.default_rng(0), alpha=0.8)
        >>> mixed.images.shape, mixed.targets.sum(axis=1).round(3).tolist()
        ((2, 8, 8, 3), [1.0, 1.0])
    """
    weight = np.float32(random.beta(alpha, alpha))
    return ImageBatch(
        np.rint(_mean(batch.images.astype(np.float32), weight)).astype(np.uint8),
        _mean(batch.targets, weight),
    )


def cutmix(
    batch: ImageBatch[np.ndarray], random: np.random.Generator, alpha: float
) -> ImageBatch[np.ndarray]:
    """Replaces a rectangle of each image by that of another, and weights their labels by area.

    The rectangle has the proportions of the image, its middle is uniform, and it is cut off at the
    border of the image.

    *Source.* Yun et al., CutMix, arXiv 1905.04899.

    Args:
        batch: A batch with `targets` float `[B, classes]`.
        random: Generator that draws the rectangle.
        alpha: One minus the share of the image that the rectangle has, before it is cut off, is
            drawn from Beta(alpha, alpha).

    Example:
        >>> import numpy as np
        >>> from tasks.vision import ImageBatch, cutmix
        >>> batch = ImageBatch(np.zeros((2, 8, 8, 3), np.uint8), np.eye(2, dtype=np.float32))
        >>> mixed = cutmix(batch, np.random.default_rng(0), alpha=1.0)
        >>> mixed.images.shape, mixed.targets.sum(axis=1).round(3).tolist()
        ((2, 8, 8, 3), [1.0, 1.0])
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
