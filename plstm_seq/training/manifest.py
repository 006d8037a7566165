"""A list of a folder's files and their hashes, to know damage before anything parses it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

NAME = "manifest.json"


class CorruptCheckpointError(RuntimeError):
    """A checkpoint, or every checkpoint of a folder, is not what was written."""


def write_manifest(folder: Path) -> None:
    """Seal a folder: write the hashes of all its files, atomically, beside them."""
    temporary = folder / f"{NAME}.tmp"
    temporary.write_text(json.dumps(_hashes(folder), indent=1))
    os.replace(temporary, folder / NAME)


def is_sealed(folder: Path) -> bool:
    """Whether `write_manifest` was reached."""
    return (folder / NAME).is_file()


def check_manifest(folder: Path) -> None:
    """Check that a folder holds what it held when it was sealed.

    Raises:
        CorruptCheckpointError: a file is missing or differs, the manifest itself included.
    """
    try:
        expected = json.loads((folder / NAME).read_text())
    except (OSError, ValueError) as error:
        raise CorruptCheckpointError(f"{NAME} is damaged") from error
    found = _hashes(folder)
    for name, value in expected.items():
        if found.get(name) != value:
            raise CorruptCheckpointError(f"{name} is {'damaged' if name in found else 'missing'}")


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(NAME)
    }
