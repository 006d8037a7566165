"""One process at a time: a lock that the operating system lets go of when a process dies."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.files import kept_where_writable

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
