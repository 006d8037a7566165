"""The model of the published protocols on sequences, and configs that train for fewer steps.

The default config of a task is not made here, but by the problem of its kind: see
`experiments.problems`.
"""

from dataclasses import replace

from experiments.config import ExperimentConfig
from plstm_seq.layers.initializers import Constant, FanIn
from plstm_seq.layers.transition import Factorized
from plstm_seq.models import SequenceModelConfig
from plstm_seq.models.sequence import state_tracking
from plstm_seq.training import ByAccuracy, Sizes, Staged, TrainingConfig


def protocol_model() -> SequenceModelConfig:
    """Returns the pLSTM of the published protocols on sequences, which is the same for all tasks.

    It is the state-tracking preset with the published transitions, whose in- and out-projections
    keep the scale of their inputs at the start. The defaults of `train` follow from the task
    instead: see `experiments.problems.sequences`.
    """
    transition = Factorized(
        dim=2,
        eigenvalue_bias_init=Constant(0.4),
        eigenvalue_weight_init=FanIn(0.3),
        inproj_weight_init=FanIn(),
        outproj_weight_init=FanIn(),
    )
    return state_tracking(transition)


# Steps and batch size of a run that only shows that everything works.
QUICK_STEPS, QUICK_BATCH = 50, 32


def shortened(config: ExperimentConfig) -> ExperimentConfig:
    """Shortens a config to about 50 steps of small batches and few test sequences."""
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
    """Multiplies the steps of training, warm-up and stages by `scale`.

    What had at least one step keeps at least one.
    """
    curriculum, optimizer = training.curriculum, training.optimizer
    if isinstance(curriculum, Staged | ByAccuracy | Sizes):
        stages = tuple((length, _scaled(steps, scale)) for length, steps in curriculum.stages)
        curriculum = replace(curriculum, stages=stages)
    least = curriculum.least_steps
    if isinstance(curriculum, ByAccuracy):  # the steps have to suffice to reach the last stage
        least = sum(steps for _, steps in curriculum.stages)
    return replace(
        training,
        steps=max(_scaled(training.steps, scale), least),
        optimizer=replace(optimizer, warmup_steps=_scaled(optimizer.warmup_steps, scale)),
        curriculum=curriculum,
    )


def _scaled(steps: int, scale: float) -> int:
    return max(round(steps * scale), min(steps, 1))
