"""The model and the training that `train` uses for a task where nothing else is said."""

import tasks
from plstm_seq.layers.initializers import Constant, FanIn
from plstm_seq.layers.transition import Factorized
from plstm_seq.models import SequenceModelConfig
from plstm_seq.models.presets import state_tracking
from plstm_seq.training import OptimizerConfig, Staged, TrainingConfig


def recommended_model(task: tasks.Task) -> SequenceModelConfig:
    """The state-tracking preset, with the published transitions at unit scale in the input."""
    del task
    transition = Factorized(
        dim=2,
        eigenvalue_bias_init=Constant(0.4),
        eigenvalue_weight_init=FanIn(0.3),
        inproj_weight_init=FanIn(),
        outproj_weight_init=FanIn(),
    )
    return state_tracking(transition)


def recommended_training(task: tasks.Task) -> TrainingConfig:
    """Lengths that grow from 4 to 40."""
    del task
    return TrainingConfig(
        steps=800,
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=50),
        curriculum=Staged(stages=((4, 200), (8, 100), (16, 100), (40, 400)), smallest_bucket=40),
    )
