"""Images of classes from files: the vision model, sizes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx
from jax import Array

from experiments.presets import recommended_images_model, recommended_images_training
from experiments.problems.base import check_kind
from experiments.problems.labelled import Labelled
from plstm_seq.evaluation import Axis
from plstm_seq.models import ModelConfig, VisionModel, VisionModelConfig
from plstm_seq.training import TrainingConfig
from plstm_seq.training.loop import Validate
from plstm_seq.training.step import OF_LABELS, Loss
from tasks.base import check_at_least, check_choice
from tasks.vision import (
    Augmentation,
    BatchIterator,
    Cifar,
    ImageBatch,
    ImageFolder,
    ImageSource,
    Mixing,
    batches,
)

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

    *Rule.* What the folders or files say: a class for each image.

    *Sizes.* Images are brought to the size that the curriculum says, and measured at any.

    Args:
        data: a folder that holds `train/` and `val/`, each with a folder for each class; or, of
            CIFAR, one with the files `.bin`.
        format: "folder", "cifar10" or "cifar100".
        crop: how a training image is cut, see `tasks.vision.Augmentation`; so are the next five.
        area: the smallest share of an image that is cut out.
        flip: probability of a flip from left to right.
        vertical_flip: and upside down.
        three_augment: grey, solarised or blurred.
        jitter: of colours.
        mixup: see `tasks.vision.Mixing`; so are the next three.
        cutmix: parameter of its Beta distribution; 0: none.
        mix_probability: share of the batches that are mixed.
        smoothing: share of a label that is spread over all.
        mixed_labels: what a label of a mixed image counts: "share" of it, or "whole", as DeiT III
            has it with binary cross entropy.
        keep: what is kept of the shorter side where accuracy is measured.
        threads: batches read at once.
        processes: processes that read, each with so many threads; 0: this one alone.
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

    name = "images"

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
        return batches(
            self.train,
            batch,
            transform=self.augmentation(size),
            mixing=self.mixing(len(self.labels)),
            seed=seed,
            start=start,
            threads=self.threads,
            processes=self.processes,
            prefetch=self.threads,
        )

    def measured_batches(self, batch: int, size: int, start: int) -> BatchIterator:
        """The images to measure on in batches, each once, the last batch what is left."""
        return batches(
            self.val,
            batch,
            transform=self.measured(size),
            shuffle=False,
            epochs=1,
            drop_remainder=False,
            start=start,
            threads=self.threads,
            processes=self.processes,
            prefetch=self.threads,
        )


class _Reader:
    """Batches by number; one after another they are read ahead, any other starts anew."""

    def __init__(self) -> None:
        self._source: Any = None
        self._next = 0
        self._batches: BatchIterator | None = None

    def read(self, start: Callable[[int], BatchIterator], number: int) -> ImageBatch:
        """The batch of a number, where `start(number)` iterates from there."""
        if (start, number) != (self._source, self._next):
            self.close()
        if self._batches is None:
            self._batches = start(number)
        self._source, self._next = start, number + 1
        try:
            return next(self._batches)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of what was read ahead."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None


@dataclass(frozen=True)
class _TrainingBatches:
    task: ImagesTask
    seed: int
    batch: int
    size: int

    def __call__(self, start: int) -> BatchIterator:
        return self.task.training_batches(self.seed, self.batch, self.size, start)


@dataclass(frozen=True)
class _MeasuredBatches:
    task: ImagesTask
    batch: int
    size: int

    def __call__(self, start: int) -> BatchIterator:
        return self.task.measured_batches(self.batch, self.size, start)


# One of each, so that no more is in memory than is read ahead for one training.
_TRAINING, _MEASURED = _Reader(), _Reader()


@dataclass(frozen=True)
class ImageSample:
    """Goes through the training images, in a new order every epoch."""

    task: ImagesTask

    def on_host(self, seed: Sequence[int], step: int, batch: int, size: int) -> Labelled:
        """The batch of a training step."""
        word = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
        start = _TrainingBatches(self.task, word, batch, size)
        images, targets = _TRAINING.read(start, step)
        if targets.ndim == 2 and self.task.mixed_labels == "whole":
            targets = (targets > 0).astype(targets.dtype)
        return Labelled(images, targets, np.ones(batch, bool))


@dataclass(frozen=True)
class MeasuredImages:
    """The images to measure on, in order or at random."""

    task: ImagesTask

    def at(self, start: int, batch: int, size: int) -> Labelled:
        """The images `start .. start + batch`, filled up with unscored ones behind the last."""
        number, within = divmod(start, batch)
        if within:
            raise ValueError(f"start must be a multiple of batch={batch}, got {start}")
        images, targets = _MEASURED.read(_MeasuredBatches(self.task, batch, size), number)
        missing = batch - len(images)
        if missing:
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
            targets = np.concatenate([targets, np.zeros(missing, targets.dtype)])
        return Labelled(images, targets, np.arange(batch) < batch - missing)

    def __call__(self, key: Array, batch: int, size: int) -> Labelled:
        """Images drawn at random."""
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
        change, source = self.task.measured(size), self.task.val
        drawn = [change(source[int(i)], random) for i in random.integers(len(source), size=batch)]
        images, targets = zip(*drawn, strict=True)
        return Labelled(np.stack(images), np.array(targets, np.int32), np.ones(batch, bool))


@dataclass(frozen=True)
class ImagesProblem:
    """A data set of images."""

    task: ImagesTask

    @property
    def axis(self) -> Axis:
        """What grows from training to evaluation: the size of the images."""
        return "size"

    @property
    def sample(self) -> ImageSample:
        """The training images."""
        return ImageSample(self.task)

    @property
    def draw(self) -> MeasuredImages:
        """The images to measure on."""
        return MeasuredImages(self.task)

    @property
    def examples(self) -> int:
        """The images to measure on."""
        return len(self.task.val)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The losses that training may use, the first by default; here those of labels."""
        return OF_LABELS

    def check_model(self, config: Any) -> None:
        """Refuses also a model that labels every cell."""
        check_kind(config, VisionModelConfig, "images and grids")
        if config.pooling == "cells":
            raise ValueError("model.pooling: got 'cells', expected corners or another for images")

    def make_model(self, config: Any, rngs: nnx.Rngs, dtype: str | None = None) -> nnx.Module:
        """A `VisionModel` over the images."""
        self.check_model(config)
        return VisionModel(config, output_size=len(self.task.labels), dtype=dtype, rngs=rngs)

    @property
    def _side(self) -> int:
        return 192 if self.task.format == "folder" else 32

    def recommended_model(self) -> ModelConfig:
        """See `experiments.presets`."""
        return recommended_images_model(self._side)

    def recommended_training(self) -> TrainingConfig:
        """See `experiments.presets`."""
        return recommended_images_training(len(self.task.train), self._side)

    def recommended_sizes(self) -> tuple[int, ...]:
        """That of training."""
        return (self._side,)

    def release(self) -> None:
        """Ends also the processes that read."""
        _TRAINING.close()
        _MEASURED.close()

    def validate(self, batch: int, size: int) -> Validate:
        """Measures a model on all images to measure on."""
        draw, count = self.draw, self.examples
        batch = min(batch, count)

        def measure(model: Any) -> Mapping[str, float]:
            graphdef, state = nnx.split(model)
            right = 0
            for start in range(0, count, batch):
                given = draw.at(start, batch, size)
                predicted = np.asarray(_predicted(graphdef, state, given.inputs))
                right += int(((predicted == given.targets) & given.mask).sum())
            return {"accuracy": right / count}

        return measure


@jax.jit(static_argnums=0)
def _predicted(graphdef: Any, state: Any, inputs: Any) -> Array:
    return nnx.merge(graphdef, state)(inputs).argmax(-1)
