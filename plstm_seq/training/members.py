"""`fit_members`: many trainings of one shape as one program, by `vmap` over their states."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from plstm_seq.training.checkpoint import Checkpoints
from plstm_seq.training.config import SOLVED_ACCURACY
from plstm_seq.training.curriculum import Phase
from plstm_seq.training.interrupt import deferred_interrupt
from plstm_seq.training.ledger import FitResult, Ledger, NonFiniteLossError
from plstm_seq.training.manifest import CorruptCheckpointError
from plstm_seq.training.member import Member, check_members
from plstm_seq.training.memory import Device, device_memory
from plstm_seq.training.mesh import member_mesh, split_members
from plstm_seq.training.optimizer import make_optimizer, with_hyperparameters
from plstm_seq.training.programs import (
    compile_program,
    larger,
    length_ranges,
    measured_accuracy,
    memory_of,
    program_key,
)
from plstm_seq.training.step import LengthRange, Sample, TrainState, init_state
from plstm_seq.training.trackers import CompositeTracker, Record, Tracker

# Members that have ended are taken out of the program where that saves this many times the
# seconds of compiling a smaller one.
_WORTH = 2.0


def fit_members(
    members: Sequence[Member],
    sample: Sample,
    *,
    progress: Tracker | None = None,
    memory_limit: int | None = None,
    devices: Sequence[Device] | None = None,
    ended: Callable[[int, FitResult], None] | None = None,
) -> list[FitResult]:
    """Train members in one compiled program, each as `fit` would train it alone.

    A member that is solved or has diverged is left as it is while the others go on, and taken out
    where a smaller program pays. All are resumed from their own folders; one that has ended is not
    touched. Each is at its own step and in its own stage of the curriculum; where stages have
    arrays of other lengths, those that are ahead wait for the others.

    Args:
        members: of one structure: same shapes, same training apart from learning rate and weight
            decay, and forward passes that differ in nothing but variables.
        sample: draws a batch, see `Sample`.
        progress: takes the mean records of all that are being trained.
        memory_limit: bytes on one device that a program may take, by the compiler's account;
            members that do not fit together are trained one group after another. None: what the
            device has.
        devices: over which members are split; None: all of this process.
        ended: called with a member's number and how it ended, as soon as it has.

    Returns:
        How each ended, in order. A diverged member holds its last checkpoint, and the result says
        why it diverged. One whose checkpoints cannot be read, or whose files cannot be written,
        has `failed`; the others go on.

    Raises:
        ValueError: members differ in more than they may, or stop early by validation, or have no
            transitions by token for a consistency term.
        TypeError: a key is not a typed key.
        KeyboardInterrupt: Ctrl-C; every member was saved first (a second Ctrl-C does not wait).
    """
    if not members:
        return []
    check_members(members, sample)
    devices = jax.local_devices() if devices is None else list(devices)
    limit = device_memory(devices[0]) if memory_limit is None else memory_limit
    with ExitStack() as stack:
        group = _Group(members, stack, sample, devices, limit, ended)
        group.train(progress)
    return [group.result(index) for index in range(len(members))]


def _open(member: Member, stack: ExitStack) -> Ledger:
    checkpoints = None
    if member.folder is not None:
        keep = member.config.keep_checkpoints
        checkpoints = stack.enter_context(Checkpoints(member.folder, keep=keep))
    return Ledger(member.config, checkpoints, CompositeTracker(member.trackers))


class _Group:
    """Members by number, what the host knows of each, and how many a program can hold."""

    def __init__(
        self,
        members: Sequence[Member],
        stack: ExitStack,
        sample: Sample,
        devices: Sequence[Device],
        limit: int | None,
        ended: Callable[[int, FitResult], None] | None,
    ):
        self.members = members
        self.ledgers: list[Ledger] = []
        self.sample, self.limit, self.tell = sample, limit, ended
        self.config = members[0].config
        self.mesh = member_mesh(devices)
        self.devices = len(devices)
        self.states: dict[int, TrainState] = {}
        self.averages: dict[int, nnx.State | None] = {}
        self.errors: dict[int, Exception] = {}
        self.memory: int | None = None
        self.width = 1
        self.programs: dict[tuple[int, int], jax.stages.Compiled] = {}
        for index, member in enumerate(members):
            graphdef, state = _initial(member)
            try:
                ledger = _open(member, stack)
                self.states[index] = ledger.restore(state)
            except (CorruptCheckpointError, OSError, ValueError) as error:
                self.errors[index] = error
                ledger = Ledger(member.config, None, CompositeTracker(member.trackers))
            self.ledgers.append(ledger)
            if index == 0:
                self.graphdef = graphdef

    def result(self, index: int) -> FitResult:
        """How a member ended."""
        ledger, error = self.ledgers[index], self.errors.get(index)
        status = ledger.status
        if error is not None:
            status = "diverged" if isinstance(error, NonFiniteLossError) else "failed"
        average = self.averages.get(index)
        return FitResult(
            status, ledger.step, ledger.record, self.width, self.memory, error, average
        )

    def announce(self, index: int) -> None:
        """Says that a member has ended."""
        if self.tell is not None:
            self.tell(index, self.result(index))

    def train(self, progress: Tracker | None) -> None:
        """Trains all that have not ended, as many at once as fit."""
        left = [i for i in self.states if not self.ledgers[i].has_ended]
        for i in range(len(self.members)):
            if i not in left:
                if i in self.states:
                    self.hand_over(i, self.states.pop(i))
                self.announce(i)
        if not left:
            return
        self.width = self._fitting(len(left))
        with deferred_interrupt() as interrupted:
            for start in range(0, len(left), self.width):
                part = left[start : start + self.width]
                _Together(self, part).run(progress, interrupted)

    def program(self, state: TrainState, rows: int, bucket: int) -> jax.stages.Compiled:
        """The program that trains a stack of `rows` members on arrays of a length."""
        # Asking a program for its memory takes longer than many a training step.
        if (rows, bucket) in self.programs:
            return self.programs[rows, bucket]
        key = program_key(
            self.graphdef,
            self.sample,
            self.config,
            bucket,
            state,
            members=True,
            mesh=self.mesh,
        )
        program = compile_program(key)
        self.memory = larger(self.memory, memory_of(program))
        self.programs[rows, bucket] = program
        return program

    def stack(self, indices: Sequence[int], width: int) -> TrainState:
        """The states of members, filled up with copies of the last to a multiple of devices."""
        states = [self.states[i] for i in indices]
        states += states[-1:] * (width - len(states))
        return split_members(stacked(states), self.mesh)

    def rounded(self, count: int) -> int:
        """How many rows a program for `count` members has."""
        return -(-count // self.devices) * self.devices

    def _fitting(self, count: int) -> int:
        """How many of `count` members fit into the memory at once, in parts of one size."""
        if self.limit is None or count == 1:
            return count
        index = next(iter(self.states))
        _, bucket = self.config.largest_batch
        rows = self.rounded(count)
        need = memory_of(self.program(self.stack([index], rows), rows, bucket))
        if need is None or need <= self.limit:
            return count
        self.memory = None  # that program will not run
        self.programs.clear()
        most = max(1, rows * self.limit // need // self.devices * self.devices)
        parts = -(-count // most)
        return -(-count // parts)

    def hand_over(self, index: int, state: TrainState) -> None:
        """Gives a member's model what was trained."""
        nnx.update(self.members[index].model, state.parameters, state.rest)
        self.averages[index] = state.average


class _Together:
    """Members in one program, from where the last of them is to where all have ended."""

    def __init__(self, group: _Group, indices: Sequence[int]):
        self.group = group
        self.indices = list(indices)
        self.ended: set[int] = set()
        self.compiling = 0.0
        self.shown = 0
        self._load(group.rounded(len(indices)))

    def _load(self, rows: int) -> None:
        self.rows = rows
        self.state = self.group.stack(self.indices, rows)

    def run(self, progress: Tracker | None, interrupted: Callable[[], bool]) -> None:
        ledgers = {i: self.group.ledgers[i] for i in self.indices}
        for i, ledger in ledgers.items():
            with self._noted(i):
                ledger.tracker.start(ledger.step, ledger.end)
        if progress is not None:
            self.shown = min(x.step for x in ledgers.values())
            progress.start(self.shown, max(x.end for x in ledgers.values()))
        status = "failed"
        try:
            self._save(i for i in self.indices if ledgers[i].saved is None)
            self._drop_failed()
            while self.training and not interrupted():
                self._advance(progress)
            if self.training:
                self._save(self.training)
                for i in self.training:
                    self.group.hand_over(i, self._state_of(i))
                self._drop_failed()
                status = "interrupted"
                step = max(x.step for x in ledgers.values())
                raise KeyboardInterrupt(f"stopped at step {step}")
            status = "finished"
        finally:
            for i in self.training:
                ledgers[i].tracker.close(status)
            if progress is not None:
                progress.close(status)

    @property
    def training(self) -> list[int]:
        """The members that have not ended."""
        return [i for i in self.indices if i not in self.ended]

    def _advance(self, progress: Tracker | None) -> None:
        group, training = self.group, self.training
        ledgers = {i: group.ledgers[i] for i in training}
        # Those in the first stage lead, and all whose arrays are as long go on with them.
        lead = min(training, key=lambda i: (ledgers[i].standing.stage, ledgers[i].step))
        bucket = ledgers[lead].phase.bucket
        active = [i for i in training if ledgers[i].phase.bucket == bucket]
        phases = {i: ledgers[i].phase for i in active}
        counts = {i: ledgers[i].next_stop(phases[i]) - ledgers[i].step for i in active}
        entered = time.perf_counter()
        program = group.program(self.state, self.rows, bucket)
        compiled = time.perf_counter()
        self.state, metrics = program(self.state, *self._orders(counts, lead))
        metrics = {name: np.asarray(value) for name, value in metrics.items()}
        seconds = time.perf_counter() - compiled
        taken = sum(counts.values())
        for i in active:
            row, count = self.indices.index(i), counts[i]
            # Each has its share of the program's time, so that times of members add up.
            clock = {"seconds": seconds * count / taken, "compile_seconds": compiled - entered}
            own = {name: value[row, :count] for name, value in metrics.items()}
            self._take(i, own, phases[i], clock)
        self._log(phases)
        self._keep(active)
        if progress is not None:
            good = [group.ledgers[i].record for i in active if i not in group.errors]
            self.shown = max(self.shown, int(np.mean([x.step for x in ledgers.values()])))
            _report(progress, self.shown, good)
        self._compact(seconds / max(counts.values()), compiled - entered)

    def _orders(self, counts: Mapping[int, int], lead: int) -> tuple[LengthRange, np.ndarray]:
        """What each row of the program draws, and how many steps it takes: none if it waits."""
        orders = {i: self.group.ledgers[i].orders for i in counts}
        ranges, steps = [orders[lead]] * self.rows, np.zeros(self.rows, np.int32)
        for i, count in counts.items():
            row = self.indices.index(i)
            ranges[row], steps[row] = orders[i], count
        return length_ranges(ranges), steps

    def _take(
        self, i: int, metrics: Mapping[str, np.ndarray], phase: Phase, clock: Mapping[str, float]
    ) -> None:
        ledger = self.group.ledgers[i]
        if error := ledger.divergence(metrics):
            self.group.errors[i] = error
            return
        ledger.take(metrics, phase, **clock)

    def _log(self, phases: Mapping[int, Phase]) -> None:
        """Hands the records on, with the accuracies that are to be measured now."""
        group, extra = self.group, {}
        good = [i for i in phases if i not in group.errors]
        due = [i for i in good if group.ledgers[i].measures(phases[i])]
        if due:
            accuracies = measured_accuracy(
                group.graphdef, group.sample, group.config, self.state, members=True
            )
            extra = {i: {SOLVED_ACCURACY: float(accuracies[self.indices.index(i)])} for i in due}
        for i in good:
            with self._noted(i):
                group.ledgers[i].log(phases[i], extra.get(i))

    def _keep(self, active: Sequence[int]) -> None:
        """Saves where it is time to, and lets go of those that have ended."""
        group = self.group
        good = [i for i in active if i not in group.errors]
        every = group.config.checkpoint_every
        self._save(
            i for i in good if group.ledgers[i].has_ended or group.ledgers[i].step % every == 0
        )
        for i in good:
            if group.ledgers[i].has_ended and i not in group.errors:
                self._end(i)
        for i in active:
            checkpoints = group.ledgers[i].checkpoints
            if isinstance(group.errors.get(i), NonFiniteLossError):
                if checkpoints is not None:
                    with self._noted(i):
                        checkpoints.restore_model(group.members[i].model)
                self._let_go(i)
        self._drop_failed()

    @contextmanager
    def _noted(self, i: int) -> Iterator[None]:
        """A member whose files cannot be written fails alone."""
        try:
            yield
        except (OSError, CorruptCheckpointError) as error:
            self.group.errors.setdefault(i, error)

    def _drop_failed(self) -> None:
        """Lets go of those whose files could not be written."""
        for i in self.training:
            if i in self.group.errors:
                self._let_go(i)

    def _save(self, indices: Iterable[int]) -> None:
        for i in list(indices):
            ledger = self.group.ledgers[i]
            if ledger.checkpoints is not None and ledger.saved != ledger.step:
                with self._noted(i):
                    ledger.save(self._state_of(i))

    def _state_of(self, i: int) -> TrainState:
        return _row(self.state, self.indices.index(i))

    def _end(self, i: int) -> None:
        self.group.hand_over(i, self._state_of(i))
        self._let_go(i)

    def _let_go(self, i: int) -> None:
        with self._noted(i):
            self.group.ledgers[i].tracker.close(self.group.result(i).status)
            self.group.announce(i)
        self.group.states.pop(i)
        self.ended.add(i)

    def _compact(self, seconds_a_step: float, compile_seconds: float) -> None:
        """Goes on with a smaller program where that pays."""
        training = self.training
        rows = self.group.rounded(max(len(training), 1))
        if not training or rows > self.rows // 2:
            return
        self.compiling = max(self.compiling, compile_seconds)
        ledgers = [self.group.ledgers[i] for i in training]
        steps = max(ledger.end - ledger.step for ledger in ledgers)
        saved = steps * seconds_a_step * (1 - rows / self.rows)
        if saved < _WORTH * self.compiling:
            return
        for i in training:
            self.group.states[i] = self._state_of(i)
        self.indices = training
        self._load(rows)


def _initial(member: Member) -> tuple[nnx.GraphDef[Any], TrainState]:
    config = member.config.optimizer
    optimizer = make_optimizer(config, member.config.steps)
    averages = member.config.average is not None
    graphdef, state = init_state(member.model, optimizer, member.key, average=averages)
    values = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay}
    return graphdef, replace(state, optimizer=with_hyperparameters(state.optimizer, **values))


def _report(progress: Tracker, step: int, records: Sequence[Record]) -> None:
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


@jax.jit
def _row(state: TrainState, index: Array) -> TrainState:
    return jax.tree.map(lambda x: x[index], state)


@jax.jit
def stacked(states: Sequence[TrainState]) -> TrainState:
    """States as one, with a first axis of members."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
