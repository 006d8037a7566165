"""A list of a folder's files and their hashes, to know damage before anything parses it.

A folder of checkpoints has a list of its own, `sealed.json`, of the checkpoints that were complete.
A checkpoint of that list which has lost its manifest, or is not there, is known to be damaged; one
that is not on it was cut off while it was being saved.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

NAME = "manifest.json"
SEALED = "sealed.json"
_IDENTITY = 16  # hexadecimal digits


class CorruptCheckpointError(RuntimeError):
    """A checkpoint, or every checkpoint of a folder, has changed since it was written.

    Attributes:
        remedy: what a user can do.

    Example:
        >>> import tempfile
        >>> from flax import nnx
        >>> from plstm_seq.training import CorruptCheckpointError, load_model
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "sealed.json").write_text("{")
        ...     try:
        ...         load_model(nnx.Embed(2, 2, rngs=nnx.Rngs(0)), folder)
        ...     except CorruptCheckpointError as error:
        ...         print(error.remedy)
        delete it, and the checkpoints are checked without it
    """

    remedy = "restore one from a copy, or train anew"


def write_manifest(folder: Path) -> str:
    """Writes the hashes of all files of a folder beside them, atomically.

    Returns:
        The folder's identity: the first digits of the hash of its manifest.
    """
    text = json.dumps(_hashes(folder), indent=1)
    _write(folder / NAME, text)
    return _identity(text.encode())


def is_sealed(folder: Path) -> bool:
    """Whether `write_manifest` was reached."""
    return (folder / NAME).is_file()


def read_identity(folder: Path) -> str:
    """The identity of a folder that has a manifest."""
    return _identity((folder / NAME).read_bytes())


def check_manifest(folder: Path, identity: str | None = None) -> str:
    """Checks that a folder holds what it held when it was sealed.

    Args:
        folder: with a manifest.
        identity: what `write_manifest` returned; None: not known.

    Returns:
        Its identity.

    Raises:
        CorruptCheckpointError: a file is missing or differs, the manifest itself included.
    """
    try:
        data = (folder / NAME).read_bytes()
        expected = dict(json.loads(data))
    except FileNotFoundError:
        raise CorruptCheckpointError(f"{NAME} is missing") from None
    except (OSError, ValueError, TypeError) as error:
        raise CorruptCheckpointError(f"{NAME} is damaged") from error
    found = _identity(data)
    if identity not in (None, found):
        raise CorruptCheckpointError(f"{NAME} is not the one that was written")
    hashes = _hashes(folder)
    for name, value in expected.items():
        if hashes.get(name) != value:
            raise CorruptCheckpointError(f"{name} is {'damaged' if name in hashes else 'missing'}")
    return found


def read_sealed(folder: Path) -> dict[int, str] | None:
    """The identities of the complete checkpoints of a folder, by step.

    Returns:
        None where there is no list: it was written by an older version, or has been lost.

    Raises:
        CorruptCheckpointError: the list is damaged.
    """
    path = folder / SEALED
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {int(step): str(identity) for step, identity in document.items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError):
        error = CorruptCheckpointError(f"{path} is damaged")
        error.remedy = "delete it, and the checkpoints are checked without it"
        raise error from None


def write_sealed(folder: Path, identities: Mapping[int, str]) -> None:
    """Writes that list, atomically."""
    _write(folder / SEALED, json.dumps({str(step): x for step, x in sorted(identities.items())}))


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _identity(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_IDENTITY]


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(NAME)
    }
