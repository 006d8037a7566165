"""The model of the published protocols on sequences, and configs that train for fewer steps.

What `train` uses where nothing else is said is with each kind of task: see `experiments.problems`.
"""

from dataclasses import replace

from experiments.config import ExperimentConfig
from plstm_seq.layers.initializers import Constant, FanIn
from plstm_seq.layers.transition import Factorized
from plstm_seq.models import SequenceModelConfig
from plstm_seq.models.sequence import state_tracking
from plstm_seq.training import ByAccuracy, Sizes, Staged, TrainingConfig


def protocol_model() -> SequenceModelConfig:
    """The pLSTM of the published protocols on sequences, one for all their tasks.

    The state-tracking preset, with the published transitions at unit scale in the input. What
    `train` uses instead follows from the task: see `experiments.problems.sequences`.
    """
    transition = Factorized(
        dim=2,
        eigenvalue_bias_init=Constant(0.4),
        eigenvalue_weight_init=FanIn(0.3),
        inproj_weight_init=FanIn(),
        outproj_weight_init=FanIn(),
    )
    return state_tracking(transition)


# Of a run that only shows that everything works.
QUICK_STEPS, QUICK_BATCH = 50, 32


def shortened(config: ExperimentConfig) -> ExperimentConfig:
    """The config with some 50 steps of small batches and few test sequences, to see it run."""
    training = scaled_training(config.training, min(1.0, QUICK_STEPS / config.training.steps))
    training = replace(
        training,
        batch_size=min(training.batch_size, QUICK_BATCH),
        steps_per_dispatch=min(training.steps_per_dispatch, 10),
        validate_every=min(training.validate_every, QUICK_STEPS),
    )
    evaluation = config.evaluation
    lengths = [length for length in evaluation.lengths if length <= 8 * training.curriculum.longest]
    evaluation = replace(
        evaluation,
        lengths=tuple(lengths) or evaluation.lengths[:1],
        num_sequences=min(evaluation.num_sequences, 2 * QUICK_BATCH),
        mixture_sequences=min(evaluation.mixture_sequences, 2 * QUICK_BATCH),
    )
    return replace(config, training=training, evaluation=evaluation)


def scaled_training(training: TrainingConfig, scale: float) -> TrainingConfig:
    """Training with steps, warm-up and stages multiplied, each at least one step if it was any."""
    curriculum, optimizer = training.curriculum, training.optimizer
    if isinstance(curriculum, Staged | ByAccuracy | Sizes):
        stages = tuple((length, _scaled(steps, scale)) for length, steps in curriculum.stages)
        curriculum = replace(curriculum, stages=stages)
    least = curriculum.least_steps
    if isinstance(curriculum, ByAccuracy):  # so that the last stage is reached
        least = sum(steps for _, steps in curriculum.stages)
    return replace(
        training,
        steps=max(_scaled(training.steps, scale), least),
        optimizer=replace(optimizer, warmup_steps=_scaled(optimizer.warmup_steps, scale)),
        curriculum=curriculum,
    )


def _scaled(steps: int, scale: float) -> int:
    return max(round(steps * scale), min(steps, 1))
