"""The choice between the ways of computing an op."""

from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

Result = TypeVar("Result")


class UnsupportedError(NotImplementedError):
    """An implementation that was named does not support the call, or does not run here."""


def check_name(name: str | None, implementations: Collection[str]) -> None:
    """Raises a ValueError where an implementation is named that does not exist."""
    if name is not None and name not in implementations:
        raise ValueError(f"implementation is {name!r}: expected one of {list(implementations)}")


def first_that_supports(
    op: str, calls: Iterable[tuple[str, Callable[[], Result]]], *, named: bool
) -> Result:
    """The result of the first call that does not decline.

    Args:
        op: name of the op, for the error.
        calls: names of implementations, and their calls, in the order of preference.
        named: whether the user named the implementation, whose reason is raised then.

    Raises:
        UnsupportedError: the named implementation declined.
        ExceptionGroup: none was named and all declined; it holds every reason.
    """
    reasons: dict[str, NotImplementedError] = {}
    for name, call in calls:
        try:
            return call()
        except NotImplementedError as reason:
            reasons[name] = reason
    if named:
        (reason,) = reasons.values()
        raise UnsupportedError(str(reason)) from reason
    raise ExceptionGroup(
        f"no implementation of {op} supports this call",
        [NotImplementedError(f"{name}: {reason}") for name, reason in reasons.items()],
    )
