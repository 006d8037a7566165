"""Keeps how far an evaluation has come, so that it can go on after it was stopped or killed."""

from __future__ import annotations

import json
import math
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from experiments.config import to_document
from experiments.console import err
from experiments.files import text_checksum
from experiments.run import Run, read_environment
from plstm_seq.evaluation import Place
from plstm_seq.files import write_whole
from plstm_seq.training.leaves import Leaves, describe, named_leaves, replace_leaves, undescribe

UNFINISHED = "evaluation.unfinished"
# This note is added to the exception that interrupts an evaluation whose place is kept.
GOES_ON = "the same command goes on from there"
SECONDS_BETWEEN = 30.0


# A file that differs in one of these entries is of no use to any later evaluation.
_GONE = {"checkpoint", "step", "config"}


class UnusableError(Exception):
    """This evaluation cannot use the file of places.

    Attributes:
        to_others: whether another evaluation can go on from the file.
    """

    def __init__(self, message: str, *, to_others: bool = False):
        super().__init__(message)
        self.to_others = to_others


class Bookmarks:
    """The places that the passes of an evaluation have reached, in one file of the run's folder.

    The file is read when the `with` block is entered. It is written every half minute, and when
    Ctrl-C ends the block. A file that is damaged or belongs to another evaluation is not used, and
    a warning says so.

        with Bookmarks(run, lengths=[64, 4096], num_sequences=512) as kept:
            result = length_generalization(..., bookmark=kept.of("evaluate"))
            ...  # keep the rows
            kept.remove()

    Args:
        run: the run that is evaluated.
        progress: whether a line on standard error shows the progress, if that is a terminal.
        **asked: what is measured, and how, as values that JSON can hold. A file belongs to this
            evaluation if these, the checkpoint, the config, the device and the versions are equal.
    """

    def __init__(self, run: Run, *, progress: bool = True, **asked: Any):
        self.path = run.folder / UNFINISHED
        evaluation = {
            **asked,
            "checkpoint": run.checkpoint.identity,
            "step": run.checkpoint.step,
            "config": text_checksum(json.dumps(to_document(run.config), sort_keys=True)),
            "float64": bool(jax.config.jax_enable_x64),  # pyright: ignore[reportAttributeAccessIssue]
            **read_environment(),
        }
        self.evaluation = json.loads(json.dumps(evaluation))  # equal to what a file holds
        self._kept: dict[str, Leaves] = {}
        self._places: dict[str, Place] = {}
        self._saved = time.monotonic()
        self._bar = _make_bar() if progress and err.is_terminal else None
        self._rows: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._saved = time.monotonic()
        try:
            self._kept = self._read()
        except UnusableError as error:
            self._warn(error)
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if isinstance(error, KeyboardInterrupt) and self._save():
            error.add_note(GOES_ON)

    def of(self, name: str) -> PassBookmark:
        """Returns the bookmark of one pass.

        Args:
            name: the name of the pass; the progress bar shows it, too.
        """
        return PassBookmark(self, name)

    def remove(self) -> None:
        """Removes the file once the results are kept, unless another evaluation can use it."""
        try:
            self._read()
        except UnusableError as error:
            if error.to_others:
                return
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def find(self, name: str, start: Place) -> Place:
        """Returns the kept place of a pass, or `start` if no place is kept."""
        leaves = self._kept.get(name)
        if leaves is None:
            return start
        if describe(leaves) != describe(named_leaves(start)):
            self._warn(UnusableError(f"{self.path} is of another program"))
            return start
        self._places[name] = found = replace_leaves(start, leaves)
        return found

    def put(self, name: str, place: Place, read: int, symbols: int) -> None:
        """Notes the place of a pass, and writes the file if the last time was half a minute ago."""
        self._places[name] = place
        if self._bar is not None:
            self._show(self._bar, name, read, symbols)
        if time.monotonic() - self._saved >= SECONDS_BETWEEN:
            self._save()

    def _show(self, bar: Progress, name: str, read: int, symbols: int) -> None:
        if name not in self._rows:
            bar.start()
            self._rows[name] = bar.add_task(name, total=symbols, completed=read, speed="")
            return
        row = self._rows[name]
        speed = next(task.speed for task in bar.tasks if task.id == row)
        shown = "" if speed is None else f"{speed:,.0f} symbols/s"
        bar.update(row, completed=read, speed=shown)

    def _save(self) -> bool:
        """Writes the places, and returns whether they are on the disk."""
        passes = self._kept | {name: named_leaves(place) for name, place in self._places.items()}
        if not passes:
            return False
        self._saved = time.monotonic()
        described = {name: describe(leaves) for name, leaves in passes.items()}
        head = json.dumps({"evaluation": self.evaluation, "passes": described})
        arrays = [np.asarray(leaf) for leaves in passes.values() for leaf in leaves.values()]
        body = b"".join([head.encode(), b"\n", *(array.tobytes() for array in arrays)])
        # The places can be measured again, so a full disk does not end the evaluation.
        with suppress(OSError):
            write_whole(self.path, text_checksum(body).encode() + b"\n" + body)
            return True
        return False

    def _read(self) -> dict[str, Leaves]:
        """Reads the arrays of every pass; returns an empty dictionary if there is no file.

        Raises:
            UnusableError: the file is damaged, or belongs to another evaluation.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UnusableError(f"{self.path} cannot be read ({error.strerror})") from None
        checksum, _, body = data.partition(b"\n")
        if checksum != text_checksum(body).encode():
            raise UnusableError(f"{self.path} is damaged (its checksum is another)")
        head, _, rest = body.partition(b"\n")
        try:
            document = json.loads(head)
            evaluation, passes = dict(document["evaluation"]), dict(document["passes"])
        except (ValueError, TypeError, KeyError) as error:
            raise UnusableError(f"{self.path} is damaged ({error})") from None
        names = sorted(self.evaluation.keys() | evaluation.keys())
        other = [name for name in names if self.evaluation.get(name) != evaluation.get(name)]
        if other:
            reason = f"{self.path} is of another evaluation ({', '.join(other)})"
            raise UnusableError(reason, to_others=not _GONE & set(other))
        return _unpack(passes, rest)

    def _warn(self, error: UnusableError) -> None:
        warnings.warn(f"{error}: this one begins anew", RuntimeWarning, stacklevel=4)


@dataclass(frozen=True)
class PassBookmark:
    """The bookmark of one pass of an evaluation."""

    bookmarks: Bookmarks
    name: str

    def find(self, start: Place, /) -> Place:
        """See `plstm_seq.evaluation.Bookmark`."""
        return self.bookmarks.find(self.name, start)

    def put(self, place: Place, read: int, symbols: int, /) -> None:
        """See `plstm_seq.evaluation.Bookmark`."""
        self.bookmarks.put(self.name, place, read, symbols)


def _make_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.1f}% of {task.total:,} symbols"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    )


def _unpack(passes: dict[str, dict[str, str]], data: bytes) -> dict[str, Leaves]:
    """Reads arrays whose bytes follow one another in `data`.

    Args:
        passes: for each pass, the description that `describe` gave of each array.
        data: the bytes of all arrays, in the same order.
    """
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    found: dict[str, Leaves] = {}
    start = 0
    for name, descriptions in passes.items():
        found[name] = {}
        for leaf, description in descriptions.items():
            like = undescribe(description, place)
            array = np.frombuffer(data, like.dtype, math.prod(like.shape), start)
            found[name][leaf] = array.reshape(like.shape).copy()  # pyright: ignore[reportArgumentType]
            start += array.nbytes
    return found
