"""The compiled programs of a training, and what their metrics add up to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array

from plstm_seq.batches import Examples, Sample
from plstm_seq.training.config import Solved, TrainingConfig
from plstm_seq.training.curriculum import Draw, Phase
from plstm_seq.training.devices import over_data, over_members, whole
from plstm_seq.training.loss import Loss
from plstm_seq.training.optimizer import OptimizerConfig, make_optimizer
from plstm_seq.training.records import Record
from plstm_seq.training.step import (
    LengthRange,
    TrainState,
    make_dispatch,
    make_host_step,
    make_train_step,
)

# Folded into a training's key for sequences that are measured: no step has this number.
_MEASURING = 0x7FFF_50DE


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
    average: float | None
    consistency: float
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
        last_stage=config.curriculum.last_stage(config.steps),
        batch_size=config.batch_of(bucket),
        bucket=bucket,
        draw=config.curriculum.draw,
        label_smoothing=config.label_smoothing,
        loss=config.loss,
        average=config.average,
        consistency=config.consistency,
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
            average=key.average,
            consistency=key.consistency,
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
        average=key.average,
        consistency=key.consistency,
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


class _Measuring(NamedTuple):
    """All that a program which measures accuracies is compiled for."""

    graphdef: nnx.GraphDef[Any]
    sample: Sample
    solved: Solved
    batch_sizes: tuple[int, ...]
    members: bool


def measured_accuracy(
    graphdef: nnx.GraphDef[Any],
    sample: Sample,
    config: TrainingConfig,
    state: TrainState,
    *,
    members: bool = False,
) -> np.ndarray:
    """The accuracy that `config.solved` asks for, on new sequences of its lengths.

    They are a function of the state's key and step. As many symbols are run at once as the largest
    batch of training has.

    Returns:
        float64 [], or [members]: of several lengths the smallest.
    """
    solved = config.solved
    if solved is None or not solved.is_measured:
        raise ValueError(f"solved: got {solved}, expected one with lengths or a mixture")
    count, bucket = config.largest_batch
    sizes = tuple(
        max(1, min(len(lengths), config.batch_size, count * bucket // max(lengths)))
        for lengths in solved.sets
    )
    program = _measuring(_Measuring(graphdef, sample, solved, sizes, members))
    counts = np.asarray(program(state), np.float64)
    return (counts[..., 0] / np.maximum(counts[..., 1], 1)).min(-1)


@lru_cache(maxsize=8)
def _measuring(key: _Measuring) -> Callable[[TrainState], Array]:
    """A program from a state to what is right and what is scored, int32 [sets, 2]."""

    def measure(state: TrainState) -> Array:
        model: Any = nnx.merge(key.graphdef, state.parameters, state.rest, copy=True)
        base = jax.random.fold_in(jax.random.fold_in(state.key, _MEASURING), state.step)
        sets = zip(key.solved.sets, key.batch_sizes, strict=True)
        counts = [
            _counts(model, key, jax.random.fold_in(base, number), lengths, size)
            for number, (lengths, size) in enumerate(sets)
        ]
        return jnp.stack(counts)

    return jax.jit(jax.vmap(measure) if key.members else measure)


def _counts(
    model: Any, key: _Measuring, set_key: Array, lengths: tuple[int, ...], size: int
) -> Array:
    """What is right, of how much, int32 [2], in sequences of these lengths run `size` at once."""
    batches = -(-len(lengths) // size)
    # What fills up the last batch does not count.
    padded = np.array(lengths + lengths[-1:] * (batches * size - len(lengths)), np.int32)
    counted = np.arange(len(padded)) < len(lengths)

    def count(part: tuple[Array, Array, Array]) -> Array:
        index, own, counted = part
        batch_key = jax.random.fold_in(set_key, index)
        batch = key.sample(batch_key, size, max(lengths), lengths=own)
        if batch.mask.ndim != 2:
            raise ValueError("solved: got lengths or a mixture, expected inputs that are sequences")
        mask = batch.mask & counted[:, None]
        right = model(batch.inputs).argmax(-1) == batch.targets
        if key.solved.metric == "last_accuracy":
            mask &= jnp.cumsum(mask, -1) == mask.sum(-1, keepdims=True)
        if key.solved.metric == "sequence_accuracy":
            right, mask = (right | ~mask).all(-1), mask.any(-1)
        return jnp.stack([(right & mask).sum(), mask.sum()]).astype(jnp.int32)

    parts = (np.arange(batches), *(x.reshape(batches, size) for x in (padded, counted)))
    return jax.lax.map(count, jax.tree.map(jnp.asarray, parts)).sum(0, dtype=jnp.int32)


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
        of `tokens`. With a consistency term its mean `consistency` over the pairs that counted,
        left out where none did, and the share of those, `consistency_share`.
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
    consistency = {}
    if counted := total.get("counted_pairs"):
        defects = metrics["consistency"].astype(np.float64) * metrics["counted_pairs"]
        consistency["consistency"] = float(defects.sum() / counted)
    if "asked_pairs" in total:
        consistency["consistency_share"] = total["counted_pairs"] / total["asked_pairs"]
    return {
        "loss": float(metrics["loss"].mean(dtype=np.float64)),
        **accuracies,
        **consistency,
        "gradient_norm": float(metrics["gradient_norm"].mean(dtype=np.float64)),
        "learning_rate": float(metrics["learning_rate"][-1]),
        "tokens": total["tokens"],
    }


def length_range(phase: Phase, last_begun: int | None = None) -> LengthRange:
    """A phase's shortest and longest length as arrays; `last_begun` as in `LengthRange`."""
    begun = None if last_begun is None else np.int32(last_begun)
    return LengthRange(np.int32(phase.minimum), np.int32(phase.maximum), begun)


def length_ranges(ranges: Sequence[LengthRange]) -> LengthRange:
    """The ranges of lengths of several members, joined to arrays [members]."""
    return jax.tree.map(lambda *numbers: np.stack(numbers), *ranges)
