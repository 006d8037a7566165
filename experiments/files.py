"""Small files that a reader, or a killed process, never sees half written."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes a text file in one go: a reader sees the old file or the new one."""
    with _written_beside(path, text) as temporary:
        os.replace(temporary, path)


def write_new(path: Path, text: str) -> None:
    """Writes a text file that is not there yet: of two processes one succeeds.

    Raises:
        FileExistsError: there is a file of that name.
    """
    with _written_beside(path, text) as temporary:
        os.link(temporary, path)


@contextmanager
def _written_beside(path: Path, text: str) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
