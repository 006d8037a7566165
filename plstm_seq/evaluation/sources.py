"""What evaluation asks of tasks, as plain callables, and of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from jaxtyping import Array, Int

from plstm_seq.batches import Sample


class Stream(NamedTuple):
    """A task whose inputs are drawn independently and whose labels depend only on the past.

    Any length is read off one pass, piece by piece.

    Attributes:
        draw: (key, batch, length) -> inputs int32 [batch, length].
        start: (batch) -> the state before the first symbol, any pytree.
        advance: (inputs, state) -> (targets int32 [batch, length], state).
        period: lengths that `draw` is asked for are multiples of this.
    """

    draw: Callable[[Array, int, int], Int[Array, "B T"]]
    start: Callable[[int], Any]
    advance: Callable[[Int[Array, "B T"], Any], tuple[Int[Array, "B T"], Any]]
    period: int = 1


Source = Stream | Sample


class EvaluatedModel(Protocol):
    """What evaluation asks of a model.

    `bounded_state` says whether the size of the state is the same after any number of symbols; if
    not, only `model(inputs)` is called.
    """

    @property
    def bounded_state(self) -> bool: ...  # noqa: D102
    def init_state(self, batch_size: int, /) -> Any: ...  # noqa: D102
    def __call__(self, inputs: Array, /, **options: Any) -> Any: ...  # noqa: D102
