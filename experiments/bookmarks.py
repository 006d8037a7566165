"""Where an evaluation is, in the run's folder: stopped or killed, it goes on from there."""

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
# A note on the interruption of an evaluation whose place is kept.
GOES_ON = "the same command goes on from there"
SECONDS_BETWEEN = 30.0


# What differs in one of these will never be measured again.
_GONE = {"checkpoint", "step", "config"}


class UnusableError(Exception):
    """A file of places is of no use to this evaluation.

    Attributes:
        to_others: another one can go on from it.
    """

    def __init__(self, message: str, *, to_others: bool = False):
        super().__init__(message)
        self.to_others = to_others


class Bookmarks:
    """The places that the passes of an evaluation have reached, in one file of the run's folder.

    The file is read when the block is entered, and written every half minute and when Ctrl-C ends
    the block. One that is damaged or of another evaluation is not used, and a warning says so.

        with Bookmarks(run, lengths=[64, 4096], num_sequences=512) as kept:
            result = length_generalization(..., bookmark=kept.of("evaluate"))
            ...  # keep the rows
            kept.remove()

    Args:
        run: what is evaluated.
        progress: whether a line shows how far it is, where standard error is a terminal.
        **asked: what is measured, and how, as JSON holds it. With the checkpoint, the config, the
            device and the versions it says whether a file is of this evaluation.
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
        self.evaluation = json.loads(json.dumps(evaluation))  # as it is read again
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
        """The bookmark of one pass.

        Args:
            name: which pass of the evaluation it is, also for whoever watches.
        """
        return PassBookmark(self, name)

    def remove(self) -> None:
        """Removes the file, since what it led to is kept; one of another evaluation stays."""
        try:
            self._read()
        except UnusableError as error:
            if error.to_others:
                return
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def find(self, name: str, start: Place) -> Place:
        """The place of a pass that is kept, or else its start."""
        leaves = self._kept.get(name)
        if leaves is None:
            return start
        if describe(leaves) != describe(named_leaves(start)):
            self._warn(UnusableError(f"{self.path} is of another program"))
            return start
        self._places[name] = found = replace_leaves(start, leaves)
        return found

    def put(self, name: str, place: Place, read: int, symbols: int) -> None:
        """Notes the place of a pass, and writes the file if it is time to."""
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
        """Whether the places are on the disk."""
        passes = self._kept | {name: named_leaves(place) for name, place in self._places.items()}
        if not passes:
            return False
        self._saved = time.monotonic()
        described = {name: describe(leaves) for name, leaves in passes.items()}
        head = json.dumps({"evaluation": self.evaluation, "passes": described})
        arrays = [np.asarray(leaf) for leaves in passes.values() for leaf in leaves.values()]
        body = b"".join([head.encode(), b"\n", *(array.tobytes() for array in arrays)])
        # What it holds can be measured again: a full disk does not end the evaluation.
        with suppress(OSError):
            write_whole(self.path, text_checksum(body).encode() + b"\n" + body)
            return True
        return False

    def _read(self) -> dict[str, Leaves]:
        """The arrays of every pass; none without a file.

        Raises:
            UnusableError: the file is damaged, or of another evaluation.
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
    """The arrays whose bytes lie one after another, as `describe` describes them."""
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
