"""How long, on which lengths and with which optimizer to train."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, get_args

from plstm_seq.training.curriculum import ByAccuracy, Curriculum, Uniform
from plstm_seq.training.loss import OF_NUMBERS, Loss
from plstm_seq.training.optimizer import OptimizerConfig

ACCURACIES = ("token_accuracy", "sequence_accuracy")
MEASURED_ACCURACIES = (*ACCURACIES, "last_accuracy")
VALIDATION, SOLVED_ACCURACY = "validation_", "solved_accuracy"
MEASURED_SEQUENCES, MEASURED_EVERY = 256, 500


@dataclass(frozen=True)
class Solved:
    """When to stop early: `metric` reaches `threshold` in `checks` records in a row.

    Records count only once the curriculum draws its longest lengths. Every batch is new, so the
    training accuracy (`sequence_accuracy`, mean over the steps of one dispatch) is a fair estimate
    on the training lengths. With a `validate` callable, `metric` may also be `validation_` followed
    by one of the names that it returns.

    With `lengths` or a `mixture`, the accuracy is measured instead on sequences of those lengths.
    They are new every time, and neither training nor evaluation uses them. Records hold this
    accuracy as `solved_accuracy`.

    Attributes:
        metric: `sequence_accuracy` or `token_accuracy`; where lengths are given also
            `last_accuracy`, of the last scored position.
        threshold: the accuracy to reach.
        checks: how many records or measurements in a row have to reach it.
        lengths: where to measure; the threshold has to be reached at each of them.
        mixture: shortest and longest length of one set of sequences of all lengths between them,
            whose accuracies are pooled.
        num_sequences: sequences of each of `lengths`, or of the mixture; None: 256.
        every: steps between measurements; None: 500.

    Example:
        >>> from plstm_seq.training import Solved, TrainingConfig
        >>> config = TrainingConfig(solved=Solved(threshold=0.99, lengths=(40, 80), every=250))
        >>> config.solved.recorded, config.solved.stride
        ('solved_accuracy', 250)
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    metric: str = "sequence_accuracy"
    threshold: float = 0.999
    checks: int = 3
    lengths: tuple[int, ...] | None = None
    mixture: tuple[int, int] | None = None
    num_sequences: int | None = None
    every: int | None = None

    def __post_init__(self):
        if self.checks < 1:
            raise ValueError(f"checks must be >= 1, got {self.checks}")
        if self.is_measured:
            self._check_measured()
            return
        if self.metric not in ACCURACIES and not self.metric.startswith(VALIDATION):
            raise ValueError(
                f"metric must be one of {ACCURACIES} or start with {VALIDATION!r}, "
                f"got {self.metric!r}"
            )
        for name in ("num_sequences", "every"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name} is of sequences that are measured: it needs lengths or a mixture, "
                    f"got {getattr(self, name)}"
                )

    def _check_measured(self) -> None:
        if self.metric not in MEASURED_ACCURACIES:
            raise ValueError(
                f"metric must be one of {MEASURED_ACCURACIES} where lengths are given, "
                f"got {self.metric!r}"
            )
        if self.lengths is not None and self.mixture is not None:
            raise ValueError(
                f"lengths and mixture: expected one of them, got {self.lengths} and {self.mixture}"
            )
        if self.lengths is not None and (not self.lengths or min(self.lengths) < 1):
            raise ValueError(f"lengths must be one or more numbers >= 1, got {self.lengths}")
        if self.mixture is not None and not 1 <= self.mixture[0] <= self.mixture[1]:
            raise ValueError(f"mixture must be two lengths, the shorter first, got {self.mixture}")
        for name in ("num_sequences", "every"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be >= 1, got {number}")

    @property
    def is_measured(self) -> bool:
        """Whether the accuracy is measured on sequences drawn for it alone."""
        return self.lengths is not None or self.mixture is not None

    @property
    def recorded(self) -> str:
        """The name that the accuracy to reach has in a record."""
        return SOLVED_ACCURACY if self.is_measured else self.metric

    @property
    def stride(self) -> int:
        """Steps between measurements."""
        return MEASURED_EVERY if self.every is None else self.every

    @property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """The lengths of the sequences that are measured, set by set."""
        number = MEASURED_SEQUENCES if self.num_sequences is None else self.num_sequences
        if self.mixture is not None:
            shortest, longest = self.mixture
            return (tuple(shortest + n % (longest - shortest + 1) for n in range(number)),)
        return tuple((length,) * number for length in self.lengths or ())


@dataclass(frozen=True)
class TrainingConfig:
    """How long and on what to train.

    Attributes:
        steps: number of optimizer steps; the learning rate's cosine ends at the last one. With a
            curriculum by accuracy, the largest number of steps.
        batch_size: number of sequences in a step.
        steps_per_dispatch: number of steps that the device runs before the host reads their
            metrics; each such group of steps makes one record.
        checkpoint_every: number of steps between checkpoints.
        keep_checkpoints: how many of the latest checkpoints to keep, 2 or more.
        validate_every: number of steps between calls of `validate`, if `fit` is given one.
        optimizer: the rule (AdamW, AMSGrad or LAMB) and its schedule.
        curriculum: which lengths are drawn at which step.
        max_tokens: the most symbols that a batch may have, padding included. Where `batch_size`
            sequences would have more, fewer are drawn, but at least one. None: no limit.
        label_smoothing: share of each label that the loss spreads evenly over all labels. The loss
            is then smallest at finite logits, the same for all states of a label, and still has a
            gradient long after every answer is right (`docs/state_tracking.md`).
        loss: "cross_entropy"; "binary_cross_entropy", which asks for each label by itself; or, to
            predict numbers instead of labels, "squared_error" or "absolute_error".
        solved: when to stop early; None: all steps are taken.
        average: decay of an exponential moving average of the parameters, such as 0.999, which is
            kept and evaluated in addition to the last parameters. After step t, counted from 0,
            the decay is `min(average, (1 + t) / (10 + t))`, so that the first parameters are soon
            forgotten. None: no average.
        consistency: weight in the loss of a term that asks transitions to multiply as the model's
            own answers say, see `plstm_seq.training.loss`; 0: no such term. It needs a model of
            one block whose transitions depend on the token alone.

    Example:
        >>> from plstm_seq.training import Staged, TrainingConfig
        >>> config = TrainingConfig(500, curriculum=Staged(((4, 100), (40, 400))), max_tokens=640)
        >>> {bucket: config.batch_of(bucket) for bucket in config.curriculum.buckets}
        {16: 40, 40: 16}
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
    average: float | None = None
    consistency: float = 0.0

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
        if self.average is not None and not 0 < self.average < 1:
            raise ValueError(f"average must lie in (0, 1) or be null, got {self.average}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be >= 1 or null, got {self.max_tokens}")
        if not (math.isfinite(self.consistency) and self.consistency >= 0):
            raise ValueError(f"consistency must be a number >= 0, got {self.consistency}")
        if self.consistency and self.loss != "cross_entropy":
            raise ValueError(
                f"consistency must be 0 with loss {self.loss!r}, got {self.consistency}: it asks "
                "for the probabilities of labels, of which one is right"
            )
        self._check_stages()

    def _check_stages(self) -> None:
        curriculum, least = self.curriculum, self.curriculum.least_steps
        if isinstance(curriculum, ByAccuracy) and self.loss in OF_NUMBERS:
            raise ValueError(
                f"curriculum: stages that end by accuracy need labels, and loss {self.loss!r} "
                "has none: expected uniform, staged or sizes"
            )
        if least > self.steps and not isinstance(curriculum, Uniform):
            raise ValueError(
                f"steps={self.steps} end before the curriculum's last stage, which starts at step "
                f"{least - 1}; stages={_fitting(curriculum.stages, self.steps)} would fit"
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


def _fitting(stages: Sequence[tuple[int, int]], steps: int) -> str:
    """Stages in the same proportions in so many steps, each of at least one."""
    stages = stages[-steps:]
    total, spent, passed, parts = sum(count for _, count in stages), 0, 0, []
    for left, (length, count) in zip(range(len(stages) - 1, -1, -1), stages, strict=True):
        passed += count
        end = min(max(passed * steps // total, spent + 1), steps - left)
        parts.append(f"[{length},{end - spent}]")
        spent = end
    return f"[{','.join(parts)}]"
