"""The models and trainings for grids, images and graphs where nothing else is said; shorter ones.

For sequences see `experiments.rules`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from plstm_seq.layers.initializers import Constant, FanIn
from plstm_seq.layers.transition import Factorized
from plstm_seq.models import GraphModelConfig, SequenceModelConfig, VisionModelConfig
from plstm_seq.models.sequence import state_tracking
from plstm_seq.models.vision import published_mixer
from plstm_seq.training import ByAccuracy, OptimizerConfig, Sizes, Staged, TrainingConfig

if TYPE_CHECKING:
    from experiments.config import ExperimentConfig  # which takes its defaults from here

# Steps between checkpoints at least: epochs of small data sets are a few.
_LEAST_APART = 500


def protocol_model() -> SequenceModelConfig:
    """The pLSTM of the published protocols on sequences, one for all their tasks.

    The state-tracking preset, with the published transitions at unit scale in the input. What
    `train` uses instead follows from the task: see `experiments.rules`.
    """
    transition = Factorized(
        dim=2,
        eigenvalue_bias_init=Constant(0.4),
        eigenvalue_weight_init=FanIn(0.3),
        inproj_weight_init=FanIn(),
        outproj_weight_init=FanIn(),
    )
    return state_tracking(transition)


def recommended_grid_model(*, images: bool) -> VisionModelConfig:
    """A small model of the published kind; of symbols every one is a cell with a label."""
    if images:
        return VisionModelConfig(width=64, num_blocks=4, mixer=published_mixer(4))
    mixer = replace(published_mixer(4), transition=Factorized(dim=2))
    return VisionModelConfig(
        width=64, num_blocks=2, mode="D", mixer=mixer, position="none", pooling="cells"
    )


def recommended_grid_training(*, images: bool) -> TrainingConfig:
    """Images of the published protocol's size; grids of 4, then 8 cells a side."""
    stages = ((192, 2000),) if images else ((4, 500), (8, 1500))
    return TrainingConfig(
        steps=2000,
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100, weight_decay=0.05),
        curriculum=Sizes(stages),
    )


def recommended_graph_model(*, per_node: bool) -> GraphModelConfig:
    """A small model of the published kind; what every node is labelled by is read at every node."""
    return GraphModelConfig(pooling="node" if per_node else "mean")


def recommended_graph_training(*, depth: bool) -> TrainingConfig:
    """Graphs of depth 2, then 4; or of 8, then 16 nodes."""
    return TrainingConfig(
        steps=2000,
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100),
        curriculum=Sizes(((2, 500), (4, 1500)) if depth else ((8, 500), (16, 1500))),
    )


def recommended_tu_training(graphs: int) -> TrainingConfig:
    """The published training on a TU data set (arXiv 2506.11997, table 3), for so many graphs.

    100 epochs in batches of 64, AdamW at 1e-3 with a warm-up of 5 epochs and a cosine.
    """
    return _by_epochs(
        graphs, 1, epochs=100, batch_size=64, optimizer=OptimizerConfig(learning_rate=1e-3)
    )


def recommended_images_model(side: int) -> VisionModelConfig:
    """A small model of the published kind, for images with so many pixels a side.

    Patches of 16 pixels; of small images, so many that there are 8 x 8 cells.
    """
    patch = min(16, side // 8)
    grid = (side // patch, side // patch)
    small = recommended_grid_model(images=True)
    return replace(small, patch_size=patch, position_grid=grid, pixels="imagenet")


def recommended_images_training(images: int, side: int) -> TrainingConfig:
    """90 epochs over so many images, in batches of 256, measured after each.

    For the whole recipe of DeiT III see `experiments.recipes`.
    """
    optimizer = OptimizerConfig(learning_rate=1e-3, weight_decay=0.05, b2=0.999)
    return _by_epochs(images, side, epochs=90, batch_size=256, optimizer=optimizer)


def _by_epochs(
    examples: int, size: int, *, epochs: int, batch_size: int, optimizer: OptimizerConfig
) -> TrainingConfig:
    """Epochs of a data set as steps; five warm up, and each ends with a measurement."""
    epoch = -(-examples // batch_size)
    steps = epochs * epoch
    return TrainingConfig(
        steps=steps,
        batch_size=batch_size,
        validate_every=epoch,
        checkpoint_every=max(epoch, _LEAST_APART),
        optimizer=replace(optimizer, warmup_steps=5 * epoch),
        curriculum=Sizes(((size, steps),)),
        solved=None,
    )


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
