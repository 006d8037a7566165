"""The training engine: it opens, restores, advances, saves and ends one member or many.

How their states lie and where batches come from is the layout's part (`layout.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array

from plstm_seq.training.checkpoint import Checkpoints
from plstm_seq.training.config import SOLVED_ACCURACY, VALIDATION, TrainingConfig
from plstm_seq.training.devices import anywhere
from plstm_seq.training.interrupt import deferred_interrupt
from plstm_seq.training.layout import Layout
from plstm_seq.training.ledger import FitResult, Ledger, NonFiniteLossError, Status
from plstm_seq.training.manifest import CorruptCheckpointError
from plstm_seq.training.optimizer import make_optimizer
from plstm_seq.training.records import Record
from plstm_seq.training.step import TrainState, init_state
from plstm_seq.training.trackers import CompositeTracker, Tracker

Validate = Callable[[Any], Mapping[str, float]]

# Members that have ended are taken out of the program where that saves this many times the
# seconds of compiling a smaller one.
_WORTH = 2.0


@dataclass(frozen=True)
class Member:
    """One training among others of the same shape.

    Attributes:
        model: as in `fit`; it holds the trained parameters afterwards.
        config: it may differ from those of the other members in learning rate and weight decay.
        key: typed key, as in `fit`.
        folder: where its checkpoints are written; None: none are kept.
        trackers: receive its records.
    """

    model: nnx.Module
    config: TrainingConfig
    key: Array
    folder: Path | None = None
    trackers: Sequence[Tracker] = ()


class _Seat:
    """A member, what the host knows of it, its state while no program has it, and how it ended."""

    def __init__(self, number: int, member: Member):
        self.number, self.model = number, member.model
        self.ledger = Ledger(member.config, None, CompositeTracker(member.trackers))
        self.state: TrainState | None = None
        self.average: nnx.State | None = None
        self.error: Exception | None = None

    @property
    def status(self) -> Status:
        if self.error is None:
            return self.ledger.status
        return "diverged" if isinstance(self.error, NonFiniteLossError) else "failed"

    def hand_over(self, state: TrainState) -> None:
        """Puts the trained parameters into the member's model."""
        nnx.update(self.model, state.parameters, state.rest)
        self.average = state.average


class Engine:
    """Trains members to their ends, as many at once as fit into the memory.

    Args:
        layout: of their states.
        tolerant: whether a member that diverges, or whose files cannot be read or written, ends
            alone, and its result says so; else that is raised.
        validate: as in `fit`.
        ended: called with a member's number and how it ended, as soon as it has.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        tolerant: bool,
        validate: Validate | None = None,
        ended: Callable[[int, FitResult], None] | None = None,
    ):
        self.layout, self.config = layout, layout.config
        self.tolerant, self.validate, self.tell = tolerant, validate, ended
        self.width = 1

    def train(
        self, members: Sequence[Member], *, resume: bool = True, progress: Tracker | None = None
    ) -> list[FitResult]:
        """Trains all members that have not ended, and returns how each ended, in order."""
        with ExitStack() as stack:
            seats = [_Seat(number, member) for number, member in enumerate(members)]
            for seat, member in zip(seats, members, strict=True):
                self._open(seat, member, stack, resume=resume)
            left = []
            for seat in seats:
                if seat.state is not None and not seat.ledger.has_ended:
                    left.append(seat)
                    continue
                if seat.state is not None:  # nothing is left to do, or to write
                    seat.hand_over(seat.state)
                    seat.state = None
                self.announce(seat)
            if left:
                self._train(left, progress)
            return [self.result(seat) for seat in seats]

    def _open(self, seat: _Seat, member: Member, stack: ExitStack, *, resume: bool) -> None:
        config = member.config
        optimizer = make_optimizer(config.optimizer, config.steps)
        averages = config.average is not None
        state = init_state(member.model, optimizer, member.key, average=averages)[1]
        state = self.layout.place(state)
        with self.noted(seat, ValueError):
            if member.folder is not None:
                opened = Checkpoints(member.folder, keep=config.keep_checkpoints)
                checkpoints = stack.enter_context(opened)
                if not resume and checkpoints.steps():
                    raise FileExistsError(
                        f"folder {checkpoints.folder} holds checkpoints: resume=True continues them"
                    )
                seat.ledger.checkpoints = checkpoints
            seat.state = seat.ledger.resume(state)

    def _train(self, seats: Sequence[_Seat], progress: Tracker | None) -> None:
        like = next(seat.state for seat in seats if seat.state is not None)
        self.width = self.layout.fitting(len(seats), like)
        with deferred_interrupt() as interrupted:
            for start in range(0, len(seats), self.width):
                _Together(self, seats[start : start + self.width]).run(progress, interrupted)

    def result(self, seat: _Seat) -> FitResult:
        """Returns how a member ended."""
        ledger, memory = seat.ledger, self.layout.memory_bytes
        return FitResult(
            seat.status, ledger.step, ledger.record, self.width, memory, seat.error, seat.average
        )

    def announce(self, seat: _Seat) -> None:
        """Tells the callback that a member has ended."""
        if self.tell is not None:
            self.tell(seat.number, self.result(seat))

    @contextmanager
    def noted(self, seat: _Seat, *more: type[Exception]) -> Iterator[None]:
        """If the engine is tolerant, a member whose files cannot be read or written fails alone."""
        try:
            yield
        except (OSError, CorruptCheckpointError, *more) as error:
            if not self.tolerant:
                raise
            seat.error = seat.error or error


class _Together:
    """Members in one program, from where the last of them is to where all have ended."""

    def __init__(self, engine: Engine, seats: Sequence[_Seat]):
        self.engine, self.layout, self.config = engine, engine.layout, engine.config
        self.seats = list(seats)
        self.training = list(seats)
        self.compiling = 0.0
        self.shown = 0
        self._load(self.layout.rows(len(self.seats)))

    def _load(self, rows: int) -> None:
        self.rows = rows
        states = [seat.state for seat in self.seats if seat.state is not None]
        self.state = self.layout.join(states, rows)
        for seat in self.seats:
            seat.state = None

    def run(self, progress: Tracker | None, interrupted: Callable[[], bool]) -> None:
        """Trains until all members have ended, or Ctrl-C was pressed."""
        ledgers = [seat.ledger for seat in self.seats]
        for seat in self.seats:
            with self.engine.noted(seat):
                seat.ledger.tracker.start(seat.ledger.step, seat.ledger.end)
        if progress is not None:
            self.shown = min(ledger.step for ledger in ledgers)
            progress.start(self.shown, max(ledger.end for ledger in ledgers))
        status = "failed"
        try:
            self._save(seat for seat in self.training if seat.ledger.saved is None)
            self._drop_failed()
            pressed = self._pressed(interrupted)
            while self.training and not pressed:
                self._advance(progress)
                pressed = self._pressed(interrupted)
            if pressed:
                self._save(self.training)
                for seat in self.training:
                    seat.hand_over(self._state_of(seat))
                self._drop_failed()
                raise KeyboardInterrupt(f"stopped at step {max(x.step for x in ledgers)}")
            status = "finished"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            for seat in self.training:
                seat.ledger.tracker.close(status)
            if progress is not None:
                progress.close(status)

    def _pressed(self, interrupted: Callable[[], bool]) -> bool:
        # The processes of a mesh stop at the same step; those with members go their own ways.
        return interrupted() if self.layout.members else anywhere(interrupted())

    def _advance(self, progress: Tracker | None) -> None:
        ledgers = [seat.ledger for seat in self.training]
        # Those in the first stage lead, and all whose arrays are as long go on with them.
        lead = min(self.training, key=lambda x: (x.ledger.standing.stage, x.ledger.step)).ledger
        bucket = lead.phase.bucket
        active = [seat for seat in self.training if seat.ledger.phase.bucket == bucket]
        strides = () if self.engine.validate is None else (self.config.validate_every,)
        orders, steps = [lead.orders] * self.rows, np.zeros(self.rows, np.int32)
        for seat in active:
            row, ledger = self.seats.index(seat), seat.ledger
            orders[row], steps[row] = ledger.orders, ledger.next_stop(*strides) - ledger.step
        entered, compiled = time.perf_counter(), self.layout.compile_seconds
        self.state, metrics = self.layout.advance(self.state, bucket, orders, steps)
        compile_seconds = self.layout.compile_seconds - compiled
        seconds = time.perf_counter() - entered - compile_seconds
        for seat in active:
            row = self.seats.index(seat)
            # Each has its share of the program's time, so that times of members add up.
            share = seconds * int(steps[row]) / int(steps.sum())
            seat.error = seat.ledger.divergence(metrics[row])
            if seat.error is None:
                seat.ledger.take(metrics[row], seconds=share, compile_seconds=compile_seconds)
        self._log([seat for seat in active if seat.error is None])
        self._keep(active)
        if progress is not None:
            good = [seat.ledger.record for seat in active if seat.error is None]
            self.shown = max(self.shown, int(np.mean([ledger.step for ledger in ledgers])))
            _report(progress, self.shown, good)
        self._compact(seconds / int(steps.max()), compile_seconds)

    def _log(self, seats: Sequence[_Seat]) -> None:
        """Hands the records to the trackers, with the validation and accuracy that are due now."""
        accuracies = None
        if any(seat.ledger.is_measured for seat in seats):
            accuracies = self.layout.measured(self.state)
        for seat in seats:
            extra = self._validated(seat)
            if accuracies is not None and seat.ledger.is_measured:
                extra[SOLVED_ACCURACY] = float(accuracies[self.seats.index(seat)])
            with self.engine.noted(seat):
                seat.ledger.log(extra)

    def _validated(self, seat: _Seat) -> Record:
        validate = self.engine.validate
        if validate is None or seat.ledger.step % self.config.validate_every:
            return {}
        state = self._state_of(seat)
        model = nnx.merge(self.layout.graphdef, state.parameters, state.rest)
        return {VALIDATION + name: float(value) for name, value in validate(model).items()}

    def _keep(self, active: Sequence[_Seat]) -> None:
        """Saves the members whose checkpoint is due, and drops those that have ended."""
        every = self.config.checkpoint_every
        good = [seat for seat in active if seat.error is None]
        self._save(x for x in good if x.ledger.has_ended or x.ledger.step % every == 0)
        for seat in active:
            if isinstance(seat.error, NonFiniteLossError):
                self._diverge(seat, seat.error)
            elif seat.error is None and seat.ledger.has_ended:
                seat.hand_over(self._state_of(seat))
                self._let_go(seat)
        self._drop_failed()

    def _diverge(self, seat: _Seat, error: NonFiniteLossError) -> None:
        """Puts the parameters of the last checkpoint into the model of a diverged member."""
        if seat.ledger.checkpoints is not None:
            with self.engine.noted(seat):
                seat.ledger.checkpoints.load_model(seat.model)
        if not self.engine.tolerant:
            raise error
        self._let_go(seat)

    def _save(self, seats: Iterable[_Seat]) -> None:
        for seat in list(seats):
            if seat.ledger.is_to_save:
                with self.engine.noted(seat):
                    seat.ledger.save(self._state_of(seat))

    def _state_of(self, seat: _Seat) -> TrainState:
        return self.layout.row(self.state, self.seats.index(seat))

    def _drop_failed(self) -> None:
        """Drops the members whose files could not be written."""
        for seat in list(self.training):
            if seat.error is not None:
                self._let_go(seat)

    def _let_go(self, seat: _Seat) -> None:
        self.training.remove(seat)  # first: its trackers are closed once, whatever that raises
        with self.engine.noted(seat):
            seat.ledger.tracker.close(seat.status)
            self.engine.announce(seat)

    def _compact(self, seconds_a_step: float, compile_seconds: float) -> None:
        """Goes on with a smaller program if that saves time."""
        rows = self.layout.rows(max(len(self.training), 1))
        if not self.training or rows > self.rows // 2:
            return
        self.compiling = max(self.compiling, compile_seconds)
        steps = max(seat.ledger.end - seat.ledger.step for seat in self.training)
        saved = steps * seconds_a_step * (1 - rows / self.rows)
        if saved < _WORTH * self.compiling:
            return
        for seat in self.training:
            seat.state = self._state_of(seat)
        self.seats = list(self.training)
        self._load(rows)


def _report(progress: Tracker, step: int, records: Sequence[Record]) -> None:
    """Shows the means over the records of the members."""
    if not records:
        return
    # Not all may have been measured at their last step.
    names = [name for name in records[0] if all(name in record for record in records)]
    mean = {name: float(np.mean([r[name] for r in records])) for name in names}
    progress.log(
        mean
        | {
            "step": step,
            "seconds": sum(record["seconds"] for record in records),
            "members": len(records),
        }
    )
