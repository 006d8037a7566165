"""Being told to stop: Ctrl-C between two dispatches instead of inside one, and signals like it."""

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


# Sent by whoever ends a process, such as Slurm, and by a terminal that is closed.
_ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Takes SIGTERM and SIGHUP as Ctrl-C while the block runs: what is being trained is saved.

    A signal that the process was started to ignore, as SIGHUP is under nohup, stays ignored.
    Outside the main thread Python delivers no signals, and nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    told = threading.Event()

    def handle(number: int, frame: object) -> None:
        del number, frame
        if not told.is_set():  # a second one must not cut off the saving; a second Ctrl-C does
            told.set()
            signal.raise_signal(signal.SIGINT)

    heard = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in heard}
    # A shell starts its background jobs so that they ignore SIGINT: ours has to be heard.
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGINT, interrupt)
