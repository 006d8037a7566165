"""A data set of images as a task: which are learned, which measured, and how they are read."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from tasks.options import check_at_least, check_choice
from tasks.vision.augmentation import Augmentation, Mixing
from tasks.vision.loading import BatchIterator, batches
from tasks.vision.sources import Cifar, ImageFolder, ImageSource

# Files of the binary versions: to train on, and to measure on.
_CIFAR = {"cifar10": ("data_batch_*.bin", "test_batch.bin"), "cifar100": ("train.bin", "test.bin")}


@functools.lru_cache(maxsize=4)
def _read(data: str, layout: str) -> tuple[ImageSource, ImageSource]:
    if layout == "folder":
        train = ImageFolder(Path(data) / "train")
        return train, ImageFolder(Path(data) / "val", train.classes)
    parts = []
    for pattern in _CIFAR[layout]:
        files = sorted(Path(data).glob(pattern))
        if not files:
            raise FileNotFoundError(f"there is no file {Path(data) / pattern}")
        parts.append(Cifar(files, "cifar10" if layout == "cifar10" else "cifar100"))
    return parts[0], parts[1]


@dataclass(frozen=True)
class ImagesTask:
    """Classes of images, learned on one part of a data set and measured on another.

    *Rule.* The folders or files say the class of each image.

    *Sizes.* For training, images are resized to the size that the curriculum asks for; accuracy may
    be measured at any size.

    Args:
        data: A folder that holds `train/` and `val/`, each with a folder for each class; for CIFAR,
            the folder with the files `.bin`.
        format: "folder", "cifar10" or "cifar100".
        crop: How a training image is cut; this and the next five are fields of
            `tasks.vision.Augmentation`.
        area: Smallest share of an image that is cut out.
        flip: Probability of a flip from left to right.
        vertical_flip: Probability of a flip upside down.
        three_augment: Whether each image is made grey, solarised or blurred.
        jitter: How much brightness, contrast and saturation change.
        mixup: Parameter of mixup's Beta distribution, 0: no mixup; this and the next three are
            fields of `tasks.vision.Mixing`.
        cutmix: Parameter of CutMix's Beta distribution; 0: no CutMix.
        mix_probability: Share of the batches that are mixed.
        smoothing: Share of a label that is spread over all classes.
        mixed_labels: How much each label of a mixed image counts: its "share" of the image, or the
            "whole", as in DeiT III with binary cross entropy.
        keep: Share of the shorter side that is kept where accuracy is measured.
        threads: Number of batches that are read at once.
        processes: Number of processes that read, each with so many threads; 0: this process reads.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from tasks.vision import ImagesTask
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for place in ("train/cat", "train/dog", "val/cat", "val/dog"):
        ...         Path(folder, place).mkdir(parents=True)
        ...         Image.new("RGB", (6, 5)).save(Path(folder, place, "0.png"))
        ...     task = ImagesTask(folder)
        ...     print(task.labels, task.chance, len(task.train), len(task.val))
        ('cat', 'dog') 0.5 2 2
    """

    data: str = ""
    format: Literal["folder", "cifar10", "cifar100"] = "folder"
    crop: Literal["resized", "padded", "center"] = "resized"
    area: float = 0.08
    flip: float = 0.5
    vertical_flip: float = 0.0
    three_augment: bool = False
    jitter: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0
    smoothing: float = 0.0
    mixed_labels: Literal["share", "whole"] = "share"
    keep: float = 1.0
    threads: int = 4
    processes: int = 0

    name: ClassVar[str] = "images"

    def __post_init__(self) -> None:
        if not isinstance(self.data, str) or not self.data:
            raise TypeError(f"data must be the folder of a data set, data=PATH; got {self.data!r}")
        check_choice("format", self.format, ("folder", *_CIFAR))
        check_choice("mixed_labels", self.mixed_labels, ("share", "whole"))
        check_at_least("threads", self.threads, 1)
        check_at_least("processes", self.processes, 0)
        if self.mixed_labels == "whole" and self.smoothing:
            raise ValueError(
                "smoothing: expected 0 with mixed_labels=whole, which makes every label of a mixed "
                "image whole; training.label_smoothing smooths those"
            )
        self.augmentation(1)
        self.measured(1)
        self.mixing(2)

    @property
    def train(self) -> ImageSource:
        """The images to train on; their names are read once."""
        return _read(self.data, self.format)[0]

    @property
    def val(self) -> ImageSource:
        """The images to measure on."""
        return _read(self.data, self.format)[1]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes."""
        return self.train.classes

    @property
    def chance(self) -> float:
        """The accuracy of a guess among all classes."""
        return 1 / len(self.labels)

    def augmentation(self, size: int) -> Augmentation:
        """What is done to an image to train on."""
        return Augmentation(
            size,
            crop=self.crop,
            area=self.area,
            flip=self.flip,
            vertical_flip=self.vertical_flip,
            three_augment=self.three_augment,
            jitter=self.jitter,
        )

    def measured(self, size: int) -> Augmentation:
        """What is done to an image to measure on."""
        return Augmentation(size, crop="center", keep=self.keep, flip=0)

    def mixing(self, classes: int) -> Mixing | None:
        """What is done to a batch to train on; None: nothing."""
        mixing = Mixing(
            classes,
            mixup=self.mixup,
            cutmix=self.cutmix,
            probability=self.mix_probability,
            smoothing=self.smoothing,
        )
        return mixing if self.mixup or self.cutmix or self.smoothing else None

    def training_batches(self, seed: int, batch: int, size: int, start: int) -> BatchIterator:
        """Batches to train on without end, from batch `start` on."""
        return self._batches(
            self.train,
            batch,
            transform=self.augmentation(size),
            mixing=self.mixing(len(self.labels)),
            seed=seed,
            start=start,
        )

    def measured_batches(self, batch: int, size: int, start: int) -> BatchIterator:
        """The images to measure on in batches, each once, the last batch what is left."""
        return self._batches(
            self.val,
            batch,
            transform=self.measured(size),
            shuffle=False,
            epochs=1,
            drop_remainder=False,
            start=start,
        )

    def _batches(self, source: ImageSource, batch: int, **options: Any) -> BatchIterator:
        read_at_once = {"threads": self.threads, "processes": self.processes}
        return batches(source, batch, prefetch=self.threads, **read_at_once, **options)
