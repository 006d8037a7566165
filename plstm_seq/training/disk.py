"""Checks of the disk under a folder of checkpoints, and quiet for the threads that write there."""

from __future__ import annotations

import errno
import gc
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_OVERHEAD = 256 * 1024  # bytes of a checkpoint's many small files


def place(folder: Path) -> tuple[int, int] | None:
    """Returns what tells a folder from a later one of the same name; None: there is no folder."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def check_path(folder: Path) -> None:
    """Refuses a path in which orbax, which searches by patterns, would not find its own files.

    Raises:
        ValueError: the path has letters that stand for others in a pattern.
    """
    if set(str(folder.absolute())) & set("[]*?"):
        raise ValueError(f"{folder}: checkpoints need a path without the letters [ ] * ?")


def check_space(folder: Path, size: int) -> None:
    """Refuses to begin a checkpoint that does not fit on the disk.

    Raises:
        OSError: the disk is full.
    """
    if shutil.disk_usage(folder).free < size + _OVERHEAD:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Orbax's threads and tasks print what they raise, dozens of times; it is raised here, too."""
    hooks = threading.excepthook, sys.excepthook
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    states = [logger.disabled for logger in loggers]
    threading.excepthook = sys.excepthook = lambda *_: None
    if not isinstance(sys.unraisablehook, _WithoutLateWrites):
        sys.unraisablehook = _WithoutLateWrites(sys.unraisablehook)
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    except Exception:
        gc.collect()  # a task that failed says so when it is collected
        raise
    finally:
        threading.excepthook, sys.excepthook = hooks
        for logger, state in zip(loggers, states, strict=True):
            logger.disabled = state


class _WithoutLateWrites(NamedTuple):
    """An unraisablehook that does not print what tensorstore's threads do after a failed write.

    The other writes of that checkpoint end later, perhaps seconds later, and report to an event
    loop that is closed by then. So this hook stays for as long as the process lives.
    """

    shown: Callable[[sys.UnraisableHookArgs], object]

    def __call__(self, unraisable: sys.UnraisableHookArgs, /) -> None:
        error = unraisable.exc_value
        if not isinstance(error, RuntimeError) or str(error) != "Event loop is closed":
            self.shown(unraisable)


def why(error: Exception, folder: Path) -> str:
    """Says in one line why a folder could not be written to."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    for number in full:
        if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
            return os.strerror(number).lower()
    if folder.is_dir() and not shutil.disk_usage(folder).free:
        return os.strerror(errno.ENOSPC).lower()
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: Exception) -> str:
    """Returns the first line of an error; those of orbax and tensorstore go on for pages."""
    return str(error).strip().split("\n")[0][:200]
