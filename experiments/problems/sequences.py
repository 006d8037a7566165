"""Sequences of symbols: the sequence model, lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flax import nnx

import tasks
from experiments.presets import LENGTHS
from experiments.problems.base import Problem
from experiments.rules import choose
from plstm_seq.evaluation import Axis
from plstm_seq.models import ModelConfig, SequenceModel, SequenceModelConfig
from plstm_seq.training import Sample, TrainingConfig


@dataclass(frozen=True)
class SequenceProblem(Problem):
    """A task of `tasks.get`."""

    task: tasks.Task

    config = SequenceModelConfig
    reads = "sequences"

    @property
    def axis(self) -> Axis:
        """What grows from training to evaluation: the length of the sequence."""
        return "length"

    @property
    def sample(self) -> Sample:
        """Sequences of lengths up to one."""
        return self.task.sample

    def _model(self, config: Any, **options: Any) -> nnx.Module:
        return SequenceModel(len(self.task.vocabulary), config, **options)

    def recommended_model(self) -> ModelConfig:
        """See `experiments.rules`."""
        return choose(self.task).recipe.model()

    def recommended_training(self) -> TrainingConfig:
        """See `experiments.rules`."""
        return choose(self.task).recipe.training()

    def recommended_sizes(self) -> tuple[int, ...]:
        """Up to a hundred times the lengths of training."""
        return LENGTHS
