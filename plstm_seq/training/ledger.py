"""What the host knows of one training: its step, its records, its checkpoints and its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from flax import nnx

from plstm_seq.training.checkpoint import Checkpoints
from plstm_seq.training.config import TrainingConfig
from plstm_seq.training.curriculum import START, Phase, Standing
from plstm_seq.training.optimizer import NOT_BEGUN
from plstm_seq.training.programs import length_range, summarize
from plstm_seq.training.records import Record
from plstm_seq.training.step import LengthRange, TrainState
from plstm_seq.training.trackers import Tracker

Status = Literal["finished", "solved", "diverged", "failed"]


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient became infinite or not a number.

    Attributes:
        step: the first step (counted from 1) at which it did.
        checkpoint: step of the last good checkpoint, or None if none is kept.

    Example:
        >>> import jax
        >>> import tasks
        >>> from plstm_seq.training import NonFiniteLossError, OptimizerConfig, TrainingConfig, fit
        >>> model, sample = nnx.Embed(2, 2, rngs=nnx.Rngs(0)), tasks.get("parity").sample
        >>> optimizer = OptimizerConfig(learning_rate=1e38, warmup_steps=0)
        >>> try:
        ...     fit(model, sample, TrainingConfig(4, optimizer=optimizer), key=jax.random.key(0))
        ... except NonFiniteLossError as error:
        ...     print(error.step <= 4, error.checkpoint)
        True None
    """

    def __init__(self, step: int, loss: float, gradient_norm: float, checkpoint: int | None):
        kept = "no checkpoint is kept" if checkpoint is None else f"step {checkpoint} is kept"
        super().__init__(
            f"step {step}: loss {loss}, gradient norm {gradient_norm}; {kept}. A lower learning "
            "rate, a longer warm-up or a smaller clip_norm usually helps."
        )
        self.step = step
        self.checkpoint = checkpoint


class FitResult(NamedTuple):
    """How a training ended.

    Attributes:
        status: `finished` (all steps, or all stages) or `solved`; a member of `fit_members` may
            also have `diverged` or `failed`.
        step: number of steps taken.
        record: the last record; empty if none was made.
        members: how many trainings shared the program.
        memory_bytes: bytes on one device of the arguments and temporaries of the largest program;
            None where nothing was run, or the compiler does not say.
        error: the error by which it diverged or failed.
        average: the averaged parameters, for `nnx.update(model, result.average)`; None where
            training kept none.
    """

    status: Status
    step: int
    record: Record
    members: int = 1
    memory_bytes: int | None = None
    error: Exception | None = None
    average: nnx.State | None = None


class Ledger:
    """One training as the host sees it; the state itself is on the device."""

    def __init__(self, config: TrainingConfig, checkpoints: Checkpoints | None, tracker: Tracker):
        self.config = config
        self.checkpoints = checkpoints
        self.tracker = tracker
        self.step = 0
        self.saved: int | None = None
        self.record: Record = {}
        self.standing = START
        self._streak = 0
        self._taken: Phase | None = None  # of the steps that the record is of

    @property
    def phase(self) -> Phase:
        """The phase of the curriculum at the next step."""
        return self.config.curriculum.phase(self.step, self.standing)

    @property
    def orders(self) -> LengthRange:
        """The lengths of the next steps, as the program takes them."""
        phase = self.phase
        if self.config.curriculum.last_stage(self.config.steps) is None:
            return length_range(phase)
        return length_range(phase, self.standing.begun if phase.until is None else NOT_BEGUN)

    @property
    def end(self) -> int:
        """The step at which training ends at the latest."""
        return self.config.curriculum.end(self.standing, self.config.steps)

    @property
    def is_solved(self) -> bool:
        """Whether the rule to stop early is met."""
        return self.config.solved is not None and self._streak >= self.config.solved.checks

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to train."""
        return self.is_solved or self.step >= self.end

    @property
    def status(self) -> Status:
        """How the training ended, if it has."""
        return "solved" if self.is_solved else "finished"

    def resume(self, state: TrainState) -> TrainState:
        """Returns the state of the latest whole checkpoint, or the given one if there is none."""
        if self.checkpoints is None:
            return state
        restored = self.checkpoints.restore(state)
        if restored is None:
            return state
        self.checkpoints.discard_after(restored.step)
        self.step = self.saved = restored.step
        self._streak = restored.notes["streak"]
        self.standing = Standing(*restored.notes.get("standing", START))
        self.record = restored.notes["record"]
        return restored.state

    @property
    def is_to_save(self) -> bool:
        """Whether checkpoints are kept, and this step has none yet."""
        return self.checkpoints is not None and self.saved != self.step

    def save(self, state: TrainState) -> None:
        """Writes a checkpoint if checkpoints are kept."""
        if self.checkpoints is not None:
            notes = {"streak": self._streak, "record": self.record, "standing": self.standing}
            self.checkpoints.save(state, notes)
            self.saved = self.step

    def next_stop(self, *strides: int) -> int:
        """The step at which the host looks next: a multiple of a stride, or an end."""
        # Multiples counted from step 0, so that a resumed run stops where the whole one did.
        config = self.config
        every = [config.steps_per_dispatch, config.checkpoint_every, *strides]
        if config.solved is not None and config.solved.is_measured:
            every.append(config.solved.stride)
        stops = [(self.step // stride + 1) * stride for stride in every]
        until = self.phase.until
        return min(*stops, self.end, *([] if until is None else [until]))

    @property
    def in_last_stage(self) -> bool:
        """Whether the steps just taken were of the last stage."""
        return self._taken is not None and self._taken.until is None

    @property
    def is_measured(self) -> bool:
        """Whether the accuracy that ends training is to be measured after the steps just taken."""
        solved = self.config.solved
        if solved is None or not solved.is_measured:
            return False
        return self.in_last_stage and self.step % solved.stride == 0

    def divergence(self, metrics: Mapping[str, np.ndarray]) -> NonFiniteLossError | None:
        """The error to raise if the loss or gradient of a step is not finite; None: all are."""
        loss, norm = metrics["loss"], metrics["gradient_norm"]
        bad = np.flatnonzero(~(np.isfinite(loss) & np.isfinite(norm)))
        if not bad.size:
            return None
        first = int(bad[0])
        return NonFiniteLossError(
            self.step + first + 1, float(loss[first]), float(norm[first]), self.saved
        )

    def take(
        self, metrics: Mapping[str, np.ndarray], *, seconds: float, compile_seconds: float
    ) -> None:
        """Goes on by the steps whose `metrics` [steps] are given, and returns their record."""
        self._taken = self.phase
        self.step += len(metrics["loss"])
        stage = {} if self.config.curriculum.foreseen else {"stage": self.standing.stage + 1}
        self.record = {
            "step": self.step,
            **summarize(metrics),
            **stage,
            "maximum_length": self._taken.maximum,
            "seconds": seconds,
            "tokens_per_second": float(metrics["tokens"].sum()) / seconds,
            "compile_seconds": compile_seconds,
        }

    def log(self, extra: Mapping[str, Any]) -> None:
        """Shows the record to the rules that end a stage or the training, and to the trackers."""
        self.record |= extra
        solved = self.config.solved
        if solved is not None and self.in_last_stage and solved.recorded in self.record:
            reached = self.record[solved.recorded] >= solved.threshold
            self._streak = self._streak + 1 if reached else 0
        self.standing = self.config.curriculum.after(self.standing, self.step, self.record)
        self.tracker.log(self.record)
