"""`fit`: the loop on the host around the program on the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from plstm_seq.training.ahead import Ahead
from plstm_seq.training.checkpoint import Checkpoints
from plstm_seq.training.config import SOLVED_ACCURACY, VALIDATION, TrainingConfig
from plstm_seq.training.consistency import check_consistency
from plstm_seq.training.curriculum import Phase
from plstm_seq.training.interrupt import deferred_interrupt
from plstm_seq.training.leaves import is_key
from plstm_seq.training.ledger import FitResult, Ledger
from plstm_seq.training.mesh import anywhere, check_mesh, replicate
from plstm_seq.training.optimizer import make_optimizer
from plstm_seq.training.programs import (
    Shapes,
    compile_program,
    larger,
    measured_accuracy,
    memory_of,
    program_key,
)
from plstm_seq.training.step import Examples, HostSample, Sample, init_state
from plstm_seq.training.trackers import CompositeTracker, Record, Tracker

Validate = Callable[[Any], Mapping[str, float]]


def fit(
    model: nnx.Module,
    sample: Sample | HostSample,
    config: TrainingConfig | None = None,
    *,
    key: jax.Array,
    folder: str | Path | None = None,
    resume: bool = False,
    trackers: Sequence[Tracker] = (),
    validate: Validate | None = None,
    mesh: Mesh | None = None,
) -> FitResult:
    """Train `model` in place on batches drawn by `sample`.

    Killed at any moment, a run loses at most the steps since its last checkpoint; resumed, it ends
    with the same parameters and records (timings apart) as if it had never stopped, bit for bit
    on the CPU.

    Args:
        model: called as `model(inputs [B, T]) -> logits [B, T, V]`; holds the trained parameters
            afterwards, also after Ctrl-C. Images, grids and graphs: see `Examples`.
        sample: draws a batch, see `Sample`; must be traceable. A `HostSample` is asked for every
            batch, ahead of time and in another thread.
        config: lengths, steps, optimizer; the defaults of `TrainingConfig` if None.
        key: typed key; training is a function of it and of `model`'s parameters.
        folder: where checkpoints go; None keeps none.
        resume: continue from the latest whole checkpoint in `folder`, from the start if it holds
            none.
        trackers: take the records; see `Tracker`.
        validate: called every `validate_every` steps with a copy of the model that is valid only
            during the call; its numbers join the record behind `validation_`.
        mesh: devices with an axis `data` over which every batch is split, and the parameters kept
            whole; those of several processes once `jax.distributed` is set up. None: one device.

    Returns:
        How it ended.

    Raises:
        NonFiniteLossError: the loss or gradient is not finite. The last good checkpoint stays, and
            `model` holds it (its initial parameters if `folder` is None).
        KeyboardInterrupt: Ctrl-C; a checkpoint was saved first (a second Ctrl-C does not wait).
        FileExistsError: `folder` holds checkpoints and `resume` is False.
        ValueError: `config.solved` asks for validation without `validate`, or `mesh` has no axis
            `data`, or one that does not divide the batch size, or stages that end by accuracy or
            lengths to measure come with a `HostSample`, or the model has no transitions by token
            for `config.consistency`.
        TypeError: `key` is not a typed key.
    """
    config = TrainingConfig() if config is None else config
    _check_arguments(config, key, validate)
    check_consistency(model, config.consistency)
    if isinstance(sample, HostSample):
        if not config.curriculum.foreseen:
            raise ValueError(
                "curriculum: batches from the host are made ahead of time, before an accuracy is "
                "known"
            )
        if config.solved is not None and config.solved.is_measured:
            raise ValueError("solved: lengths or a mixture need sequences drawn on the device")
    if mesh is not None:
        for bucket in config.curriculum.buckets:
            check_mesh(mesh, config.batch_of(bucket))
    with ExitStack() as stack:
        checkpoints = None
        if folder is not None:
            checkpoints = stack.enter_context(Checkpoints(folder, keep=config.keep_checkpoints))
            if not resume and checkpoints.steps():
                raise FileExistsError(
                    f"folder {checkpoints.folder} holds checkpoints: resume=True continues them"
                )
        ledger = Ledger(config, checkpoints, CompositeTracker(trackers))
        return _Run(model, sample, ledger, key, validate, mesh).execute()


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
        sample: Sample | HostSample,
        ledger: Ledger,
        key: jax.Array,
        validate: Validate | None,
        mesh: Mesh | None,
    ):
        self.model = model
        self.ledger = ledger
        self.config = ledger.config
        self.validate = validate
        self.sample = sample
        self.mesh = mesh
        optimizer = make_optimizer(self.config.optimizer, self.config.steps)
        averages = self.config.average is not None
        self.graphdef, state = init_state(model, optimizer, key, average=averages)
        self.state = state if mesh is None else replicate(state, mesh)
        self.memory_bytes: int | None = None
        self.compile_seconds = 0.0
        self.programs: dict[Any, jax.stages.Compiled] = {}
        self.seed = [int(word) for word in np.asarray(jax.random.key_data(key)).ravel()]
        self.batches: Ahead[Examples] | None = None

    def execute(self) -> FitResult:
        ledger = self.ledger
        self.state = ledger.restore(self.state)
        if ledger.has_ended and ledger.saved is not None:  # nothing is left to do, or to write
            self._hand_over()
            return FitResult(ledger.status, ledger.step, ledger.record, average=self.state.average)
        status: str = "failed"
        ledger.tracker.start(ledger.step, ledger.end)
        try:
            if ledger.saved is None:
                ledger.save(self.state)
            self._loop()
            status = ledger.status
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            ledger.tracker.close(status)
        return FitResult(
            ledger.status,
            ledger.step,
            ledger.record,
            memory_bytes=self.memory_bytes,
            average=self.state.average,
        )

    def _loop(self) -> None:
        ledger = self.ledger
        with ExitStack() as stack:
            interrupted = stack.enter_context(deferred_interrupt())
            if isinstance(self.sample, HostSample):
                self.batches = stack.enter_context(
                    Ahead(partial(self._batch, self.sample), self.config.steps)
                )
            while not ledger.has_ended:
                self._advance()
                pressed = anywhere(interrupted())
                stopping = ledger.has_ended or pressed
                if stopping or ledger.step % self.config.checkpoint_every == 0:
                    ledger.save(self.state)
                if pressed:
                    self._hand_over()
                    raise KeyboardInterrupt(f"stopped at step {ledger.step}")
        self._hand_over()

    def _advance(self) -> None:
        ledger = self.ledger
        phase = ledger.phase
        strides = () if self.validate is None else (self.config.validate_every,)
        count = ledger.next_stop(phase, *strides) - ledger.step
        entered = time.perf_counter()
        self.compile_seconds = 0.0
        if self.batches is None:
            metrics = self._dispatch(phase, count)
        else:
            metrics = self._one_by_one(phase, count, self.batches)
        compile_seconds = self.compile_seconds
        seconds = time.perf_counter() - entered - compile_seconds
        if error := ledger.divergence(metrics):
            if ledger.checkpoints is not None:
                ledger.checkpoints.restore_model(self.model)
            raise error
        ledger.take(metrics, phase, seconds=seconds, compile_seconds=compile_seconds)
        ledger.log(phase, {**self._validated(), **self._measured(phase)})

    def _dispatch(self, phase: Phase, count: int) -> dict[str, np.ndarray]:
        """Takes `count` steps in one program; their metrics."""
        sample: Any = self.sample
        program = self._program(sample, phase)
        self.state, metrics = program(self.state, self.ledger.orders, np.int32(count))
        return {name: np.asarray(value)[:count] for name, value in metrics.items()}

    def _one_by_one(
        self, phase: Phase, count: int, batches: Ahead[Examples]
    ) -> dict[str, np.ndarray]:
        """Takes `count` steps on batches from the host; their metrics."""
        taken = []
        for step in range(self.ledger.step, self.ledger.step + count):
            batch = batches.take(step)
            self.state, metrics = self._program(batch, phase)(self.state, batch)
            taken.append(metrics)
        return {name: np.stack([np.asarray(m[name]) for m in taken]) for name in taken[0]}

    def _program(self, batch: Sample | Examples, phase: Phase) -> jax.stages.Compiled:
        # Few keys, each soon made: that of `compile_program` takes milliseconds to hash.
        key = (phase.bucket, None if callable(batch) else Shapes.of(batch))
        if key not in self.programs:
            entered = time.perf_counter()
            program = compile_program(
                program_key(
                    self.graphdef, batch, self.config, phase.bucket, self.state, mesh=self.mesh
                )
            )
            self.memory_bytes = larger(self.memory_bytes, memory_of(program))
            self.compile_seconds += time.perf_counter() - entered
            self.programs[key] = program
        return self.programs[key]

    def _batch(self, sample: HostSample, step: int) -> Examples:
        """The batch of a step, from the host."""
        phase = self.config.curriculum.phase(step)
        return sample.on_host(self.seed, step, self.config.batch_of(phase.bucket), phase.maximum)

    def _validated(self) -> Record:
        if self.validate is None or self.ledger.step % self.config.validate_every:
            return {}
        model = nnx.merge(self.graphdef, self.state.parameters, self.state.rest)
        return {VALIDATION + name: float(value) for name, value in self.validate(model).items()}

    def _measured(self, phase: Phase) -> Record:
        if not self.ledger.measures(phase):
            return {}
        sample: Any = self.sample
        return {
            SOLVED_ACCURACY: float(
                measured_accuracy(self.graphdef, sample, self.config, self.state)
            )
        }

    def _hand_over(self) -> None:
        nnx.update(self.model, self.state.parameters, self.state.rest)
