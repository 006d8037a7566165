"""Grids of symbols and images, drawn or read from files; the vision model learns them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

import tasks
from experiments.problems.base import ModelBatch, Problem, by_epochs, check_pooling, outputs_of
from plstm_seq.layers.transition import Factorized
from plstm_seq.models import ModelConfig, VisionModel, VisionModelConfig
from plstm_seq.models.vision import published_mixer
from plstm_seq.training import HostSample, OptimizerConfig, Sample, Sizes, TrainingConfig
from plstm_seq.training.loop import Validate
from tasks.options import check
from tasks.vision import BatchIterator, ImageBatch, ImagesTask

# The training size of the published arrow-pointing protocol, and twice that size.
_IMAGE_SIZES = (192, 384)
_SMALL = VisionModelConfig(width=64, num_blocks=4, mixer=published_mixer(4))


@dataclass(frozen=True)
class GridSample:
    """Draws squares of one size, on the device."""

    task: tasks.ImageTask | tasks.GridTask

    def __call__(
        self, key: Array, batch: int, length: int, *, lengths: ArrayLike | None = None
    ) -> ModelBatch:
        """Draws squares of `length` rows and columns; `lengths` must be this length, too."""
        del lengths
        drawn = self.task.sample(key, batch, length)
        if isinstance(drawn, ImageBatch):
            return ModelBatch(drawn.images, drawn.targets, jnp.ones((batch,), bool))
        return ModelBatch(*drawn)


@dataclass(frozen=True)
class GridProblem(Problem):
    """A task of `tasks.get_grid`."""

    config = VisionModelConfig
    reads = "images and grids"

    @property
    def sample(self) -> Sample | HostSample:
        """Draws squares of one size."""
        return GridSample(self.task)

    @property
    def _symbols(self) -> tuple[str, ...] | None:
        """The symbols; None: images are read."""
        return getattr(self.task, "vocabulary", None)

    def check_model(self, config: Any) -> None:
        """Also raises an error if the pooling does not suit the labels: of cells or of the whole.

        Raises:
            ValueError: the model does not suit the task.
        """
        super().check_model(config)
        each = self._symbols is not None
        check_pooling(config, self.task, "cells", "corners or another", labels_each=each)

    def _model(self, config: Any, **options: Any) -> nnx.Module:
        vocab_size = None if self._symbols is None else len(self._symbols)
        return VisionModel(config, vocab_size=vocab_size, **options)

    def recommended_model(self) -> ModelConfig:
        """Returns a small model of the published kind; it labels every cell of grids of symbols."""
        if self._symbols is None:
            return _SMALL
        mixer = dataclasses.replace(published_mixer(4), transition=Factorized(dim=2))
        return VisionModelConfig(
            width=64, num_blocks=2, mode="D", mixer=mixer, position="none", pooling="cells"
        )

    def recommended_training(self) -> TrainingConfig:
        """Returns a training on images of the published size, or on grids of side 4, then 8."""
        stages = ((192, 2000),) if self._symbols is None else ((4, 500), (8, 1500))
        return TrainingConfig(
            steps=2000,
            optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100, weight_decay=0.05),
            curriculum=Sizes(stages),
        )

    def recommended_sizes(self) -> tuple[int, ...]:
        """Returns the sizes of the published protocol, or up to eight times those of training."""
        return _IMAGE_SIZES if self._symbols is None else (4, 8, 16, 32, 64)


class _Reader:
    """Reads numbered batches; in order they are read ahead, any other number starts anew."""

    def __init__(self) -> None:
        self._next: Any = None
        self._batches: BatchIterator | None = None

    def read(
        self, batches: Callable[..., BatchIterator], of: tuple[Any, ...], number: int
    ) -> ImageBatch[np.ndarray]:
        """Returns the batch of this number; `batches(*of, number)` iterates from there."""
        if (batches, of, number) != self._next:
            self.close()
        if self._batches is None:
            self._batches = batches(*of, number)
        self._next = (batches, of, number + 1)
        try:
            return next(self._batches)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Frees what was read ahead."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None


# There is one reader of each kind, so that memory holds what one training reads ahead, not more.
_TRAINING, _MEASURED = _Reader(), _Reader()


@dataclass(frozen=True)
class ImageSample:
    """Goes through the training images, in a new order every epoch."""

    task: ImagesTask

    def on_host(self, seed: Sequence[int], step: int, batch: int, size: int) -> ModelBatch:
        """Returns the batch of a training step."""
        word = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
        images, targets = _TRAINING.read(
            ImagesTask.training_batches, (self.task, word, batch, size), step
        )
        if targets.ndim == 2 and self.task.mixed_labels == "whole":
            targets = (targets > 0).astype(targets.dtype)
        return ModelBatch(images, targets, np.ones(batch, bool))


@dataclass(frozen=True)
class MeasuredImages:
    """The images to evaluate on, in order or at random."""

    task: ImagesTask

    def at(self, start: int, batch: int, size: int) -> ModelBatch:
        """Returns a batch of images from `start` on; entries after the last image do not count."""
        number, within = divmod(start, batch)
        check(not within, "start", start, f"a multiple of batch = {batch}")
        images, targets = _MEASURED.read(
            ImagesTask.measured_batches, (self.task, batch, size), number
        )
        missing = batch - len(images)
        if missing:
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
            targets = np.concatenate([targets, np.zeros(missing, targets.dtype)])
        return ModelBatch(images, targets, np.arange(batch) < batch - missing)

    def __call__(self, key: Array, batch: int, size: int) -> ModelBatch:
        """Draws images at random."""
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
        change, source = self.task.measured(size), self.task.val
        drawn = [change(source[int(i)], random) for i in random.integers(len(source), size=batch)]
        images, targets = zip(*drawn, strict=True)
        return ModelBatch(np.stack(images), np.array(targets, np.int32), np.ones(batch, bool))


@dataclass(frozen=True)
class ImagesProblem(GridProblem):
    """A data set of images."""

    task: ImagesTask

    @property
    def sample(self) -> ImageSample:
        """The training images."""
        return ImageSample(self.task)

    @property
    def draw(self) -> MeasuredImages:
        """The images to evaluate on."""
        return MeasuredImages(self.task)

    @property
    def examples(self) -> int:
        """The number of images to evaluate on."""
        return len(self.task.val)

    @property
    def _side(self) -> int:
        return 192 if self.task.format == "folder" else 32

    def recommended_model(self) -> ModelConfig:
        """Returns a small model of the published kind.

        Patches have 16 pixels a side; in small images fewer, so that there are 8 x 8 cells.
        """
        patch = min(16, self._side // 8)
        grid = (self._side // patch, self._side // patch)
        return dataclasses.replace(_SMALL, patch_size=patch, position_grid=grid, pixels="imagenet")

    def recommended_training(self) -> TrainingConfig:
        """Returns a training of 90 epochs in batches of 256 images, with an evaluation after each.

        For the whole recipe of DeiT III see `experiments.recipes`.
        """
        optimizer = OptimizerConfig(learning_rate=1e-3, weight_decay=0.05, b2=0.999)
        images = len(self.task.train)
        return by_epochs(images, self._side, epochs=90, batch_size=256, optimizer=optimizer)

    def recommended_sizes(self) -> tuple[int, ...]:
        """Returns the size of training."""
        return (self._side,)

    def release(self) -> None:
        """Also ends the processes that read images."""
        _TRAINING.close()
        _MEASURED.close()

    def validate(self, batch: int, size: int) -> Validate:
        """Returns a function that evaluates a model on all images to evaluate on."""
        draw, count = self.draw, self.examples
        batch = min(batch, count)

        def measure(model: Any) -> Mapping[str, float]:
            graphdef, state = nnx.split(model)
            right = 0
            for start in range(0, count, batch):
                given = draw.at(start, batch, size)
                predicted = np.asarray(outputs_of(graphdef, state, given.inputs).argmax(-1))
                right += int(((predicted == given.targets) & given.mask).sum())
            return {"accuracy": right / count}

        return measure
