"""Being told to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Takes SIGTERM as Ctrl-C while the block runs: what is being trained is saved first.

    Outside the main thread Python delivers no signals, and nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: object) -> None:
        del number, frame
        signal.raise_signal(signal.SIGINT)

    previous = signal.signal(signal.SIGTERM, handle)
    # A shell starts its background jobs so that they ignore SIGINT: ours has to be heard.
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        signal.signal(signal.SIGINT, interrupt)
