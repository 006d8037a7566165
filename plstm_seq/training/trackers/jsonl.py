"""Records as lines of JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from plstm_seq.training.trackers.base import Record


class JsonlTracker:
    """Appends each record to a file; on resume cuts off what lies past the checkpoint."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file: BinaryIO | None = None

    def start(self, step: int, steps: int) -> None:
        """Truncate to the records up to `step` (a torn last line goes too) and open for append."""
        del steps
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab")
        end = max(
            (end for end, record in _whole_lines(self.path) if record["step"] <= step), default=0
        )
        os.truncate(self.path, end)

    def log(self, record: Record) -> None:
        """Write one line and hand it to the operating system."""
        if self._file is None:
            raise RuntimeError("log before start: the file is not open")
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()

    def close(self, status: str) -> None:
        """Close the file."""
        del status
        if self._file is not None:
            self._file.close()
            self._file = None


def read_jsonl(path: str | Path) -> list[Record]:
    """The whole records of a file written by `JsonlTracker`; a torn last line is left out.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return [record for _, record in _whole_lines(Path(path))]


def _whole_lines(path: Path) -> Iterator[tuple[int, Record]]:
    """Yields (offset of the line's end, record) up to the first line that is not whole."""
    end = 0
    with path.open("rb") as file:
        for line in file:
            end += len(line)
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
            except ValueError:
                return
            yield end, record
