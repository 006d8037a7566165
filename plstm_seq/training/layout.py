"""Where the training states of an engine lie, where their batches come from, and what runs them.

One state is taken as it is, so that a single run computes the same whatever else there is; its
batches are drawn on the device (`Drawn`) or made on the host (`Hosted`), on one device or split
over a mesh. Many states are one with a first axis of members (`Stacked`).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array

from plstm_seq.batches import Examples, HostSample, Sample
from plstm_seq.training.config import TrainingConfig
from plstm_seq.training.devices import Device, device_memory, member_mesh, replicate, split_members
from plstm_seq.training.programs import (
    Shapes,
    compile_program,
    larger,
    length_ranges,
    measured_accuracy,
    memory_of,
    program_key,
)
from plstm_seq.training.step import LengthRange, TrainState

# Arrays [steps] by name.
Metrics = dict[str, np.ndarray]


class Layout(ABC):
    """The states of one engine and the programs that train them.

    Attributes:
        memory_bytes: what the largest program takes on a device; None: not known.
        compile_seconds: the time spent on compiling so far.
    """

    members = False

    def __init__(
        self,
        graphdef: nnx.GraphDef[Any],
        sample: Sample | HostSample,
        config: TrainingConfig,
        mesh: Mesh | None,
    ):
        self.graphdef, self.sample, self.config, self.mesh = graphdef, sample, config, mesh
        self.memory_bytes: int | None = None
        self.compile_seconds = 0.0
        self._programs: dict[Any, jax.stages.Compiled] = {}

    def rows(self, count: int) -> int:
        """Returns how many rows a program for `count` members has."""
        return count

    def fitting(self, count: int, state: TrainState) -> int:
        """Returns how many of `count` members like `state` fit into the memory at once."""
        del state
        return count

    @abstractmethod
    def place(self, state: TrainState) -> TrainState:
        """Places a new state where a checkpoint is to be read."""

    @abstractmethod
    def join(self, states: Sequence[TrainState], rows: int) -> TrainState:
        """Joins the states into the one that a program takes."""

    @abstractmethod
    def row(self, state: TrainState, index: int) -> TrainState:
        """Returns the state of one member."""

    @abstractmethod
    def advance(
        self, state: TrainState, bucket: int, orders: Sequence[LengthRange], steps: np.ndarray
    ) -> tuple[TrainState, list[Metrics]]:
        """Takes `steps` [rows] steps on arrays of length `bucket`, and returns measures by row."""

    def measured(self, state: TrainState) -> np.ndarray:
        """Returns the accuracies [rows] that may end training, see `measured_accuracy`."""
        sample: Any = self.sample
        return np.atleast_1d(
            measured_accuracy(self.graphdef, sample, self.config, state, members=self.members)
        )

    def program(
        self, state: TrainState, batch: Sample | Examples, bucket: int
    ) -> jax.stages.Compiled:
        """Returns the program that trains `state` on what `batch` draws, or on batches like it."""
        # Few keys, each soon made: that of `compile_program` takes milliseconds to hash.
        key = (state.step.shape, bucket, None if callable(batch) else Shapes.of(batch))
        if key not in self._programs:
            entered = time.perf_counter()
            self._programs[key] = compile_program(
                program_key(
                    self.graphdef,
                    batch,
                    self.config,
                    bucket,
                    state,
                    members=self.members,
                    mesh=self.mesh,
                )
            )
            self.memory_bytes = larger(self.memory_bytes, memory_of(self._programs[key]))
            self.compile_seconds += time.perf_counter() - entered
        return self._programs[key]


class _Single(Layout):
    """A single state, without an axis of members; on a mesh every device has all of it."""

    def place(self, state: TrainState) -> TrainState:
        return state if self.mesh is None else replicate(state, self.mesh)

    def join(self, states: Sequence[TrainState], rows: int) -> TrainState:
        del rows
        return states[0]

    def row(self, state: TrainState, index: int) -> TrainState:
        del index
        return state


class Drawn(_Single):
    """A single state whose batches are drawn inside the program."""

    def advance(
        self, state: TrainState, bucket: int, orders: Sequence[LengthRange], steps: np.ndarray
    ) -> tuple[TrainState, list[Metrics]]:
        """See `Layout`; all steps are taken by one call of the program."""
        sample: Any = self.sample
        state, metrics = self.program(state, sample, bucket)(state, orders[0], steps[0])
        return state, [_first(metrics, steps[0])]


class Hosted(_Single):
    """A single state whose batches are made by a thread while the device works on earlier ones.

    Args:
        key: of the training; the rest as of `Layout`.
        depth: how many batches are made ahead.
    """

    def __init__(
        self,
        graphdef: nnx.GraphDef[Any],
        sample: HostSample,
        config: TrainingConfig,
        mesh: Mesh | None,
        *,
        key: Array,
        depth: int = 2,
    ):
        super().__init__(graphdef, sample, config, mesh)
        self._sample = sample
        self._seed = [int(word) for word in np.asarray(jax.random.key_data(key)).ravel()]
        self._depth = depth
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._made: dict[int, Future[Examples]] = {}

    def __enter__(self) -> Hosted:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def advance(
        self, state: TrainState, bucket: int, orders: Sequence[LengthRange], steps: np.ndarray
    ) -> tuple[TrainState, list[Metrics]]:
        """See `Layout`; a call of the program takes one step."""
        del orders
        first, taken = int(state.step), []
        for step in range(first, first + int(steps[0])):
            batch = self._take(step)
            state, metrics = self.program(state, batch, bucket)(state, batch)
            taken.append(metrics)
        return state, [{name: np.stack([np.asarray(x[name]) for x in taken]) for name in taken[0]}]

    def _take(self, step: int) -> Examples:
        """Returns the batch of a step, or raises the error that making it raised."""
        for ahead in range(step, min(step + self._depth + 1, self.config.steps)):
            if ahead not in self._made:
                self._made[ahead] = self._pool.submit(self._make, ahead)
        return self._made.pop(step).result()

    def _make(self, step: int) -> Examples:
        phase = self.config.curriculum.phase(step)
        batch = self.config.batch_of(phase.bucket)
        return self._sample.on_host(self._seed, step, batch, phase.maximum)


class Stacked(Layout):
    """Many states joined along a first axis of members; batches are drawn inside the program.

    Args:
        devices: over which members are split.
        memory_limit: bytes that a program may take on one of them; None: what the device has.
    """

    members = True

    def __init__(
        self,
        graphdef: nnx.GraphDef[Any],
        sample: Sample,
        config: TrainingConfig,
        *,
        devices: Sequence[Device],
        memory_limit: int | None,
    ):
        super().__init__(graphdef, sample, config, member_mesh(devices))
        self._devices = len(devices)
        self._limit = device_memory(devices[0]) if memory_limit is None else memory_limit

    def rows(self, count: int) -> int:
        """See `Layout`; a multiple of the devices."""
        return -(-count // self._devices) * self._devices

    def fitting(self, count: int, state: TrainState) -> int:
        """See `Layout`; members are trained in parts of one size."""
        if self._limit is None or count == 1:
            return count
        _, bucket = self.config.largest_batch
        rows = self.rows(count)
        sample: Any = self.sample
        need = memory_of(self.program(self.join([state], rows), sample, bucket))
        if need is None or need <= self._limit:
            return count
        self.memory_bytes = None  # that program will not run
        self._programs.clear()
        most = max(1, rows * self._limit // need // self._devices * self._devices)
        parts = -(-count // most)
        return -(-count // parts)

    def place(self, state: TrainState) -> TrainState:
        """See `Layout`; checkpoints are read member by member."""
        return state

    def join(self, states: Sequence[TrainState], rows: int) -> TrainState:
        """See `Layout`; copies of the last fill up the rows."""
        filled = [*states, *[states[-1]] * (rows - len(states))]
        return split_members(stacked(filled), self.mesh)

    def row(self, state: TrainState, index: int) -> TrainState:
        """See `Layout`."""
        return _row(state, index)  # pyright: ignore[reportArgumentType]

    def advance(
        self, state: TrainState, bucket: int, orders: Sequence[LengthRange], steps: np.ndarray
    ) -> tuple[TrainState, list[Metrics]]:
        """See `Layout`; a row that has taken its steps is left as it is while others go on."""
        sample: Any = self.sample
        program = self.program(state, sample, bucket)
        state, metrics = program(state, length_ranges(orders), steps)
        arrays = {name: np.asarray(value) for name, value in metrics.items()}
        by_row = [{name: x[row] for name, x in arrays.items()} for row in range(len(steps))]
        return state, [_first(own, count) for own, count in zip(by_row, steps, strict=True)]


def _first(metrics: Any, count: int) -> Metrics:
    """Returns what a program measured in the steps that it took."""
    return {name: np.asarray(value)[:count] for name, value in metrics.items()}


@jax.jit
def _row(state: TrainState, index: Array) -> TrainState:
    return jax.tree.map(lambda x: x[index], state)


@jax.jit
def stacked(states: Sequence[TrainState]) -> TrainState:
    """Joins states along a first axis of members."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
