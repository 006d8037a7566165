"""The text files of a TUDataset, each a table of numbers."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)


class TUFile(NamedTuple):
    """One file: a line for each node, edge or graph, its values separated by commas.

    Attributes:
        path: Where it lies.
        values: float64 `[lines, columns]`, all finite.
    """

    path: Path
    values: np.ndarray

    def refuse(self, row: int, problem: str) -> NoReturn:
        """Raise a ValueError that names the file and the line."""
        raise ValueError(f"{self.path}:{row + 1}: {problem}")

    def refuse_where(self, wrong: np.ndarray, problem: str) -> None:
        """Refuse the first of the lines that are marked, if any; `{}` stands for its values."""
        if wrong.any():
            row = int(wrong.argmax())
            values = ", ".join(f"{value:g}" for value in self.values[row])
            self.refuse(row, problem.format(values))

    def integers(self) -> np.ndarray:
        """The values as int32.

        Raises:
            ValueError: If one is no integer, or too large.
        """
        whole = (self.values == np.rint(self.values)) & (abs(self.values) < 2**31)
        self.refuse_where(~whole.all(axis=1), "expected integers, got {}")
        return self.values.astype(np.int32)

    def reals(self) -> np.ndarray:
        """The values, all within the range of float32.

        Raises:
            ValueError: If one is too large.
        """
        most = float(np.finfo(np.float32).max)
        large = np.any(abs(self.values) > most, axis=1)
        self.refuse_where(np.asarray(large), f"expected numbers up to {most:.2g}, got {{}}")
        return self.values

    def check_lines(self, count: int, of: str) -> None:
        """Check the number of lines.

        Raises:
            ValueError: If it is not `count`.
        """
        lines = len(self.values)
        if lines != count:
            problem = f"expected one line for each of {count} {of}, got {lines} lines"
            self.refuse(min(lines, count), problem)


def read_file(path: Path, columns: int | None = None) -> TUFile:
    """Read one file.

    Args:
        path: Of the file.
        columns: Values that each line must have; as many as the first one has by default.

    Raises:
        ValueError: If the file can't be read, or a line holds anything else than so many finite
            numbers; empty lines at the end don't count.
    """
    try:
        text = path.read_text(encoding="utf-8").rstrip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} can't be read: {error}") from None
    if not text:
        return TUFile(path, np.zeros((0, columns or 1)))
    try:
        values = np.loadtxt(io.StringIO(text), delimiter=",", ndmin=2, comments=None)
    except ValueError:
        values = np.zeros((0, 0))
    lines = text.count("\n") + 1
    expected = columns or text.partition("\n")[0].count(",") + 1
    if values.shape != (lines, expected) or not np.isfinite(values).all():
        _refuse_first(path, text, expected)
    return TUFile(path, values)


def _refuse_first(path: Path, text: str, columns: int) -> NoReturn:
    """Refuse the first line that doesn't hold so many finite numbers."""
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split(",")
        right = all(_NUMBER.fullmatch(word) and np.isfinite(float(word)) for word in words)
        if not right or len(words) != columns:
            numbers = "a number" if columns == 1 else f"{columns} numbers separated by commas"
            given = line if len(line) <= 100 else line[:100] + "..."
            raise ValueError(f"{path}:{number}: expected {numbers}, got {given!r}")
    raise ValueError(f"{path}: expected lines of numbers separated by commas")
