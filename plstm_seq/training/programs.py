"""The compiled programs of a training, and what their metrics add up to."""

from __future__ import annotations

from collections.abc import Mapping
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
    LengthRange,
    Sample,
    TrainState,
    make_dispatch,
    make_train_step,
)
from plstm_seq.training.trackers import Record


class ProgramKey(NamedTuple):
    """All that a program is compiled for; what is not here it takes as an argument."""

    graphdef: nnx.GraphDef[Any]
    sample: Sample
    optimizer: OptimizerConfig
    steps: int
    batch_size: int
    bucket: int
    draw: Draw
    label_smoothing: float
    capacity: int
    structure: Any  # of the state, a `jax.tree_util.PyTreeDef`
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    # Whether the state has members as its first axis, split over the mesh's axis `member`.
    members: bool
    # Otherwise the batch is split over the mesh's axis `data`.
    mesh: Mesh | None


def program_key(
    graphdef: nnx.GraphDef[Any],
    sample: Sample,
    config: TrainingConfig,
    bucket: int,
    state: TrainState,
    *,
    members: bool = False,
    mesh: Mesh | None = None,
) -> ProgramKey:
    """The key of the program that trains `state` on arrays of length `bucket`."""
    leaves, structure = jax.tree.flatten(state)
    return ProgramKey(
        graphdef=graphdef,
        sample=sample,
        optimizer=config.optimizer.without_leaves(),
        steps=config.steps,
        batch_size=config.batch_size,
        bucket=bucket,
        draw=config.curriculum.draw,
        label_smoothing=config.label_smoothing,
        capacity=config.steps_per_dispatch,
        structure=structure,
        leaves=tuple(
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) for leaf in leaves
        ),
        members=members,
        mesh=mesh,
    )


@lru_cache(maxsize=32)
def compile_program(key: ProgramKey) -> jax.stages.Compiled:
    """Compile up to `key.capacity` training steps into one program, see `make_dispatch`.

    Kept from one call of `fit` to the next: seeds and learning rates share programs. The state
    that goes in is donated.
    """
    data = None if key.members else key.mesh
    step = make_train_step(
        key.graphdef,
        make_optimizer(key.optimizer, key.steps),
        key.sample,
        batch_size=key.batch_size,
        bucket=key.bucket,
        draw=key.draw,
        label_smoothing=key.label_smoothing,
        batch_sharding=None if data is None else over_data(data),
    )
    dispatch = make_dispatch(step, key.capacity)
    state = jax.tree.unflatten(key.structure, key.leaves)
    count = np.int32(1)
    if key.members:
        dispatch = over_members(dispatch, key.mesh)
        count = np.ones(state.step.shape, np.int32)
    # Parameters and metrics whole on every device, where the batch is split.
    results = None if data is None else whole(data)
    program = jax.jit(dispatch, donate_argnums=0, out_shardings=results)
    return program.lower(state, LengthRange(np.int32(1), np.int32(key.bucket)), count).compile()


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
        Means of `loss` and `gradient_norm` over the steps, `token_accuracy` and
        `sequence_accuracy` over everything scored in them, the last `learning_rate`, and the sum
        of `tokens`.
    """
    total = {
        name: int(value.sum(dtype=np.int64))
        for name, value in metrics.items()
        if value.dtype.kind == "i"
    }
    return {
        "loss": float(metrics["loss"].mean(dtype=np.float64)),
        "token_accuracy": total["correct_tokens"] / max(total["scored_tokens"], 1),
        "sequence_accuracy": total["correct_sequences"] / max(total["scored_sequences"], 1),
        "gradient_norm": float(metrics["gradient_norm"].mean(dtype=np.float64)),
        "learning_rate": float(metrics["learning_rate"][-1]),
        "tokens": total["tokens"],
    }


def length_range(phase: Phase) -> LengthRange:
    """A phase's shortest and longest length as arrays."""
    return LengthRange(np.int32(phase.minimum), np.int32(phase.maximum))
