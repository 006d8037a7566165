"""Writing files atomically: a reader sees the old file or the new one, never half a file."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(
    path: Path, *, place: Callable[[Path, Path], object] = os.replace
) -> Iterator[Path]:
    """Yields a temporary path in the same folder; the file written there becomes `path` afterwards.

    Args:
        path: the file that exists after the block.
        place: the function that gives the written file its name: `os.replace` replaces an older
            file, `os.link` raises FileExistsError if there is one.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file atomically; text is written as UTF-8."""
    with written_beside(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
