"""`fit`: the loop on the host around the program on the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from plstm_seq.training.checkpoint import Checkpoints
from plstm_seq.training.config import VALIDATION, TrainingConfig
from plstm_seq.training.curriculum import Phase
from plstm_seq.training.interrupt import deferred_interrupt
from plstm_seq.training.leaves import is_key
from plstm_seq.training.optimizer import make_optimizer
from plstm_seq.training.programs import compile_program, length_range, program_key, summarize
from plstm_seq.training.step import Sample, init_state
from plstm_seq.training.trackers import CompositeTracker, Record, Tracker

Validate = Callable[[Any], Mapping[str, float]]
Status = Literal["finished", "solved"]


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient became infinite or not a number.

    Attributes:
        step: the first step (counted from 1) at which it did.
        checkpoint: step of the last good checkpoint, or None if none is kept.
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
    """How training ended: `status`, steps taken, and the last record (empty if none was made)."""

    status: Status
    step: int
    record: Record


def fit(
    model: nnx.Module,
    sample: Sample,
    config: TrainingConfig | None = None,
    *,
    key: jax.Array,
    folder: str | Path | None = None,
    resume: bool = False,
    trackers: Sequence[Tracker] = (),
    validate: Validate | None = None,
) -> FitResult:
    """Train `model` in place on batches drawn by `sample`.

    Killed at any moment, a run loses at most the steps since its last checkpoint; resumed, it ends
    with the same parameters and records (timings apart) as if it had never stopped, bit for bit
    on the CPU.

    Args:
        model: called as `model(inputs [B, T]) -> logits [B, T, V]`; holds the trained parameters
            afterwards, also after Ctrl-C.
        sample: draws a batch, see `Sample`; must be traceable.
        config: lengths, steps, optimizer; the defaults of `TrainingConfig` if None.
        key: typed key; training is a function of it and of `model`'s parameters.
        folder: where checkpoints go; None keeps none.
        resume: continue from the latest whole checkpoint in `folder`, from the start if it holds
            none.
        trackers: take the records; see `Tracker`.
        validate: called every `validate_every` steps with a copy of the model that is valid only
            during the call; its numbers join the record behind `validation_`.

    Returns:
        How it ended.

    Raises:
        NonFiniteLossError: the loss or gradient is not finite. The last good checkpoint stays, and
            `model` holds it (its initial parameters if `folder` is None).
        KeyboardInterrupt: Ctrl-C; a checkpoint was saved first (a second Ctrl-C does not wait).
        FileExistsError: `folder` holds checkpoints and `resume` is False.
        ValueError: `config.solved` asks for validation without `validate`.
        TypeError: `key` is not a typed key.
    """
    config = TrainingConfig() if config is None else config
    _check_arguments(config, key, validate)
    with ExitStack() as stack:
        checkpoints = None
        if folder is not None:
            checkpoints = stack.enter_context(Checkpoints(folder, keep=config.keep_checkpoints))
            if not resume and checkpoints.steps():
                raise FileExistsError(
                    f"folder {checkpoints.folder} holds checkpoints: resume=True continues them"
                )
        run = _Run(model, sample, config, key, checkpoints, CompositeTracker(trackers), validate)
        return run.execute()


def _check_arguments(config: TrainingConfig, key: jax.Array, validate: Validate | None) -> None:
    if not is_key(key):
        raise TypeError(f"key must be a typed key (jax.random.key), got {key!r}")
    if validate is None and config.solved and config.solved.metric.startswith(VALIDATION):
        raise ValueError(f"solved.metric is {config.solved.metric!r} but no validate was given")


class _Run:
    """One call of `fit`: the state on the device and what the host remembers of it."""

    def __init__(
        self,
        model: nnx.Module,
        sample: Sample,
        config: TrainingConfig,
        key: jax.Array,
        checkpoints: Checkpoints | None,
        tracker: Tracker,
        validate: Validate | None,
    ):
        self.model = model
        self.config = config
        self.checkpoints = checkpoints
        self.tracker = tracker
        self.validate = validate
        optimizer = make_optimizer(config.optimizer, config.steps)
        self.sample = sample
        self.graphdef, self.state = init_state(model, optimizer, key)
        self.step = 0
        self.saved: int | None = None
        self.streak = 0
        self.record: Record = {}

    def execute(self) -> FitResult:
        self._restore()
        status: str = "failed"
        self.tracker.start(self.step, self.config.steps)
        try:
            if self.saved is None:
                self._save()
            status = result = self._loop()
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            self.tracker.close(status)
        return FitResult(result, self.step, self.record)

    def _loop(self) -> Status:
        with deferred_interrupt() as interrupted:
            while self.step < self.config.steps and not self._is_solved():
                self._advance()
                done = self.step == self.config.steps or self._is_solved() or interrupted()
                if done or self.step % self.config.checkpoint_every == 0:
                    self._save()
                if interrupted():
                    self._hand_over()
                    raise KeyboardInterrupt(f"stopped at step {self.step}")
        self._hand_over()
        return "solved" if self._is_solved() else "finished"

    def _advance(self) -> None:
        phase = self.config.curriculum.phase(self.step)
        count = self._next_stop(phase) - self.step
        entered = time.perf_counter()
        program = compile_program(
            program_key(self.graphdef, self.sample, self.config, phase.bucket, self.state)
        )
        compiled = time.perf_counter()
        self.state, metrics = program(self.state, length_range(phase), jnp.int32(count))
        metrics = {name: np.asarray(value)[:count] for name, value in metrics.items()}
        seconds = time.perf_counter() - compiled
        self._check_finite(metrics)
        self.step += count
        self.record = {
            "step": self.step,
            **summarize(metrics),
            "maximum_length": phase.maximum,
            "seconds": seconds,
            "tokens_per_second": float(metrics["tokens"].sum()) / seconds,
            "compile_seconds": compiled - entered,
        }
        self._validate()
        self._count_solved(phase)
        self.tracker.log(self.record)

    def _next_stop(self, phase: Phase) -> int:
        # Multiples counted from step 0, so that a resumed run stops where the whole one did.
        config = self.config
        strides = [config.steps_per_dispatch, config.checkpoint_every]
        if self.validate is not None:
            strides.append(config.validate_every)
        stops = [(self.step // stride + 1) * stride for stride in strides]
        return min(*stops, config.steps, *([] if phase.until is None else [phase.until]))

    def _check_finite(self, metrics: Mapping[str, np.ndarray]) -> None:
        loss, norm = metrics["loss"], metrics["gradient_norm"]
        bad = np.flatnonzero(~(np.isfinite(loss) & np.isfinite(norm)))
        if not bad.size:
            return
        first = int(bad[0])
        if self.checkpoints is not None:
            self.saved = self.checkpoints.restore_model(self.model)
        raise NonFiniteLossError(
            self.step + first + 1, float(loss[first]), float(norm[first]), self.saved
        )

    def _validate(self) -> None:
        if self.validate is None or self.step % self.config.validate_every:
            return
        model = nnx.merge(self.graphdef, self.state.parameters, self.state.rest)
        for name, value in self.validate(model).items():
            self.record[VALIDATION + name] = float(value)

    def _count_solved(self, phase: Phase) -> None:
        solved = self.config.solved
        if solved is None or phase.until is not None or solved.metric not in self.record:
            return
        self.streak = self.streak + 1 if self.record[solved.metric] >= solved.threshold else 0

    def _is_solved(self) -> bool:
        return self.config.solved is not None and self.streak >= self.config.solved.checks

    def _restore(self) -> None:
        if self.checkpoints is None:
            return
        restored = self.checkpoints.restore(self.state)
        if restored is None:
            return
        self.checkpoints.discard_after(restored.step)
        self.state = restored.state
        self.step = self.saved = restored.step
        self.streak = restored.notes["streak"]
        self.record = restored.notes["record"]

    def _save(self) -> None:
        if self.checkpoints is not None and self.saved != self.step:
            self.checkpoints.save(self.state, {"streak": self.streak, "record": self.record})
            self.saved = self.step

    def _hand_over(self) -> None:
        nnx.update(self.model, self.state.parameters, self.state.rest)
