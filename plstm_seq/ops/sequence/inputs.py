"""The arguments of the 1D op as one pytree, and the checks of their shapes and types."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.arguments import accumulation_dtype, check_axes

AXES: Mapping[str, tuple[str, ...]] = {
    "query": ("T", "DK", "JQ"),
    "key": ("T", "DK", "JK"),
    "value": ("T", "DV", "JV"),
    "source": ("T", "JT", "JK", "JV"),
    "transition": ("T", "JT", "JT"),
    "mark": ("T", "JO", "JQ", "JT"),
    "direct": ("T", "JO", "JQ", "JK", "JV"),
}
# All other arguments are gates.
VECTORS = ("query", "key", "value")
STATE_AXES = ("DK", "DV", "JT")


class Inputs(NamedTuple):
    """The arrays that enter the recurrence at every step; `plstm_seq.notation` names their axes."""

    query: Array
    key: Array
    value: Array
    source: Array
    transition: Array
    mark: Array
    direct: Array | None = None

    @property
    def length(self) -> int:
        """T."""
        return self.query.shape[-3]

    @property
    def state_shape(self) -> tuple[int, ...]:
        """[*B, DK, DV, JT]."""
        *batch, _, dk, _ = self.query.shape
        return (*batch, dk, self.value.shape[-2], self.transition.shape[-1])

    @property
    def accumulation_dtype(self) -> jnp.dtype:
        """float64 if any input is float64, else float32."""
        return accumulation_dtype(*self)

    def astype(self, dtype: jnp.dtype) -> "Inputs":
        """Returns all inputs in the same type."""
        return jax.tree.map(lambda x: x.astype(dtype), self)

    def lengthened(self, length: int) -> "Inputs":
        """Pads to [*B, length, ...] with steps that keep the state and have an output of zero."""
        axis = self.query.ndim - 3
        missing = length - self.length
        if not missing:
            return self

        def fill(array: Array, rest: Array) -> Array:
            shape = (*array.shape[:axis], missing, *array.shape[axis + 1 :])
            return jnp.concatenate([array, jnp.broadcast_to(rest, shape).astype(array.dtype)], axis)

        filled = jax.tree.map(lambda x: fill(x, jnp.zeros(())), self)
        identity = jnp.eye(self.transition.shape[-1])
        return filled._replace(transition=fill(self.transition, identity))


def check(inputs: Inputs, state: Array | None, *, time: bool = True) -> None:
    """Checks that the shapes of all arguments fit each other.

    `AXES` and `plstm_seq.notation` name the axes.

    Args:
        inputs: the arguments, [*B, T, ...], or [*B, ...] where `time` is False.
        state: the initial state [*B, DK, DV, JT], or None.
        time: whether the arguments have a time axis.

    Raises:
        TypeError: an argument is not a floating-point array.
        ValueError: a shape does not fit the notation or another argument.
    """
    arguments = [(name, array, AXES[name]) for name, array in inputs._asdict().items()]
    arguments.append(("initial_state" if time else "state", state, STATE_AXES))
    if not time:
        arguments = [
            (name, array, tuple(x for x in axes if x != "T")) for name, array, axes in arguments
        ]
    check_axes(arguments, optional=("direct", "initial_state"))
