"""Checkpoints by orbax: written atomically, verified when read, falling back past a corrupt one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from flax import nnx
from jax.experimental import multihost_utils

from plstm_seq.training.disk import check_path, check_space, place, quiet_threads, why
from plstm_seq.training.leaves import (
    Leaves,
    describe,
    named_leaves,
    replace_leaves,
)
from plstm_seq.training.manifest import (
    SEALED,
    is_sealed,
    read_identity,
    read_sealed,
    write_manifest,
    write_sealed,
)
from plstm_seq.training.reading import META, Checkpoint, Reader
from plstm_seq.training.step import TrainState

# Saved as two items, so that evaluation reads the model without the optimizer's moments.
MODEL, TRAINING = "model", "training"
# The averaged parameters, where training keeps them.
AVERAGE = "average"


class Restored(NamedTuple):
    """A training state, the checkpoint it is from, and the notes saved beside it."""

    checkpoint: Checkpoint
    state: TrainState
    notes: dict[str, Any]

    @property
    def step(self) -> int:
        """The step it was saved at."""
        return self.checkpoint.step


class Checkpoints:
    """The checkpoints of one run: `folder/<step>/`, the last `keep` of them.

    Orbax gives a checkpoint its name when it is complete. Then a list of the hashes of its files
    seals it, and `sealed.json` notes its step. A checkpoint without a seal does not count: the
    process was killed while saving it. One that differs from its seal, or has lost it, is corrupt.

    Example:
        >>> import jax
        >>> import tasks
        >>> import tempfile
        >>> from plstm_seq.training import TrainingConfig, Uniform, fit
        >>> config = TrainingConfig(steps=4, checkpoint_every=2, curriculum=Uniform(1, 5))
        >>> sample, model = tasks.get("parity").sample, nnx.Embed(2, 2, rngs=nnx.Rngs(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = fit(model, sample, config, key=jax.random.key(0), folder=folder)
        ...     with Checkpoints(folder, read_only=True) as checkpoints:
        ...         checkpoints.steps()
        [0, 2, 4]
    """

    def __init__(self, folder: str | Path, *, keep: int = 3, read_only: bool = False):
        """Open a folder.

        Args:
            folder: where the checkpoints are. Unless `read_only`, it is created if it is missing,
                and checkpoints that were not completed are removed.
            keep: how many to keep, 2 or more, so that one is left while another is being saved.
            read_only: whether nothing may be changed; a training may then be running there.

        Raises:
            ValueError: `keep` is below 2, or the path is one that orbax cannot write to.
            FileNotFoundError: `read_only` and there is no such folder.
        """
        if keep < 2:
            raise ValueError(f"keep must be >= 2, got {keep}")
        self.folder = Path(folder).absolute()
        if read_only and not self.folder.is_dir():
            raise FileNotFoundError(f"no checkpoints: {self.folder} is not a folder")
        if not read_only:
            check_path(self.folder)
        self._read_only = read_only
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.LatestN(n=keep),
            create=not read_only,
            cleanup_tmp_directories=not read_only,
            enable_async_checkpointing=False,
        )
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=options,
            item_handlers={
                MODEL: ocp.StandardCheckpointHandler(),
                TRAINING: ocp.StandardCheckpointHandler(),
                AVERAGE: ocp.StandardCheckpointHandler(),
                META: ocp.JsonCheckpointHandler(),
            },
        )
        self._reader = Reader(self.folder, self._manager)
        self._place = place(self.folder)
        self._list = self.folder / SEALED
        self._listed = False
        if not read_only:
            with _first_process("clean up") as first:
                if first:
                    self._clean_up()
            self._manager.reload()

    def _clean_up(self) -> None:
        """Removes what was cut off while it was saved, where the list of complete ones says so."""
        steps, sealed = self._reader.steps(), read_sealed(self.folder)
        if sealed is None and not steps:
            write_sealed(self.folder, {})
        self._listed = self._list.exists()
        for step in steps:
            if sealed is not None and step not in sealed and not is_sealed(self._path(step)):
                shutil.rmtree(self._path(step))

    def _path(self, step: int) -> Path:
        return self._reader.path(step)

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        return [step for step in self._reader.steps() if is_sealed(self._path(step))]

    def save(self, state: TrainState, notes: Mapping[str, Any]) -> None:
        """Write a checkpoint named after `state.step`, then remove the oldest past `keep`.

        Args:
            state: what to save.
            notes: what else a resumed run must know; anything JSON can hold.

        Raises:
            PermissionError: the folder was opened with `read_only`.
            FileNotFoundError: the folder was removed, or another one is in its place.
            OSError: it could not be written; those before it are kept.
        """
        self._check_writable()
        # A new folder may have the place of a removed one, but not its list.
        if place(self.folder) != self._place or (self._listed and not self._list.exists()):
            raise FileNotFoundError(f"{self.folder} was removed while checkpoints were written")
        items = _leaves(state)
        meta = {
            "notes": dict(notes),
            "leaves": {name: describe(leaves) for name, leaves in items.items()},
        }
        step = int(state.step)
        try:
            check_space(self.folder, _size(items))
            with quiet_threads():
                self._manager.save(
                    step,
                    force=True,
                    args=ocp.args.Composite(
                        **{k: ocp.args.StandardSave(v) for k, v in items.items()},  # pyright: ignore[reportCallIssue]
                        meta=ocp.args.JsonSave(meta),  # pyright: ignore[reportCallIssue]
                    ),
                )
            with _first_process("seal") as first:
                if first:
                    self._seal(step)
        except (OSError, ValueError, RuntimeError) as error:  # orbax passes on what its parts raise
            for rest in self.folder.glob(f"{step}.*"):  # it takes room where there is none
                shutil.rmtree(rest, ignore_errors=True)
            raise OSError(
                f"the checkpoint of step {step} could not be written to {self.folder}: "
                f"{why(error, self.folder)}; earlier ones are kept"
            ) from error

    def _seal(self, step: int) -> None:
        identity = write_manifest(self._path(step))
        # Without the list of an older version: what is complete now was so then.
        known = read_sealed(self.folder) or {}
        there = {n: known[n] if n in known else read_identity(self._path(n)) for n in self.steps()}
        write_sealed(self.folder, there | {step: identity})
        self._listed = True

    def restore(self, target: TrainState) -> Restored | None:
        """Read the latest checkpoint that is whole, skipping corrupt ones with a warning.

        Args:
            target: a state of the structure, shapes, types and placement to read into.

        Returns:
            What was saved, or None if the folder holds no checkpoint.

        Raises:
            ValueError: the checkpoint is of another model or optimizer than `target`.
            CorruptCheckpointError: there are checkpoints, and none can be read.
        """
        found = self._reader.latest(_leaves(target))
        if found is None:
            return None
        checkpoint, items, notes = found
        return Restored(checkpoint, _with_leaves(target, items), notes)

    def restore_model(self, model: nnx.Module, *, average: bool = False) -> Checkpoint | None:
        """Read only the model's variables of the latest whole checkpoint, into `model` itself.

        Args:
            model: of the structure that was trained.
            average: take the averaged parameters instead of the last ones.

        Returns:
            The checkpoint they are from, or None if the folder holds none.

        Raises:
            ValueError: the checkpoint is of another model, or has no averaged parameters.
            CorruptCheckpointError: there are checkpoints, and none can be read.
        """
        state, parameters = nnx.state(model), nnx.state(model, nnx.Param)
        target = {MODEL: named_leaves(state)}
        if average:
            target[AVERAGE] = named_leaves(parameters)
        found = self._reader.latest(target)
        if found is None:
            return None
        nnx.update(model, replace_leaves(state, found[1][MODEL]))
        if average:
            nnx.update(model, replace_leaves(parameters, found[1][AVERAGE]))
        return found[0]

    def restore_parameters(self, model: nnx.Module) -> Checkpoint | None:
        """Read only the parameters (`nnx.Param`) of the latest whole checkpoint, into `model`.

        The model's other variables, such as rates of dropout, stay as they are.

        Returns:
            The checkpoint they are from, or None if the folder holds none.

        Raises:
            ValueError: the checkpoint's parameters have other names, shapes or types.
            CorruptCheckpointError: there are checkpoints, and none can be read.
        """
        _, parameters, rest = nnx.split(model, nnx.Param, ...)
        others = named_leaves(rest).keys()
        # Those of the other model, too: they are rates, of shape [].
        found = self._reader.latest(
            {MODEL: named_leaves(parameters)},
            lambda name, description: name in others or description.endswith("[]"),
        )
        if found is None:
            return None
        nnx.update(model, replace_leaves(parameters, found[1][MODEL]))
        return found[0]

    def discard_after(self, step: int) -> None:
        """Set aside checkpoints past `step` as `corrupt-<step>`, out of a resumed run's way.

        Raises:
            PermissionError: the folder was opened with `read_only`.
        """
        self._check_writable()
        with _first_process("set aside") as first:
            later = [other for other in self._reader.steps() if first and other > step]
            for other in later:
                target = self.folder / f"corrupt-{other}"
                number = 1
                while target.exists():
                    target = self.folder / f"corrupt-{other}-{number}"
                    number += 1
                self._path(other).rename(target)
            sealed = read_sealed(self.folder) if first else None
            if sealed is not None and max(sealed, default=step) > step:
                write_sealed(self.folder, {n: x for n, x in sealed.items() if n <= step})
        self._manager.reload()

    def close(self) -> None:
        """Release orbax's threads."""
        self._manager.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_writable(self) -> None:
        if self._read_only:
            raise PermissionError(f"{self.folder} was opened with read_only=True")


def load_model(model: nnx.Module, folder: str | Path, *, average: bool = False) -> Checkpoint:
    """Read the latest whole checkpoint into `model`; a training may be running in the folder.

    Args:
        model: a model of the structure that was trained; its variables are replaced.
        folder: the run's folder of checkpoints.
        average: whether to take the averaged parameters instead of the last ones.

    Returns:
        The checkpoint that was read.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the checkpoint is of another model, or has no averaged parameters.
        CorruptCheckpointError: there are checkpoints, and none can be read.

    Example:
        >>> import tasks
        >>> import tempfile
        >>> from plstm_seq.training import Checkpoint, TrainingConfig, Uniform, fit
        >>> config, sample = TrainingConfig(4, curriculum=Uniform(1, 5)), tasks.get("parity").sample
        >>> trained, model = (nnx.Embed(2, 2, rngs=nnx.Rngs(seed)) for seed in (0, 1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = fit(trained, sample, config, key=jax.random.key(0), folder=folder)
        ...     checkpoint: Checkpoint = load_model(model, folder)
        >>> checkpoint.step, bool((model.embedding[...] == trained.embedding[...]).all())
        (4, True)
    """
    with Checkpoints(folder, read_only=True) as checkpoints:
        found = checkpoints.restore_model(model, average=average)
    if found is None:
        raise FileNotFoundError(f"no checkpoint in {folder}")
    return found


def load_parameters(model: nnx.Module, folder: str | Path) -> Checkpoint:
    """Read the latest whole checkpoint's parameters into `model`, to train it further from there.

    Args:
        model: a model with the same parameters; they are replaced. Its other variables, such as
            rates of dropout, stay as they are.
        folder: the run's folder of checkpoints.

    Returns:
        The checkpoint that was read.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the checkpoint's parameters have other names, shapes or types; says which.
        CorruptCheckpointError: there are checkpoints, and none can be read.

    Example:
        >>> import tasks
        >>> import tempfile
        >>> from plstm_seq.training import TrainingConfig, Uniform, fit
        >>> config, sample = TrainingConfig(4, curriculum=Uniform(1, 5)), tasks.get("parity").sample
        >>> trained, model = (nnx.Embed(2, 2, rngs=nnx.Rngs(seed)) for seed in (0, 1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = fit(trained, sample, config, key=jax.random.key(0), folder=folder)
        ...     load_parameters(model, folder).step
        4
    """
    with Checkpoints(folder, read_only=True) as checkpoints:
        found = checkpoints.restore_parameters(model)
    if found is None:
        raise FileNotFoundError(f"no checkpoint in {folder}")
    return found


@contextmanager
def _first_process(what: str) -> Iterator[bool]:
    """Yields whether this is the first of several processes; at the end all wait for it."""
    yield jax.process_index() == 0
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def _size(items: dict[str, Leaves]) -> int:
    """Bytes of all arrays."""
    return sum(x.nbytes for leaves in items.values() for x in leaves.values())


def _leaves(state: TrainState) -> dict[str, Leaves]:
    training = {"step": state.step, "key": state.key, "optimizer": state.optimizer}
    model = nnx.merge_state(state.parameters, state.rest)
    items = {MODEL: named_leaves(model), TRAINING: named_leaves(training)}
    if state.average is not None:
        items[AVERAGE] = named_leaves(state.average)
    return items


def _with_leaves(target: TrainState, items: dict[str, Leaves]) -> TrainState:
    training = {"step": target.step, "key": target.key, "optimizer": target.optimizer}
    training = replace_leaves(training, items[TRAINING])
    average = target.average
    if average is not None:
        average = replace_leaves(average, items[AVERAGE])
    return TrainState(
        average=average,
        parameters=replace_leaves(target.parameters, items[MODEL]),
        rest=replace_leaves(target.rest, items[MODEL]),
        **training,
    )
