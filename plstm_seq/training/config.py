"""How long, on which lengths and with which optimizer to train."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, get_args

from plstm_seq.training.curriculum import ByAccuracy, Curriculum, Uniform
from plstm_seq.training.optimizer import OptimizerConfig
from plstm_seq.training.step import OF_NUMBERS, Loss

ACCURACIES = ("token_accuracy", "sequence_accuracy")
VALIDATION = "validation_"


@dataclass(frozen=True)
class Solved:
    """When to stop early: `metric` reaches `threshold` in `checks` records in a row.

    Records count only once the curriculum draws its longest lengths. Every batch is new, so the
    training accuracy (`sequence_accuracy`, mean over the steps of one dispatch) is a fair estimate
    on the training lengths. With a `validate` callable, `metric` may be one of its names behind
    `validation_`.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    metric: str = "sequence_accuracy"
    threshold: float = 0.999
    checks: int = 3

    def __post_init__(self):
        if self.metric not in ACCURACIES and not self.metric.startswith(VALIDATION):
            raise ValueError(
                f"metric must be one of {ACCURACIES} or start with {VALIDATION!r}, "
                f"got {self.metric!r}"
            )
        if self.checks < 1:
            raise ValueError(f"checks must be >= 1, got {self.checks}")


@dataclass(frozen=True)
class TrainingConfig:
    """How long and on what to train.

    Attributes:
        steps: optimizer steps in all; the cosine ends here. With a curriculum by accuracy, the most
            that there may be.
        batch_size: sequences a step.
        steps_per_dispatch: steps run by the device before the host looks at their metrics; one
            record is written for each such group.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: how many of the latest to keep, 2 or more.
        validate_every: steps between calls of `validate`, if one is given to `fit`.
        optimizer: AdamW or LAMB, and its schedule.
        curriculum: the lengths.
        max_tokens: symbols that a batch may have, padding included: where `batch_size` sequences
            of the padded length have more, fewer are drawn, but at least one. None: any number.
        label_smoothing: share of each label that the loss spreads evenly over all labels. The loss
            then is smallest at finite logits, the same for all states of a label, and keeps pulling
            long after every answer is right (`docs/state_tracking.md`).
        loss: "cross_entropy"; "binary_cross_entropy", each label a question of its own; or
            "squared_error" or "absolute_error" where numbers are predicted, and not labels.
        solved: when to stop early; None trains all steps.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    steps: int = 2000
    batch_size: int = 64
    steps_per_dispatch: int = 50
    checkpoint_every: int = 500
    keep_checkpoints: int = 3
    validate_every: int = 500
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    curriculum: Curriculum = field(default_factory=Uniform)
    max_tokens: int | None = None
    label_smoothing: float = 0.0
    loss: Loss = "cross_entropy"
    solved: Solved | None = field(default_factory=Solved)

    def __post_init__(self):
        sizes = ("steps", "batch_size", "steps_per_dispatch", "checkpoint_every", "validate_every")
        for name, least in (*((size, 1) for size in sizes), ("keep_checkpoints", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}, got {getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")
        if self.loss not in get_args(Loss):
            raise ValueError(f"loss must be one of {get_args(Loss)}, got {self.loss!r}")
        if self.label_smoothing and self.loss in OF_NUMBERS:
            raise ValueError(
                f"label_smoothing must be 0 with loss {self.loss!r}, got {self.label_smoothing}"
            )
        if self.solved is not None and self.loss in OF_NUMBERS:
            raise ValueError(f"solved is an accuracy: it must be null with loss {self.loss!r}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be >= 1 or null, got {self.max_tokens}")
        self._check_stages()

    def _check_stages(self) -> None:
        curriculum, least = self.curriculum, self.curriculum.least_steps
        if isinstance(curriculum, ByAccuracy):
            if self.loss in OF_NUMBERS:
                raise ValueError(
                    f"curriculum: stages that end by accuracy need labels, and loss {self.loss!r} "
                    "has none: expected uniform, staged or sizes"
                )
            if least > self.steps:
                raise ValueError(
                    f"steps={self.steps} are fewer than the stages of curriculum may take, which "
                    f"is {least} in all: steps={least} or more are expected"
                )
        elif least > self.steps:
            raise ValueError(
                f"steps={self.steps} end before the curriculum's last stage, which starts at step "
                f"{least - 1}"
            )

    def batch_of(self, bucket: int) -> int:
        """How many sequences a batch of the padded length `bucket` has."""
        if self.max_tokens is None:
            return self.batch_size
        return min(self.batch_size, max(1, self.max_tokens // bucket))

    @property
    def largest_batch(self) -> tuple[int, int]:
        """Number of sequences and padded length of the batch with most symbols."""
        batches = [(self.batch_of(bucket), bucket) for bucket in self.curriculum.buckets]
        return max(batches, key=lambda batch: (batch[0] * batch[1], batch[1]))
