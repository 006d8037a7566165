"""Sequences of symbols: the sequence model, lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flax import nnx
from jax import Array

import tasks
from experiments.presets import LENGTHS
from experiments.problems.base import Drawn, check_kind
from experiments.rules import choose
from plstm_seq.evaluation import Axis
from plstm_seq.models import ModelConfig, SequenceModel, SequenceModelConfig
from plstm_seq.training import Sample, TrainingConfig


@dataclass(frozen=True)
class SequenceProblem(Drawn):
    """A task of `tasks.get`."""

    task: tasks.Task

    @property
    def axis(self) -> Axis:
        """What grows from training to evaluation: the length of the sequence."""
        return "length"

    @property
    def sample(self) -> Sample:
        """Sequences of lengths up to one."""
        return self.task.sample

    def draw(self, key: Array, batch: int, size: int) -> Any:
        """Sequences of one length."""
        return self.task.sample(key, batch, size)

    def check_model(self, config: Any) -> None:
        """Takes sequence models."""
        check_kind(config, SequenceModelConfig, "sequences")

    def make_model(self, config: Any, rngs: nnx.Rngs, dtype: str | None = None) -> nnx.Module:
        """A `SequenceModel` over the task's symbols."""
        self.check_model(config)
        return SequenceModel(
            len(self.task.vocabulary),
            config,
            output_size=len(self.task.labels),
            dtype=dtype,
            rngs=rngs,
        )

    def recommended_model(self) -> ModelConfig:
        """See `experiments.rules`."""
        return choose(self.task).recipe.model()

    def recommended_training(self) -> TrainingConfig:
        """See `experiments.rules`."""
        return choose(self.task).recipe.training()

    def recommended_sizes(self) -> tuple[int, ...]:
        """Up to a hundred times the lengths of training."""
        return LENGTHS
