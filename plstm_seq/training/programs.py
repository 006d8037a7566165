"""The compiled programs of a training, and what their metrics add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from plstm_seq.training.config import TrainingConfig
from plstm_seq.training.curriculum import Draw, Phase
from plstm_seq.training.mesh import over_data, over_members, whole
from plstm_seq.training.optimizer import OptimizerConfig, make_optimizer
from plstm_seq.training.step import (
    Examples,
    LengthRange,
    Loss,
    Sample,
    TrainState,
    make_dispatch,
    make_host_step,
    make_train_step,
)
from plstm_seq.training.trackers import Record


class Shapes(NamedTuple):
    """A tree of arrays without their numbers, to be compared and hashed."""

    structure: Any  # a `jax.tree_util.PyTreeDef`
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    @classmethod
    def of(cls, tree: Any) -> Shapes:
        """The shapes, types and places of a tree's arrays."""
        leaves, structure = jax.tree.flatten(tree)
        shapes = (
            jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None))
            for x in leaves
        )
        return cls(structure, tuple(shapes))

    @property
    def tree(self) -> Any:
        """The tree, with shapes for leaves."""
        return jax.tree.unflatten(self.structure, self.leaves)


class ProgramKey(NamedTuple):
    """All that a program is compiled for; what is not here it takes as an argument."""

    graphdef: nnx.GraphDef[Any]
    # What draws the batch, or the shapes of one that is handed in: structure and leaves.
    batch: Sample | Shapes
    optimizer: OptimizerConfig
    steps: int
    last_stage: int | None
    batch_size: int
    bucket: int
    draw: Draw
    label_smoothing: float
    loss: Loss
    capacity: int
    state: Shapes
    # Whether the state has members as its first axis, split over the mesh's axis `member`.
    members: bool
    # Otherwise the batch is split over the mesh's axis `data`.
    mesh: Mesh | None


def program_key(
    graphdef: nnx.GraphDef[Any],
    batch: Sample | Examples,
    config: TrainingConfig,
    bucket: int,
    state: TrainState,
    *,
    members: bool = False,
    mesh: Mesh | None = None,
) -> ProgramKey:
    """The key of the program that trains `state` on arrays of length `bucket`.

    `batch` is what draws them, or one of them: the program then takes a batch a step.
    """
    return ProgramKey(
        graphdef=graphdef,
        batch=batch if callable(batch) else Shapes.of(batch),
        optimizer=config.optimizer.without_leaves(),
        steps=config.steps,
        last_stage=config.curriculum.last_stage,
        batch_size=config.batch_of(bucket),
        bucket=bucket,
        draw=config.curriculum.draw,
        label_smoothing=config.label_smoothing,
        loss=config.loss,
        capacity=config.steps_per_dispatch,
        state=Shapes.of(state),
        members=members,
        mesh=mesh,
    )


@lru_cache(maxsize=32)
def compile_program(key: ProgramKey) -> jax.stages.Compiled:
    """Compile training steps into one program.

    Up to `key.capacity` of them that draw their batches (see `make_dispatch`), or one on a batch
    that is handed in (`make_host_step`). Kept from one call of `fit` to the next: seeds and
    learning rates share programs. The state that goes in is donated.
    """
    data = None if key.members else key.mesh
    optimizer = make_optimizer(key.optimizer, key.steps, key.last_stage)
    batch_sharding = None if data is None else over_data(data)
    # Parameters and metrics whole on every device, where the batch is split.
    results = None if data is None else whole(data)
    if isinstance(key.batch, Shapes):
        host_step = make_host_step(
            key.graphdef,
            optimizer,
            label_smoothing=key.label_smoothing,
            loss=key.loss,
            batch_sharding=batch_sharding,
        )
        program = jax.jit(host_step, donate_argnums=0, out_shardings=results)
        return program.lower(key.state.tree, key.batch.tree).compile()
    step = make_train_step(
        key.graphdef,
        optimizer,
        key.batch,
        batch_size=key.batch_size,
        bucket=key.bucket,
        draw=key.draw,
        label_smoothing=key.label_smoothing,
        loss=key.loss,
        batch_sharding=batch_sharding,
    )
    dispatch = make_dispatch(step, key.capacity)
    state = key.state.tree
    if key.members:
        dispatch = over_members(dispatch, key.mesh)
    number: Any = jax.ShapeDtypeStruct(state.step.shape, np.int32)
    lengths = LengthRange(number, number, None if key.last_stage is None else number)
    program = jax.jit(dispatch, donate_argnums=0, out_shardings=results)
    return program.lower(state, lengths, number).compile()


def memory_of(program: jax.stages.Compiled) -> int | None:
    """Bytes on a device of a program's arguments and temporaries, by the compiler's account."""
    analysis = program.memory_analysis()
    if analysis is None:
        return None
    return analysis.argument_size_in_bytes + analysis.temp_size_in_bytes


def larger(one: int | None, other: int | None) -> int | None:
    """The larger of two numbers of which either may be unknown."""
    return max((x for x in (one, other) if x is not None), default=None)


def summarize(metrics: Mapping[str, np.ndarray]) -> Record:
    """One record of the metrics of several steps (arrays [steps], see `make_train_step`).

    Returns:
        Means of `loss` and `gradient_norm` over the steps, of labels `token_accuracy` and
        `sequence_accuracy` over everything scored in them, the last `learning_rate`, and the sum
        of `tokens`.
    """
    total = {
        name: int(value.sum(dtype=np.int64))
        for name, value in metrics.items()
        if value.dtype.kind == "i"
    }
    accuracies = {
        f"{name}_accuracy": total[f"correct_{name}s"] / max(total[f"scored_{name}s"], 1)
        for name in ("token", "sequence")
        if f"correct_{name}s" in total
    }
    return {
        "loss": float(metrics["loss"].mean(dtype=np.float64)),
        **accuracies,
        "gradient_norm": float(metrics["gradient_norm"].mean(dtype=np.float64)),
        "learning_rate": float(metrics["learning_rate"][-1]),
        "tokens": total["tokens"],
    }


def length_range(phase: Phase, last_begun: int | None = None) -> LengthRange:
    """A phase's shortest and longest length as arrays; `last_begun` as in `LengthRange`."""
    begun = None if last_begun is None else np.int32(last_begun)
    return LengthRange(np.int32(phase.minimum), np.int32(phase.maximum), begun)


def length_ranges(ranges: Sequence[LengthRange]) -> LengthRange:
    """Those of the members of a program, as arrays [members]."""
    return jax.tree.map(lambda *numbers: np.stack(numbers), *ranges)
