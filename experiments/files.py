"""Reads, writes and locks the files of runs and sweeps.

A file is written as a whole or not at all, and an error names a damaged file. Locks are those of
the operating system, which releases them when a process dies.
"""

import errno
import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from experiments.reading import read
from plstm_seq.files import write_whole, written_beside


class RunError(Exception):
    """A run is missing, is there already, or lacks what was asked of it; the message says what.

    Example:
        >>> from experiments import RunError, load_run
        >>> try:
        ...     load_run("party-1")
        ... except RunError as error:
        ...     print(error)  # there is a run of this name, see `experiments.train`
        no run at 'party-1', nor in runs/; nearest: parity-1
    """


class DamagedError(RunError):
    """A file is not what was written; the message names the file and says what to do."""

    def __init__(self, path: Path, reason: object, remedy: str):
        super().__init__(f"{path} is damaged ({_first_line(reason)}): {remedy}")
        self.path = path


def write_new(path: Path, text: str) -> None:
    """Writes a new text file; if two processes try at once, only one succeeds.

    Raises:
        FileExistsError: there is a file of that name.
    """
    with written_beside(path, place=os.link) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, document: Any) -> None:
    """Writes a document as JSON, in one go."""
    write_whole(path, json.dumps(document, indent=2) + "\n")


def free_folder(root: Path, name: str) -> Path:
    """Makes the folder `root/<name>-<n>` with the first n that is free."""
    number = 1
    while True:
        folder = root / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


@contextmanager
def kept_where_writable() -> Iterator[None]:
    """Passes over errors of a read-only folder or a full disk in the block.

    The block may only write files that can be made again.
    """
    without = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    try:
        yield
    except OSError as error:
        if error.errno not in without:
            raise


def check_writable(folder: Path, what: str) -> None:
    """Refuses a read-only folder before a long computation whose result is kept there.

    Raises:
        RunError: the folder is read-only.
    """
    if not os.access(folder, os.W_OK):
        raise RunError(f"{folder} is read-only, and {what} is written there: copy the folder first")


def read_json(path: Path, form: Any, remedy: str) -> Any:
    """Reads a JSON file, or returns None if there is no such file.

    Args:
        path: the file.
        form: the type that its content has to have.
        remedy: what a user can do if the file is damaged, for the message.

    Raises:
        DamagedError: the file cannot be read, is not JSON, or holds something of another type.
    """
    try:
        return read(form, json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(path, error, remedy) from None


SEALED = {"sha256", "config"}
"""The keys of a file that `seal` makes."""


def seal(document: Mapping[str, Any]) -> str:
    """Returns JSON that holds a document and its checksum; `unseal` reads it."""
    return json.dumps({"sha256": _checksum(document), "config": document}, indent=1) + "\n"


def unseal(path: Path) -> dict[str, Any]:
    """Reads the document of a file that `seal` made.

    Raises:
        DamagedError: the file is not what was written.
    """
    remedy = "restore it from a copy; what was trained with it can't be told without"
    found = read_json(path, dict[str, Any], remedy) or {}
    document = found.get("config")
    if not isinstance(document, dict) or found.get("sha256") != _checksum(document):
        raise DamagedError(path, "its checksum is another", remedy)
    return document


def _checksum(document: Mapping[str, Any]) -> str:
    return text_checksum(json.dumps(document, sort_keys=True))


def text_checksum(text: str | bytes) -> str:
    """Returns the SHA-256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def _first_line(reason: object) -> str:
    text = str(reason).strip() or type(reason).__name__
    return " ".join(text.split("\n")[0].split())[:200]


# How long to wait for a lock, in seconds, as `holder` also takes it for a moment.
_PATIENCE, _PAUSE = 0.25, 0.05


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Holds the lock of a file while the block runs, if no other process does.

    This works across hosts if their shared file system supports `flock`.

    Yields:
        Whether this process got the lock.
    """
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=_PATIENCE, poll_interval=_PAUSE)
    except Timeout:
        yield False
        return
    note = _note(path)
    try:
        note.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield True
    finally:
        with kept_where_writable():
            note.unlink(missing_ok=True)
        lock.release()


@contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """Waits for the lock of a file, and holds it while the block runs."""
    with FileLock(path, thread_local=False):
        yield


def holder(path: Path) -> str | None:
    """Says which process holds the lock of a file, or returns None; writes nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            return _note(path).read_text(encoding="utf-8").strip() or "another process"
        except OSError:
            return "another process"
    finally:
        os.close(descriptor)
    return None


def _note(path: Path) -> Path:
    """Returns the path of the file that says which process has the lock.

    The file of the lock itself cannot say it, because every process that tries to lock it empties
    it.
    """
    return path.with_name(f"{path.name}.holder")
