"""The 2D op in several orientations at once; with all four, every cell reads from every other."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from plstm_seq import notation as n
from plstm_seq.ops.arguments import accumulation_dtype, as_jax, check_axes, require
from plstm_seq.ops.choice import Candidate, Implementation, by_rank, choose, compute
from plstm_seq.ops.grid import api
from plstm_seq.ops.grid.inputs import (
    AXES,
    GATES,
    OPTIONAL,
    GridImplementation,
    Inputs,
    States,
    apart,
    flip,
)
from plstm_seq.ops.products import direct_term


def plstm_2d_oriented(
    query: n.GridQuery,
    key: n.GridKey,
    value: n.GridValue,
    source_right: n.OrientedSource,
    source_down: n.OrientedSource,
    transition_rl: n.OrientedTransition,
    transition_du: n.OrientedTransition,
    transition_dl: n.OrientedTransition | None,
    transition_ru: n.OrientedTransition | None,
    mark_left: n.OrientedMark,
    mark_up: n.OrientedMark,
    direct: n.GridDirect | None = None,
    *,
    orientations: Sequence[int] = (0, 1, 2, 3),
    scale: float | Array | None = None,
    implementation: str | None = None,
) -> n.GridOutput:
    """The sum of `plstm_2d` over orientations, each with gates of its own.

    Bit 0 of an orientation o flips the grid along x, and bit 1 flips it along y: queries, keys,
    values and the gates of o are flipped, the op runs without the direct term, and its output is
    flipped back. The direct term is added once. The gates of a cell have the index of the cell in
    every orientation.

    Args:
        query: [*B, X, Y, DK, JQ].
        key: [*B, X, Y, DK, JK].
        value: [*B, X, Y, DV, JV].
        source_right: [*B, O, X, Y, JT, JK, JV], where O is the number of orientations. This gate
            and all others but `direct` are those of `plstm_2d` with an additional axis O.
        source_down: the same, for the edge that leads down.
        transition_rl: [*B, O, X, Y, JT, JT].
        transition_du: the same, from the upper edge to the lower one.
        transition_dl: the same for the turn from the left edge down; None: there is no such turn.
        transition_ru: the same for the turn from the upper edge to the right; None: there is no
            such turn.
        mark_left: [*B, O, X, Y, JO, JQ, JT].
        mark_up: the same, for the edge from above.
        direct: [*B, X, Y, JO, JQ, JK, JV]; None: no such term.
        orientations: numbers from 0 to 3, in the order of the axis O.
        scale: factor of the output; None: `DK ** -0.5`.
        implementation: the same as in `plstm_2d`. `parallel` and `triton` sum the gates of all
            orientations, so that there is only one product of queries, keys and values. The other
            implementations compute the orientations as a batch of grids.

    Returns:
        The output [*B, X, Y, DV, JO] in the type of `value`.

    Raises:
        TypeError: an argument is not a floating-point array.
        ValueError: a shape, an orientation or the implementation's name is wrong.
        NotImplementedError: the named implementation does not support the call.
        ExceptionGroup: no implementation was named and all declined; it holds every reason.

    Example:
        Add up all other cells of a row, once from each side.

        >>> import jax.numpy as jnp
        >>> from plstm_seq.ops import plstm_2d_oriented
        >>> numbers = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1, 1)  # [X, Y, DV, JV]
        >>> one = jnp.ones((4, 1, 1, 1))
        >>> square, gate = jnp.ones((2, 4, 1, 1, 1)), jnp.ones((2, 4, 1, 1, 1, 1))  # [O, X, Y, ...]
        >>> y = plstm_2d_oriented(
        ...     *(one, one, numbers, gate, gate, square, square, None, None, gate, gate),
        ...     orientations=(0, 1),
        ... )
        >>> y.ravel().round().astype(int).tolist()
        [9, 8, 7, 6]
    """
    inputs = Inputs(
        query,
        key,
        value,
        source_right,
        source_down,
        transition_rl,
        transition_du,
        transition_dl,
        transition_ru,
        mark_left,
        mark_up,
        direct,
    )
    _check(inputs, orientations)
    forms = choose(api.IMPLEMENTATIONS, implementation)
    inputs = as_jax(inputs)
    options = {
        "orientations": tuple(orientations),
        "dtype": accumulation_dtype(*inputs),
        # Numbers of 16 bits lose nothing in the 19 bits of a tensor core, and their products lose
        # little.
        "half": max(x.dtype.itemsize for x in inputs[:3]) < 4,
    }

    def candidates(device: Any) -> list[Candidate]:
        return [Candidate(_oriented(form), options) for form in by_rank(forms, inputs, device)]

    named = implementation is not None
    return compute("plstm_2d_oriented", candidates, inputs, scale=scale, named=named)[0]


def _check(inputs: Inputs, orientations: Sequence[int]) -> None:
    check_axes(
        (
            (name, array, ("O", *AXES[name]) if name in GATES else AXES[name])
            for name, array in inputs._asdict().items()
        ),
        optional=OPTIONAL,
    )
    known = set(orientations) <= {0, 1, 2, 3}
    require(known, "orientations", orientations, "numbers from 0 to 3")
    count = inputs.transition_rl.shape[-5]
    fits = len(orientations) == count
    require(fits, "orientations", orientations, f"O = {count} of them, as the gates have")


def _oriented(form: GridImplementation) -> Implementation:
    """Returns an implementation of `plstm_2d_oriented` that uses one of `plstm_2d`."""

    def run(
        inputs: Inputs,
        state: None,
        *,
        orientations: tuple[int, ...],
        dtype: jnp.dtype,
        half: bool,
        **home: Any,
    ) -> tuple[Array, None]:
        del state
        if form.summed is not None:
            return form.summed(inputs, orientations, dtype=dtype, half=half, **home), None
        inputs = inputs.astype(dtype)
        grids, axis = apart(inputs._replace(direct=None), orientations), len(inputs.batch)
        output, _ = form.run(grids, States(None, None), dtype=dtype, leaving=False, **home)
        output = flip(output, orientations, axis).sum(axis)
        if inputs.direct is not None:
            output += direct_term(inputs.query, inputs.key, inputs.value, inputs.direct)
        return output, None

    return Implementation(
        form.name,
        run,
        form.check,
        form.rank,
        form.check_device,
        form.platforms,
        forward_mode=form.forward_mode,
    )
