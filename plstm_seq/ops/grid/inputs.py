"""The arguments of the 2D op as one pytree, the states on a grid's edges, and their checks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops import varying
from plstm_seq.ops.arguments import check_axes
from plstm_seq.ops.choice import Implementation

_SOURCE = ("X", "Y", "JT", "JK", "JV")
_TRANSITION = ("X", "Y", "JT", "JT")
_MARK = ("X", "Y", "JO", "JQ", "JT")
AXES: Mapping[str, tuple[str, ...]] = {
    "query": ("X", "Y", "DK", "JQ"),
    "key": ("X", "Y", "DK", "JK"),
    "value": ("X", "Y", "DV", "JV"),
    "source_right": _SOURCE,
    "source_down": _SOURCE,
    "transition_rl": _TRANSITION,
    "transition_du": _TRANSITION,
    "transition_dl": _TRANSITION,
    "transition_ru": _TRANSITION,
    "mark_left": _MARK,
    "mark_up": _MARK,
    "direct": ("X", "Y", "JO", "JQ", "JK", "JV"),
}
STATE_AXES: Mapping[str, tuple[str, ...]] = {
    "initial_left": ("Y", "DK", "DV", "JT"),
    "initial_top": ("X", "DK", "DV", "JT"),
}
GATES = tuple(AXES)[3:-1]
"""All gates but `direct`."""
# These are None if there is no such turn (D-mode), direct term or initial state.
OPTIONAL = ("transition_dl", "transition_ru", "direct", *STATE_AXES)


class States(NamedTuple):
    """The states that enter a grid at its left and top edge, or leave it to the right and down.

    across: [*B, Y, DK, DV, JT], states that move along x; down: [*B, X, DK, DV, JT], along y.
    """

    across: Array | None
    down: Array | None


class Inputs(NamedTuple):
    """The arrays that enter the recurrence at every cell; `AXES` names their axes after *B."""

    query: Array
    key: Array
    value: Array
    source_right: Array
    source_down: Array
    transition_rl: Array
    transition_du: Array
    transition_dl: Array | None
    transition_ru: Array | None
    mark_left: Array
    mark_up: Array
    direct: Array | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """X and Y."""
        return self.query.shape[-4], self.query.shape[-3]

    @property
    def batch(self) -> tuple[int, ...]:
        """*B."""
        return self.query.shape[:-4]

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """DK, DV, JT."""
        return self.query.shape[-2], self.value.shape[-2], self.transition_rl.shape[-1]

    def astype(self, dtype: jnp.dtype) -> "Inputs":
        """Returns all inputs in the same type."""
        return jax.tree.map(lambda x: x.astype(dtype), self)

    def enlarged(self, X: int, Y: int) -> "Inputs":
        """Pads to [*B, X, Y, ...] with cells that pass both states on and output zero."""
        axis = self.query.ndim - 4
        missing = X - self.grid[0], Y - self.grid[1]
        if not any(missing):
            return self

        def pad(array: Array) -> Array:
            widths = [(0, 0)] * array.ndim
            widths[axis : axis + 2] = [(0, n) for n in missing]
            return jnp.pad(array, widths)

        def pass_on(transition: Array) -> Array:
            inside = jnp.arange(X)[:, None] < self.grid[0]
            inside = (inside & (jnp.arange(Y) < self.grid[1]))[:, :, None, None]
            identity = jnp.eye(transition.shape[-1], dtype=transition.dtype)
            return jnp.where(inside, pad(transition), identity)

        return jax.tree.map(pad, self)._replace(
            transition_rl=pass_on(self.transition_rl), transition_du=pass_on(self.transition_du)
        )


@dataclass(frozen=True)
class GridImplementation(Implementation):
    """An implementation of `plstm_2d`, and of `plstm_2d_oriented` with it.

    `run(inputs, initial, dtype=, leaving=)` gets the initial states (None: zero), the type of
    accumulation, and whether the last states are needed; if not, it may return None for them.

    Attributes:
        summed: `summed(inputs, orientations, dtype=, half=)` takes gates [*B, O, X, Y, ...] and
            returns the sum over orientations, with the direct term; `half` is true if query, key
            and value have 16 bits. None: the orientations are computed as one batch of grids.
    """

    summed: Callable[..., Array] | None = None


def check(inputs: Inputs, initial: States) -> None:
    """Checks that the shapes of all arguments fit each other.

    `AXES` and `plstm_seq.notation` name the axes.

    Raises:
        TypeError: an argument is not a floating-point array.
        ValueError: a shape does not fit the notation or another argument.
    """
    arguments = [(name, array, AXES[name]) for name, array in inputs._asdict().items()]
    states = zip(STATE_AXES.items(), initial, strict=True)
    arguments += [(name, array, axes) for (name, axes), array in states]
    check_axes(arguments, optional=OPTIONAL)


def zero_states(inputs: Inputs, initial: States, dtype: jnp.dtype) -> tuple[Array, Array]:
    """Returns the initial states as arrays of one type, with zeros for None."""
    X, Y = inputs.grid

    def fill(state: Array | None, side: int) -> Array:
        if state is not None:
            return state.astype(dtype)
        zeros = jnp.zeros((*inputs.batch, side, *inputs.state_shape), dtype)
        return varying.vary(zeros, varying.axes_of(inputs))

    return fill(initial.across, Y), fill(initial.down, X)


def apart(inputs: Inputs, orientations: Sequence[int]) -> Inputs:
    """Makes every orientation a grid of its own, [*B, O, X, Y, ...]; gates already have the O."""
    axis = len(inputs.batch)
    vectors = {
        name: repeated(array, len(orientations), axis)
        for name, array in zip(Inputs._fields[:3], inputs[:3], strict=True)
    }
    return jax.tree.map(lambda x: flip(x, orientations, axis), inputs._replace(**vectors))


def repeated(array: Array, count: int, axis: int) -> Array:
    """Adds an axis with `count` copies of the array."""
    shape = (*array.shape[:axis], count, *array.shape[axis:])
    return jnp.broadcast_to(jnp.expand_dims(array, axis), shape)


def flip(array: Array, orientations: Sequence[int], axis: int, step: int = 0) -> Array:
    """Flips each orientation of the axis O; this function is its own inverse.

    Args:
        array: [..., O, X, Y, ...].
        orientations: the orientations of the axis O.
        axis: the index of the axis O.
        step: if not 0, the two axes that come `step` after X and Y are flipped, too.
    """
    flipped = []
    # A split, not slices: the gradients of its parts are joined, while those of slices are added.
    parts = jnp.split(array, len(orientations), axis)
    for part, orientation in zip(parts, orientations, strict=True):
        axes = [axis + 1 + bit for bit in (0, 1) if orientation >> bit & 1]
        axes += [each + step for each in axes] if step else []
        flipped.append(jnp.flip(part, axes))
    return jnp.concatenate(flipped, axis)
