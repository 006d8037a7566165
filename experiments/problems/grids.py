"""Images and grids of symbols: the vision model, sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

import tasks
from experiments.presets import recommended_grid_model, recommended_grid_training
from experiments.problems.base import Drawn, check_kind
from experiments.problems.labelled import Labelled
from plstm_seq.evaluation import Axis
from plstm_seq.models import ModelConfig, VisionModel, VisionModelConfig
from plstm_seq.training import TrainingConfig
from tasks.grid import ImageBatch

# Of the published arrow-pointing protocol, and twice that.
_IMAGE_SIZES = (192, 384)


@dataclass(frozen=True)
class GridSample:
    """Draws squares of one size, on the device."""

    task: tasks.ImageTask | tasks.GridTask

    def __call__(
        self, key: Array, batch: int, length: int, *, lengths: ArrayLike | None = None
    ) -> Labelled:
        """Draw squares of `length` rows and columns; `lengths` have to say the same."""
        del lengths
        drawn = self.task.sample(key, batch, length)
        if isinstance(drawn, ImageBatch):
            return Labelled(drawn.images, drawn.targets, jnp.ones((batch,), bool))
        return Labelled(*drawn)


@dataclass(frozen=True)
class GridProblem(Drawn):
    """A task of `tasks.get_grid`."""

    task: tasks.ImageTask | tasks.GridTask

    @property
    def axis(self) -> Axis:
        """What grows from training to evaluation: the size of the grid."""
        return "size"

    @property
    def sample(self) -> GridSample:
        """Squares of one size."""
        return GridSample(self.task)

    @property
    def draw(self) -> GridSample:
        """Squares of one size."""
        return self.sample

    @property
    def _symbols(self) -> tuple[str, ...] | None:
        """None: images are read."""
        return getattr(self.task, "vocabulary", None)

    def check_model(self, config: Any) -> None:
        """Refuses also a model that pools where every cell has a label, or the reverse."""
        check_kind(config, VisionModelConfig, "images and grids")
        symbols = self._symbols
        if (config.pooling == "cells") != (symbols is not None):
            expected = "cells" if symbols is not None else "corners or another"
            raise ValueError(
                f"model.pooling: got {config.pooling!r}, expected {expected} for {self.task.name}"
            )

    def make_model(self, config: Any, rngs: nnx.Rngs, dtype: str | None = None) -> nnx.Module:
        """A `VisionModel` over the task's images or symbols."""
        self.check_model(config)
        symbols = self._symbols
        vocab_size = None if symbols is None else len(symbols)
        return VisionModel(
            config,
            output_size=len(self.task.labels),
            vocab_size=vocab_size,
            dtype=dtype,
            rngs=rngs,
        )

    def recommended_model(self) -> ModelConfig:
        """See `experiments.presets`."""
        return recommended_grid_model(images=self._symbols is None)

    def recommended_training(self) -> TrainingConfig:
        """See `experiments.presets`."""
        return recommended_grid_training(images=self._symbols is None)

    def recommended_sizes(self) -> tuple[int, ...]:
        """Those of the published protocol, or squares to eight times those of training."""
        return _IMAGE_SIZES if self._symbols is None else (4, 8, 16, 32, 64)
