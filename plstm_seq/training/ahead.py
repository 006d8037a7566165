"""Batches that a thread makes on the host while the device is at work on the one before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Makes things by number, the next few before they are asked for.

    Args:
        make: from a number; called in another thread, one call at a time.
        stop: no number from here on is made.
        depth: how many are made ahead.
    """

    def __init__(self, make: Callable[[int], T], stop: int, depth: int = 2):
        self._make, self._stop, self._depth = make, stop, depth
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._made: dict[int, Future[T]] = {}

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, number: int) -> T:
        """What was made of a number; an error that making it raised is raised here."""
        for ahead in range(number, min(number + self._depth + 1, self._stop)):
            if ahead not in self._made:
                self._made[ahead] = self._pool.submit(self._make, ahead)
        return self._made.pop(number).result()
