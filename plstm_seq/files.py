"""Files that are written whole: a reader sees the old file or the new one, and never a part."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(
    path: Path, *, place: Callable[[Path, Path], object] = os.replace
) -> Iterator[Path]:
    """Yields a file to write in the same folder, which takes the place of `path` after the block.

    Args:
        path: the file that is to be there afterwards.
        place: how the written file comes to its name: `os.replace` replaces an older file,
            `os.link` raises FileExistsError where there is one.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file in one go; a text is written as UTF-8."""
    with written_beside(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
