"""Strange inputs, one after the other: what refuses them says so, and nothing else goes wrong."""

from collections.abc import Callable, Iterable
from typing import Any


def refusals(read: Callable[[Any], object], inputs: Iterable[Any]) -> list[str]:
    """The messages of the ValueErrors; any other error is the test's."""
    messages = []
    for each in inputs:
        try:
            read(each)
        except ValueError as error:
            messages.append(str(error))
    return messages
