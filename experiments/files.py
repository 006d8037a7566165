"""The files of runs and sweeps: written whole, read with a line on what is damaged, and locked.

A lock is the operating system's, which lets go of it when a process dies.
"""

import errno
import fcntl
import hashlib
import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydantic
from filelock import FileLock, Timeout


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
    """A file is not what was written; the message names it and says what to do."""

    def __init__(self, path: Path, reason: object, remedy: str):
        super().__init__(f"{path} is damaged ({_first_line(reason)}): {remedy}")
        self.path = path


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file in one go: a reader sees the old file or the new one."""
    with _written_beside(path, content) as temporary:
        os.replace(temporary, path)


def write_new(path: Path, text: str) -> None:
    """Writes a text file that is not there yet: of two processes one succeeds.

    Raises:
        FileExistsError: there is a file of that name.
    """
    with _written_beside(path, text) as temporary:
        os.link(temporary, path)


def write_json(path: Path, document: Any) -> None:
    """Writes a document as JSON, whole."""
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
    """A block that keeps what can be made again; a read-only folder or a full disk go without."""
    without = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    try:
        yield
    except OSError as error:
        if error.errno not in without:
            raise


def check_writable(folder: Path, what: str) -> None:
    """Refuses, before a long computation, a folder in which its result cannot be kept.

    Raises:
        RunError: the folder is read-only.
    """
    if not os.access(folder, os.W_OK):
        raise RunError(f"{folder} is read-only, and {what} is written there: copy the folder first")


def read_json(path: Path, form: pydantic.TypeAdapter[Any], remedy: str) -> Any:
    """The content of a JSON file; None: there is no such file.

    Args:
        path: the file.
        form: what it has to hold.
        remedy: what a user can do where it is damaged.

    Raises:
        DamagedError: it cannot be read, is no JSON, or holds something else.
    """
    try:
        return form.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedError(path, f"{where}: {first['msg']}".strip(": "), remedy) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(path, error, remedy) from None


SEALED = {"sha256", "config"}
"""The keys of a file that `seal` makes."""


def seal(document: Mapping[str, Any]) -> str:
    """A document with its checksum, as JSON; `unseal` reads it."""
    return json.dumps({"sha256": _checksum(document), "config": document}, indent=1) + "\n"


def unseal(path: Path) -> dict[str, Any]:
    """The document of a file that `seal` made.

    Raises:
        DamagedError: it is not what was written.
    """
    remedy = "restore it from a copy; what was trained with it can't be told without"
    form = pydantic.TypeAdapter(dict[str, Any])
    found = read_json(path, form, remedy) or {}
    document = found.get("config")
    if not isinstance(document, dict) or found.get("sha256") != _checksum(document):
        raise DamagedError(path, "its checksum is another", remedy)
    return document


def _checksum(document: Mapping[str, Any]) -> str:
    return text_checksum(json.dumps(document, sort_keys=True))


def text_checksum(text: str | bytes) -> str:
    """The SHA-256 of a text, in hexadecimal digits."""
    return hashlib.sha256(_as_bytes(text)).hexdigest()


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _first_line(reason: object) -> str:
    text = str(reason).strip() or type(reason).__name__
    return " ".join(text.split("\n")[0].split())[:200]


@contextmanager
def _written_beside(path: Path, content: str | bytes) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(_as_bytes(content))
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


# `holder` takes the lock for a moment, too.
_PATIENCE, _PAUSE = 0.25, 0.05


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Holds the lock of a file while the block runs, if no other process does.

    Works across hosts as far as the file system has `flock`.

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
    """Holds the lock of a file for the moment that the block takes; waits for it."""
    with FileLock(path, thread_local=False):
        yield


def holder(path: Path) -> str | None:
    """Who holds the lock of a file; None: nobody. Writes nothing."""
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
    """A file that says who has the lock: that of the lock itself is emptied by whoever tries."""
    return path.with_name(f"{path.name}.holder")
