"""One process at a time: a lock that the operating system lets go of when a process dies."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TRIES, _PAUSE = 5, 0.05  # `holder` takes the lock for a moment, too


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Holds the lock of a file while the block runs, if no other process does.

    Yields:
        Whether this process got the lock.
    """
    with path.open("a+", encoding="utf-8") as file:
        taken = _take(file.fileno())
        if taken:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield taken


def holder(path: Path) -> str | None:
    """Who holds the lock of a file; None: nobody."""
    try:
        file = path.open(encoding="utf-8")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or "another process"
        return None


def _take(descriptor: int) -> bool:
    for attempt in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < _TRIES:
                time.sleep(_PAUSE)
        else:
            return True
    return False
