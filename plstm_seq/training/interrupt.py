"""Ctrl-C between two dispatches instead of inside one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag; the second one raises `KeyboardInterrupt` as usual.

    A training state is donated to the program that computes the next one, so an exception in
    between would leave neither. Outside the main thread Python delivers no signals and the flag
    stays down.

    Yields:
        A function that says whether Ctrl-C was pressed.
    """
    pressed = threading.Event()
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous in (
        None,  # owned by C code
        signal.SIG_IGN,  # a background job of a shell: Ctrl-C is not meant for it
    ):
        yield pressed.is_set
        return

    def handle(number: int, frame: object) -> None:
        del number, frame
        pressed.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handle)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, previous)
