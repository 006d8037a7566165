"""Reads the latest checkpoint of a folder that is not damaged."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import orbax.checkpoint as ocp

from plstm_seq.training.disk import first_line
from plstm_seq.training.leaves import Leaves, describe, undescribe
from plstm_seq.training.manifest import (
    CorruptCheckpointError,
    check_manifest,
    is_sealed,
    read_sealed,
)

META = "meta"
"""The item beside the arrays: their descriptions, and the notes."""

# Whether a saved array, by name and description, may be left where it is.
PassedOver = Callable[[str, str], bool]


class Checkpoint(NamedTuple):
    """Which checkpoint was read.

    Attributes:
        step: the training step at which it was saved.
        identity: digits that no other checkpoint has.
        passed_over: a line about each later checkpoint that is damaged.
    """

    step: int
    identity: str
    passed_over: tuple[str, ...] = ()


class Reader:
    """Reads the checkpoints of a folder.

    Args:
        folder: where they are.
        manager: orbax's, of this folder.
    """

    def __init__(self, folder: Path, manager: ocp.CheckpointManager):
        self.folder, self._manager = folder, manager

    def path(self, step: int) -> Path:
        """Returns the folder of the checkpoint of a step."""
        return self.folder / str(step)

    def steps(self) -> list[int]:
        """Returns the steps of all checkpoints in ascending order, also of incomplete ones."""
        self._manager.reload()
        return sorted(self._manager.all_steps())

    def latest(
        self, target: dict[str, Leaves], passed_over: PassedOver | None = None
    ) -> tuple[Checkpoint, dict[str, Leaves], dict] | None:
        """Returns the latest whole checkpoint, its arrays and its notes; None: there is none.

        Args:
            target: arrays of the types, shapes and places to read, by item and name.
            passed_over: which saved arrays may be missing in `target`.

        Raises:
            ValueError: the checkpoint has other arrays than `target`.
            CorruptCheckpointError: there are checkpoints, and none can be read.
        """
        failures: list[Exception] = []
        sealed = read_sealed(self.folder)
        for step in sorted({*self.steps(), *(sealed or ())}, reverse=True):
            if sealed is not None and step not in sealed and not is_sealed(self.path(step)):
                continue  # cut off while it was saved
            if step == 0 and failures:
                raise CorruptCheckpointError(
                    f"{first_line(failures[0])}; the only one before it in {self.folder} is that "
                    "of step 0, which is not trained"
                )
            try:
                identity = self._check(step, None if sealed is None else sealed.get(step))
                items, notes = self._read(step, target, passed_over)
            except _MismatchError as error:
                raise ValueError(f"{self.path(step)}: {error}") from None
            except Exception as error:  # orbax raises many types for a damaged file
                failures.append(_failure(self.path(step), error))
            else:
                for failure in failures:
                    warnings.warn(f"{failure}; trying the one before", RuntimeWarning, stacklevel=4)
                return Checkpoint(step, identity, tuple(map(str, failures))), items, notes
        if failures:
            raise CorruptCheckpointError(
                f"none of the {len(failures)} checkpoints in {self.folder} can be read: "
                f"{failures[0]}"
            ) from ExceptionGroup("every checkpoint failed", failures)
        return None

    def _check(self, step: int, identity: str | None) -> str:
        """Looks for damage before orbax reads, whose threads would print their own errors."""
        if not self.path(step).is_dir():
            raise CorruptCheckpointError("its folder is missing")
        return check_manifest(self.path(step), identity)

    def _read(
        self, step: int, target: dict[str, Leaves], passed_over: PassedOver | None
    ) -> tuple[dict[str, Leaves], dict]:
        restore = self._manager.restore
        meta = restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))[META]
        abstract = {}
        for name, leaves in target.items():
            if name not in meta["leaves"]:
                raise _MismatchError(f"{name} is missing in the checkpoint and wanted here")
            saved, wanted = meta["leaves"][name], describe(leaves)
            passed = {
                n: text
                for n, text in saved.items()
                if n not in wanted and passed_over is not None and passed_over(n, text)
            }
            _compare({n: text for n, text in saved.items() if n not in passed}, wanted)
            # Orbax reads all of an item or nothing.
            place = next(iter(leaves.values())).sharding
            others = {n: undescribe(text, place) for n, text in passed.items()}
            mine = jax.tree.map(ocp.utils.to_shape_dtype_struct, leaves)
            abstract[name] = ocp.args.StandardRestore({**mine, **others})  # pyright: ignore[reportCallIssue]
        read = restore(step, args=ocp.args.Composite(**abstract))
        return {name: dict(read[name]) for name in target}, meta["notes"]


class _MismatchError(Exception):
    """The checkpoint is whole, but it has other arrays than those that are asked for."""


def _compare(saved: dict[str, str], wanted: dict[str, str]) -> None:
    for name in sorted(saved.keys() | wanted.keys()):
        there, here = saved.get(name, "missing"), wanted.get(name, "missing")
        if there != here:
            raise _MismatchError(f"{name} is {there} in the checkpoint and {here} here")


def _failure(path: Path, error: Exception) -> CorruptCheckpointError:
    reason = first_line(error)
    if not isinstance(error, CorruptCheckpointError):
        reason = f"{type(error).__name__}: {reason}"
    failure = CorruptCheckpointError(f"checkpoint {path} is corrupt ({reason})")
    failure.__cause__ = error
    return failure
