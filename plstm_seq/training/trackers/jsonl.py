"""Records as lines of JSON."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from bisect import bisect_left
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

from plstm_seq.training.trackers.base import Record


class DamagedRecordsError(ValueError):
    """A line of a file of records is damaged, and it is not just a last line cut off in writing."""


class JsonlTracker:
    """Appends each record to a file; a resumed training first cuts off those past its checkpoint.

    If the file has a damaged line, a copy of it is kept as `metrics.damaged-1.jsonl`, a warning is
    given, and the file goes on with the records that can be read.

    Example:
        >>> import tempfile
        >>> from plstm_seq.training import JsonlTracker, read_jsonl
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tracker = JsonlTracker(f"{folder}/metrics.jsonl")
        ...     tracker.start(0, steps=4)
        ...     tracker.log({"step": 2, "loss": 0.5})
        ...     tracker.close("interrupted")
        ...     read_jsonl(f"{folder}/metrics.jsonl")
        [{'step': 2, 'loss': 0.5}]
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file: FileIO | None = None

    def start(self, step: int, steps: int) -> None:
        """Cuts off the records past `step` (and a torn last line) and opens for appending."""
        del steps
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        lines = _read(self.path)
        kept = [line for line in lines if line.record is not None and line.record["step"] <= step]
        if any(line.problem for line in lines):
            self._set_aside(lines, kept)
        elif step and (not kept or (kept[-1].record or {}).get("step") != step):
            warnings.warn(
                f"{self.path} has no record of step {step}, which the checkpoint is of: records "
                "were lost",
                RuntimeWarning,
                stacklevel=2,
            )
        # Unbuffered: what a full disk did not take is not tried again when the file is closed.
        self._file = self.path.open("ab", buffering=0)
        # Without a damaged line those that are kept stand at the beginning.
        os.truncate(self.path, sum(len(line.text) for line in kept))

    def _set_aside(self, lines: list[_Line], kept: list[_Line]) -> None:
        problems = [line.problem for line in lines if line.problem]
        number = 1
        while (aside := self.path.with_suffix(f".damaged-{number}{self.path.suffix}")).exists():
            number += 1
        shutil.copyfile(self.path, aside)
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        temporary.write_bytes(b"".join(line.text for line in kept))
        os.replace(temporary, self.path)
        warnings.warn(
            f"{self.path}: {problems[0]}; the file is kept as {aside.name}, and {len(kept)} "
            "records of it could be read",
            RuntimeWarning,
            stacklevel=3,
        )

    def log(self, record: Record) -> None:
        """Writes one line and hands it to the operating system.

        Raises:
            FileNotFoundError: the file was removed, or another one is in its place.
        """
        if self._file is None:
            raise RuntimeError("log before start: the file is not open")
        mine = os.fstat(self._file.fileno())
        if not self.path.exists() or not os.path.samestat(mine, self.path.stat()):
            raise FileNotFoundError(f"{self.path} was removed while it was written")
        line = json.dumps(record).encode() + b"\n"
        while line:
            line = line[self._file.write(line) :]

    def close(self, status: str) -> None:
        """Close the file."""
        del status
        if self._file is not None:
            self._file.close()
            self._file = None


class _Line(NamedTuple):
    """A line of a file.

    Attributes:
        text: its bytes, with the line's end.
        record: what it says; None: nothing, or it is torn.
        problem: what is wrong with it; None: nothing, or it is a torn last line.
    """

    text: bytes
    record: Record | None
    problem: str | None


def read_jsonl(path: str | Path) -> list[Record]:
    r"""Read the records that a `JsonlTracker` wrote; a last line that was cut off is left out.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedRecordsError: another line is damaged; the message names file and line.

    Example:
        >>> import tempfile
        >>> from plstm_seq.training import DamagedRecordsError, read_jsonl
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "metrics.jsonl")
        ...     _ = path.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')  # torn
        ...     print(read_jsonl(path))
        ...     _ = path.write_text('{"step": 1, "lo\n{"step": 2, "loss": 0.5}\n')
        ...     try:
        ...         read_jsonl(path)
        ...     except DamagedRecordsError as error:
        ...         print(str(error).removeprefix(folder))
        [{'step': 1, 'loss': 0.5}]
        /metrics.jsonl: line 1 is damaged (it is not JSON)
    """
    lines = _read(Path(path))
    for line in lines:
        if line.problem:
            raise DamagedRecordsError(f"{path}: {line.problem}")
    return [line.record for line in lines if line.record is not None]


def _read(path: Path) -> list[_Line]:
    lines = []
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            record, problem = _parse(text)
            if problem is not None:
                problem = f"line {number} is damaged ({problem})"
            if not text.endswith(b"\n"):
                problem = None  # a process was killed while it wrote: it is the last
            lines.append(_Line(text, record, problem))
    ascending = _ascending([(n, x.record["step"]) for n, x in enumerate(lines) if x.record])
    for index, (text, record, _) in enumerate(lines):
        if record is not None and index not in ascending:
            problem = f"line {index + 1} is damaged (step {record['step']} is out of order)"
            lines[index] = _Line(text, None, problem)
    return lines


def _ascending(steps: Sequence[tuple[int, int | float]]) -> set[int]:
    """The line numbers of the longest chain of ascending steps: others are out of order."""
    ends: list[int | float] = []  # the smallest last step of a chain of each length
    before: list[Any] = []
    for number, step in steps:
        place = bisect_left(ends, step)
        chain = (number, before[place - 1] if place else None)
        ends[place : place + 1] = [step]
        before[place : place + 1] = [chain]
    found, chain = set(), before[-1] if before else None
    while chain is not None:
        number, chain = chain
        found.add(number)
    return found


def _parse(text: bytes) -> tuple[Record | None, str | None]:
    """A line's record, or what is wrong with it."""
    if not text.endswith(b"\n"):
        return None, "it has no end"
    try:
        record = json.loads(text)
    except ValueError:
        return None, "it is not JSON"
    numbers = isinstance(record, dict) and all(isinstance(x, int | float) for x in record.values())
    if not numbers or not isinstance(record.get("step"), int):
        return None, "it is not a record of numbers with a step"
    return record, None
