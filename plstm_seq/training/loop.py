"""`fit` trains one model, `fit_members` many of one shape in one program, both by one engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array

from plstm_seq.training.config import VALIDATION, TrainingConfig
from plstm_seq.training.devices import Device, check_mesh
from plstm_seq.training.engine import Engine, Member, Validate
from plstm_seq.training.layout import Drawn, Hosted, Stacked
from plstm_seq.training.leaves import is_key
from plstm_seq.training.ledger import FitResult
from plstm_seq.training.loss import check_consistency
from plstm_seq.training.step import HostSample, Sample
from plstm_seq.training.trackers import Tracker


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

    A run that is killed loses at most the steps since its last checkpoint. Resumed, it ends with
    the same parameters and records (except for times) as if it had never stopped, bit for bit on
    the CPU.

    Args:
        model: called as `model(inputs [B, T]) -> logits [B, T, V]`; it holds the trained parameters
            afterwards, also after Ctrl-C. For images, grids and graphs see `Examples`.
        sample: draws a batch, see `Sample`; jax must be able to trace it. A `HostSample` makes the
            batches on the host, ahead of time and in another thread.
        config: lengths, steps and optimizer; None: the defaults of `TrainingConfig`.
        key: typed key; training is a function of it and of `model`'s parameters.
        folder: where checkpoints are written; None: none are kept.
        resume: whether to continue from the latest whole checkpoint in `folder`; without one,
            training begins at the start.
        trackers: receive the records, see `Tracker`.
        validate: called every `validate_every` steps with a copy of the model that is valid only
            during the call; the record gets its numbers, with `validation_` before their names.
        mesh: devices with an axis `data`: every batch is split over them, and each has all
            parameters. They may be those of several processes, once `jax.distributed` is set up.
            None: one device.

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

    Example:
        >>> import jax
        >>> import tasks
        >>> from flax import nnx
        >>> from plstm_seq.layers.mixers import RNNConfig
        >>> from plstm_seq.models import SequenceModel, SequenceModelConfig
        >>> from plstm_seq.training import FitResult, TrainingConfig, Uniform, fit
        >>> options = SequenceModelConfig(width=8, mixer=RNNConfig())
        >>> model, sample = SequenceModel(2, options, rngs=nnx.Rngs(0)), tasks.get("parity").sample
        >>> config = TrainingConfig(steps=4, batch_size=8, curriculum=Uniform(1, 5))
        >>> result: FitResult = fit(model, sample, config, key=jax.random.key(0))
        >>> result.status, result.step, result.record["maximum_length"]
        ('finished', 4, 5)
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
    graphdef = nnx.split(model, nnx.Param, ...)[0]
    with ExitStack() as stack:
        if isinstance(sample, HostSample):
            layout = stack.enter_context(Hosted(graphdef, sample, config, mesh, key=key))
        else:
            layout = Drawn(graphdef, sample, config, mesh)
        engine = Engine(layout, tolerant=False, validate=validate)
        place = None if folder is None else Path(folder)
        member = Member(model, config, key, place, trackers)
        return engine.train([member], resume=resume)[0]


def _check_arguments(config: TrainingConfig, key: jax.Array, validate: Validate | None) -> None:
    if not is_key(key):
        raise TypeError(f"key must be a typed key (jax.random.key), got {key!r}")
    if validate is None and config.solved and config.solved.metric.startswith(VALIDATION):
        raise ValueError(f"solved.metric is {config.solved.metric!r} but no validate was given")


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

    A member that is solved or has diverged keeps its state while the others go on; it is taken out
    of the program where compiling a smaller one saves time. Members are resumed from their own
    folders; one that has ended is not changed. Each member has its own step and its own stage of
    the curriculum; where the stages have arrays of different lengths, members that are ahead wait.

    Args:
        members: the trainings. They have the same shapes and the same config, except for learning
            rate and weight decay, and their forward passes differ in nothing but variables.
        sample: draws a batch, see `Sample`.
        progress: receives the mean of the records of all members in training.
        memory_limit: the bytes on one device that a program may take, as the compiler counts them;
            members that do not fit together are trained one group after another. None: the memory
            of the device.
        devices: the devices that members are split over; None: all of this process.
        ended: called with a member's number and how it ended, as soon as it has ended.

    Returns:
        How each member ended, in their order. The model of a diverged member holds its last
        checkpoint, and the result says why it diverged. A member whose checkpoints cannot be read,
        or whose files cannot be written, has `failed`; the others go on.

    Raises:
        ValueError: members differ in more than they may, or stop early by validation, or have no
            transitions by token for a consistency term.
        TypeError: a key is not a typed key.
        KeyboardInterrupt: Ctrl-C; every member was saved first (a second Ctrl-C does not wait).

    Example:
        >>> import jax
        >>> import tasks
        >>> from flax import nnx
        >>> from plstm_seq.training import Member, TrainingConfig, Uniform, fit_members
        >>> config = TrainingConfig(steps=4, batch_size=8, curriculum=Uniform(1, 5))
        >>> models = [nnx.Embed(2, 2, rngs=nnx.Rngs(seed)) for seed in range(3)]  # logits by token
        >>> members = [Member(model, config, jax.random.key(0)) for model in models]
        >>> [result.status for result in fit_members(members, tasks.get("parity").sample)]
        ['finished', 'finished', 'finished']
    """
    if not members:
        return []
    _check_members(members, sample)
    layout = Stacked(
        nnx.split(members[0].model, nnx.Param, ...)[0],
        sample,
        members[0].config,
        devices=jax.local_devices() if devices is None else list(devices),
        memory_limit=memory_limit,
    )
    return Engine(layout, tolerant=True, ended=ended).train(members, progress=progress)


def _check_members(members: Sequence[Member], sample: Sample) -> None:
    """Refuses members that one program cannot train; see `fit_members`."""
    first = members[0]
    check_consistency(first.model, first.config.consistency)
    inputs = _inputs(sample, first.config)
    solved = first.config.solved
    if solved is not None and solved.metric.startswith(VALIDATION):
        raise ValueError(
            f"solved.metric is {solved.metric!r}: members are not validated while they train"
        )
    folders = [member.folder for member in members if member.folder is not None]
    if len(set(folders)) < len(folders):
        raise ValueError("two members have the same folder")
    shared = _shared(first.config)
    forms: dict[Any, str] = {}
    for number, member in enumerate(members):
        if not is_key(member.key):
            raise TypeError(f"key must be a typed key (jax.random.key), got {member.key!r}")
        if _shared(member.config) != shared:
            raise ValueError(
                f"member {number} trains otherwise than member 0: members may differ in "
                "learning_rate and weight_decay alone"
            )
        graphdef = nnx.split(member.model)[0]
        if graphdef not in forms:
            forms[graphdef] = _form(member.model, inputs)
        if forms[graphdef] != next(iter(forms.values())):
            raise ValueError(
                f"the model of member {number} computes otherwise than that of member 0: only "
                "values of variables may differ"
            )


def _shared(config: TrainingConfig) -> TrainingConfig:
    return replace(config, optimizer=replace(config.optimizer, learning_rate=1.0, weight_decay=0.0))


def _inputs(sample: Sample, config: TrainingConfig) -> Any:
    """Shapes of what a model is called with."""
    length = config.curriculum.phase(0).bucket
    lengths = jax.ShapeDtypeStruct((1,), jnp.int32)

    def draw(key: Array, lengths: Array) -> Any:
        return sample(key, 1, length, lengths=lengths).inputs

    return jax.eval_shape(draw, jax.eval_shape(lambda: jax.random.key(0)), lengths)


def _form(model: nnx.Module, inputs: Any) -> str:
    """What a model computes, as text: two that differ in variables alone have the same."""
    graphdef, state = nnx.split(model)

    def forward(state: nnx.State, inputs: Any) -> Any:
        return nnx.merge(graphdef, state)(inputs)  # pyright: ignore[reportCallIssue]

    jaxpr = jax.make_jaxpr(forward)(state, inputs)
    constants = [np.asarray(x).tolist() for x in jaxpr.consts]
    return re.sub(r"0x[0-9a-f]+", "", f"{jaxpr.jaxpr} {constants}")
