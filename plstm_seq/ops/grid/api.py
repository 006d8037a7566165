"""The public function of the 2D op, and the choice of how it is computed."""

from typing import Any

from jax import Array

from plstm_seq import notation as n
from plstm_seq.ops.arguments import accumulation_dtype, as_jax
from plstm_seq.ops.choice import Candidate, by_rank, choose, compute, table
from plstm_seq.ops.grid import triton
from plstm_seq.ops.grid.chunkwise import CHUNKWISE
from plstm_seq.ops.grid.inputs import Inputs, States, check
from plstm_seq.ops.grid.parallel import PARALLEL
from plstm_seq.ops.grid.recurrent import RECURRENT

IMPLEMENTATIONS = table(triton.implementation_of(triton.Triton()), PARALLEL, CHUNKWISE, RECURRENT)


def plstm_2d(
    query: n.GridQuery,
    key: n.GridKey,
    value: n.GridValue,
    source_right: n.GridSource,
    source_down: n.GridSource,
    transition_rl: n.GridTransition,
    transition_du: n.GridTransition,
    transition_dl: n.GridTransition | None,
    transition_ru: n.GridTransition | None,
    mark_left: n.GridMark,
    mark_up: n.GridMark,
    direct: n.GridDirect | None = None,
    *,
    initial_left: n.LeftState | None = None,
    initial_top: n.TopState | None = None,
    scale: float | Array | None = None,
    implementation: str | None = None,
    return_state: bool = False,
) -> n.GridOutput | tuple[n.GridOutput, tuple[n.LeftState, n.TopState]]:
    r"""The pLSTM of a grid: two states leave every cell, one to the right and one down.

    For every cell (x, y), with `l = R(x-1, y)` and `u = D(x, y-1)` the states that enter it and
    `.` the contraction over the letters two gates share,

        out(x, y) = scale * (mark_left . query . l + mark_up . query . u
                             + direct . query . key . value)
        R(x, y)   = transition_rl . l + transition_ru . u + source_right . key . value
        D(x, y)   = transition_du . u + transition_dl . l + source_down . key . value

    X runs to the right and Y down. A transition's name has two letters: the first is the edge that
    it leads to (right, down), the second the edge that it comes from (left, up). With both turns
    this is P-mode. D-mode leaves one turn out, so that only one way joins two cells:
    `transition_dl=None` is chirality L, `transition_ru=None` is R. Source: arXiv 2506.11997,
    section 3 on the line graph of a grid. Transitions may be singular: nothing is ever inverted.

    *Range.* `recurrent` is finite whenever the states are. The other implementations multiply m
    transitions with each other before they multiply the product with a state: m is at most X + Y
    for `parallel`, 16 for `chunkwise` (tiles of 8 by 8 cells), and X + Y (at most 32) for `triton`.
    The product can overflow even if the state is small or reset: if the four transitions of a cell
    together have norm n, `n ** m` has to be below 3e38 in float32. Beyond that, results are not
    finite.

    Args:
        query: [*B, X, Y, DK, JQ].
        key: [*B, X, Y, DK, JK].
        value: [*B, X, Y, DV, JV].
        source_right: [*B, X, Y, JT, JK, JV].
        source_down: the same, for the edge that leads down.
        transition_rl: [*B, X, Y, JT, JT], acting from the left on the JT axis of the state.
        transition_du: the same, from the upper edge to the lower one.
        transition_dl: the same for the turn from the left edge down; None: no such turn.
        transition_ru: the same for the turn from the upper edge to the right; None: no such turn.
        mark_left: [*B, X, Y, JO, JQ, JT].
        mark_up: the same, for the edge from above.
        direct: [*B, X, Y, JO, JQ, JK, JV], the term that joins a cell to itself; None: no such
            term.
        initial_left: the states that enter the first column from the left, [*B, Y, DK, DV, JT];
            None: zero.
        initial_top: the states that enter the first row from above, [*B, X, DK, DV, JT]; None:
            zero.
        scale: factor of the output; None: `DK ** -0.5`.
        implementation: a key of `IMPLEMENTATIONS`; this implementation runs or raises an error.
            None: the first one that supports the call, in the order `triton`, `parallel` (for grids
            of up to 1,024 cells), `chunkwise`.
        return_state: whether to return the states that leave the grid, too.

    Returns:
        The output [*B, X, Y, DV, JO] in the type of `value`, and, if `return_state`, the states
        that leave the last column to the right [*B, Y, DK, DV, JT] and the last row down
        [*B, X, DK, DV, JT], in the type of accumulation: float64 if an input is float64, else
        float32. They are the initial states of the grids to the right and below.

    Raises:
        TypeError: an argument is not a floating-point array.
        ValueError: a shape or the implementation's name is wrong.
        NotImplementedError: the named implementation does not support the call.
        ExceptionGroup: no implementation was named and all declined; it holds every reason.

    Example:
        Count the ways from the first cell to every other, right and down.

        >>> import jax.numpy as jnp
        >>> from plstm_seq.ops import plstm_2d
        >>> one = jnp.ones((3, 3, 1, 1))  # queries, keys, values; and transitions of JT = 1
        >>> mark = jnp.ones((3, 3, 1, 1, 1))
        >>> source = jnp.zeros((3, 3, 1, 1, 1)).at[0, 0].set(1)
        >>> y = plstm_2d(one, one, one, source, source, one, one, one, one, mark, mark)
        >>> y[..., 0, 0].round().astype(int).tolist()
        [[0, 1, 1], [1, 2, 3], [1, 3, 6]]
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
    initial = States(initial_left, initial_top)
    check(inputs, initial)
    forms = choose(IMPLEMENTATIONS, implementation)
    inputs, initial = as_jax((inputs, initial))
    options = {"dtype": accumulation_dtype(*inputs, *initial), "leaving": return_state}

    def candidates(device: Any) -> list[Candidate]:
        return [Candidate(form, options) for form in by_rank(forms, inputs, device)]

    output, states = compute(
        "plstm_2d", candidates, inputs, initial, scale=scale, named=implementation is not None
    )
    return (output, (states.across, states.down)) if return_state else output
