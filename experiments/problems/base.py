"""What training and evaluation ask of any kind of task."""

from __future__ import annotations

from typing import Any, Protocol

from flax import nnx

from plstm_seq.evaluation import Axis
from plstm_seq.evaluation.size import Draw
from plstm_seq.models import ModelConfig
from plstm_seq.training import HostSample, Sample, TrainingConfig
from plstm_seq.training.loop import Validate
from plstm_seq.training.step import OF_LABELS, Loss


class Problem(Protocol):
    """A task with what goes with its kind: sequences, grids or graphs."""

    @property
    def axis(self) -> Axis:
        """What grows when generalisation is measured."""
        ...

    @property
    def sample(self) -> Sample | HostSample:
        """Draws a batch for training."""
        ...

    @property
    def draw(self) -> Draw:
        """Draws a batch of one size for evaluation; if it is `InOrder`, that is used there."""
        ...

    @property
    def examples(self) -> int | None:
        """How many examples there are to evaluate on; None: as many as one draws."""
        ...

    @property
    def losses(self) -> tuple[Loss, ...]:
        """Those that fit what is predicted, the first where nothing else is said."""
        ...

    def validate(self, batch: int, size: int) -> Validate | None:
        """Measures a model while it trains, in batches of so many; None: nothing is measured.

        What has sizes is measured at `size`, the largest of training.
        """
        ...

    def release(self) -> None:
        """Lets go of what was read ahead, once nothing more is asked for."""
        ...

    def check_model(self, config: Any) -> None:
        """Refuses the config of a model that reads or answers something else.

        Raises:
            ValueError: it is one.
        """
        ...

    def make_model(self, config: Any, rngs: nnx.Rngs, dtype: str | None = None) -> nnx.Module:
        """The model that a config describes, for this task's inputs and labels.

        It computes in `dtype`; None: in the type of its parameters.

        Raises:
            ValueError: as `check_model`, or sizes do not fit each other.
        """
        ...

    def recommended_model(self) -> ModelConfig:
        """The model where nothing else is said."""
        ...

    def recommended_training(self) -> TrainingConfig:
        """The training where nothing else is said."""
        ...

    def recommended_sizes(self) -> tuple[int, ...]:
        """Where to evaluate where nothing else is said."""
        ...


class Drawn:
    """What problems share whose examples are drawn, as many as one likes."""

    @property
    def examples(self) -> None:
        """There is no end."""
        return None

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The losses that training may use, the first by default; here those of labels."""
        return OF_LABELS

    def validate(self, batch: int, size: int) -> None:
        """New examples in every batch validate themselves."""
        del batch, size

    def release(self) -> None:
        """Nothing is read ahead."""


def check_kind(config: Any, expected: type, what: str) -> None:
    """Refuses the config of another kind of model.

    Raises:
        ValueError: it is one.
    """
    if not isinstance(config, expected):
        kind = getattr(expected, "kind", "")
        raise ValueError(f"model: kind {config.kind!r} does not read {what}; model={kind} does")
