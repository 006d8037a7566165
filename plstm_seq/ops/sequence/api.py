"""The public functions of the 1D op, and the choice of how they are computed."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from plstm_seq import notation as n
from plstm_seq.ops.arguments import as_jax, check_chunk_size, factor
from plstm_seq.ops.choice import (
    Candidate,
    Implementation,
    by_rank,
    choose,
    compute,
    current_name,
    table,
)
from plstm_seq.ops.sequence import tuned
from plstm_seq.ops.sequence.across_devices import across_devices
from plstm_seq.ops.sequence.chunkwise import CHUNKWISE
from plstm_seq.ops.sequence.inputs import Inputs, check
from plstm_seq.ops.sequence.kernel import implementation_of
from plstm_seq.ops.sequence.mosaic_gpu import MosaicGPU
from plstm_seq.ops.sequence.mosaic_gpu_small import MosaicGPUSmall
from plstm_seq.ops.sequence.mosaic_tpu import MosaicTPU
from plstm_seq.ops.sequence.recurrent import RECURRENT, step

# The order of preference if nothing was measured (`tuned`) and no implementation is likely slow.
IMPLEMENTATIONS = table(
    implementation_of(MosaicGPUSmall()),
    implementation_of(MosaicGPU()),
    implementation_of(MosaicTPU()),
    CHUNKWISE,
    RECURRENT,
)


def plstm_1d(
    query: n.Query,
    key: n.Key,
    value: n.Value,
    source: n.Source,
    transition: n.Transition,
    mark: n.Mark,
    direct: n.Direct | None = None,
    *,
    initial_state: n.State | None = None,
    scale: float | Array | None = None,
    chunk_size: int | None = None,
    implementation: str | None = None,
    return_state: bool = False,
    sequence_axis: str | None = None,
) -> n.Output | tuple[n.Output, n.State]:
    r"""The pLSTM of a sequence: a linear recurrence with `JT x JT` transitions.

    For every step t, with `C` the state and `.` the contraction over the letters two gates share,

        y_t = scale * (mark_t . query_t . C_{t-1} + direct_t . query_t . key_t . value_t)
        C_t = transition_t . C_{t-1} + source_t . key_t . value_t

    The mark reads the state before its step; the source enters after the transition of its step.

    *Range.* `recurrent` is finite whenever the state is. Chunked implementations multiply up to L
    transitions with each other, for chunks of L steps, before they multiply the product with a
    state. This product can overflow even if the state itself is small or reset: transitions of norm
    n need `n ** L` below 3e38 in float32, such as n = 200 at 16 steps (the choice of `chunkwise`),
    3.9 at 64 (`mosaic_gpu`), 1.98 at 128 (`mosaic_tpu`). Beyond that, results are not finite.
    `mosaic_gpu` multiplies float32 numbers as sums of three bfloat16 numbers: numbers below 1e-33
    have fewer than 24 bits there.
    Source: arXiv 2506.11997, section 3 on the line graph of a path, with the Source-Transition-Mark
    dimensions of its appendix A.5. Transitions may be singular: nothing is ever inverted.

    Args:
        query: [*B, T, DK, JQ].
        key: [*B, T, DK, JK].
        value: [*B, T, DV, JV].
        source: [*B, T, JT, JK, JV].
        transition: [*B, T, JT, JT], acting from the left on the JT axis of the state.
        mark: [*B, T, JO, JQ, JT].
        direct: [*B, T, JO, JQ, JK, JV], the term that joins a step to itself; None: no such term.
        initial_state: `C` before the first step, [*B, DK, DV, JT]; None: zero.
        scale: factor of the output; None: `DK ** -0.5`.
        chunk_size: number of steps in a chunk of a chunked implementation, a power of two; None:
            the fastest measured size (`tuned`), else the implementation's own choice. It changes
            the result by rounding alone. A kernel that has no chunks of this size is passed over,
            and `chunkwise` takes at most the smallest power of two that is at least T.
        implementation: a key of `IMPLEMENTATIONS`; this implementation runs or raises an error.
            None: the first one that supports the call. They are tried in the order of measured
            times for this device and shape. If there are none, they are tried in the order of
            `IMPLEMENTATIONS`, but those that are likely slower than `chunkwise` come after it. If
            the program is lowered for a platform that a kernel does not support, a kernel that was
            named raises an error, and any other is replaced by the implementation that a CPU
            would use.
        return_state: whether to return the state after the last step, too.
        sequence_axis: the mesh axis that shards T inside `jax.shard_map`. Then all arguments with a
            T axis are this device's part, while `initial_state` and the returned state are those of
            the whole sequence, the same on every device of the axis. None: T is not sharded.

    Returns:
        The output [*B, T, DV, JO] in the type of `value`, and, if `return_state`, the last state
        [*B, DK, DV, JT] in the type of accumulation: float64 where an input is float64, else
        float32.

    Raises:
        TypeError: an argument is not a floating-point array, `scale` is not a real number, or
            `chunk_size` is not a whole number.
        ValueError: a shape, the chunk size, the implementation's name or the sequence axis is
            wrong.
        NotImplementedError: the named implementation does not support the call, or does not support
            the platform for which the program is lowered.
        ExceptionGroup: no implementation was named and all declined; it holds every reason.

    Example:
        The parity of the bits so far. The state has JT = 2 entries, which every 1 exchanges.

        >>> import jax.numpy as jnp
        >>> from plstm_seq.ops import plstm_1d
        >>> bits = jnp.array([1, 0, 1, 1])
        >>> exchange, stay = jnp.array([[0.0, 1.0], [1.0, 0.0]]), jnp.eye(2)
        >>> transition = jnp.where(bits[:, None, None] == 1, exchange, stay)  # [T, JT, JT]
        >>> one = jnp.ones((4, 1, 1))  # query, key and value of one feature
        >>> closed = jnp.zeros((4, 2, 1, 1))  # a source that writes nothing
        >>> mark = jnp.broadcast_to(jnp.eye(2)[:, None], (4, 2, 1, 2))  # reads both entries
        >>> even = jnp.array([[[1.0, 0.0]]])  # the initial state
        >>> y, last = plstm_1d(
        ...     one, one, one, closed, transition, mark, initial_state=even, return_state=True
        ... )
        >>> y[:, 0].argmax(-1).tolist()  # the parity before each bit
        [0, 1, 1, 0]
        >>> last[0, 0].argmax(-1).tolist()  # and after all of them
        1
    """
    inputs = Inputs(query, key, value, source, transition, mark, direct)
    check(inputs, initial_state)
    check_chunk_size(chunk_size, power_of_two=True)
    forms = choose(IMPLEMENTATIONS, implementation)
    inputs, initial_state = as_jax((inputs, initial_state))

    def run(inputs: Inputs, state: Array) -> tuple[Array, Array]:
        def candidates(device: Any) -> list[Candidate]:
            return _in_order(forms, inputs, chunk_size, device)

        named = implementation is not None
        return compute("plstm_1d", candidates, inputs, state, scale=scale, named=named)

    state = _initial(inputs, initial_state)
    if sequence_axis is None:
        output, state = run(inputs, state)
    else:
        output, state = across_devices(run, inputs, state, sequence_axis)
    return (output, state) if return_state else output


def plstm_1d_step(
    query: Array,
    key: Array,
    value: Array,
    source: Array,
    transition: Array,
    mark: Array,
    direct: Array | None = None,
    *,
    state: n.State,
    scale: float | Array | None = None,
) -> tuple[Array, n.State]:
    """One step of `plstm_1d`, for decoding with O(1) memory; its arguments have no T axis.

    Args:
        query: [*B, DK, JQ].
        key: [*B, DK, JK].
        value: [*B, DV, JV].
        source: [*B, JT, JK, JV].
        transition: [*B, JT, JT].
        mark: [*B, JO, JQ, JT].
        direct: [*B, JO, JQ, JK, JV] or None.
        state: `C` before the step, [*B, DK, DV, JT].
        scale: factor of the output; None: `DK ** -0.5`.

    Returns:
        The output [*B, DV, JO] in the type of `value`, and the next state.

    Raises:
        TypeError: an argument is not a floating-point array.
        ValueError: a shape is wrong.

    Example:
        Add up three numbers, one at a time.

        >>> import jax.numpy as jnp
        >>> from plstm_seq.ops import plstm_1d_step
        >>> one, gate = jnp.ones((1, 1)), jnp.ones((1, 1, 1))
        >>> state = jnp.zeros((1, 1, 1))
        >>> for number in (2.0, 3.0, 5.0):
        ...     y, state = plstm_1d_step(
        ...         one, one, jnp.array([[number]]), gate, one, gate, state=state
        ...     )
        >>> y.item(), state.item()  # the mark reads the state before its step
        (5.0, 10.0)
    """
    inputs = Inputs(query, key, value, source, transition, mark, direct)
    check(inputs, state, time=False)
    inputs, state = as_jax((inputs, state))
    state = _initial(inputs, state)
    output, state = step(inputs.astype(state.dtype), state)
    output = factor(scale, inputs.query, state.dtype) * output
    return output.astype(inputs.value.dtype), state


def _initial(inputs: Inputs, state: Array | None) -> Array:
    """Returns the state before the first step in the accumulation type, zeros for None."""
    if state is None:
        return jnp.zeros(inputs.state_shape, inputs.accumulation_dtype)
    return state.astype(jnp.promote_types(inputs.accumulation_dtype, state.dtype))


def _in_order(
    forms: Sequence[Implementation], inputs: Inputs, chunk_size: int | None, device: Any
) -> list[Candidate]:
    """Returns what to try: first what was measured on the device, from the fastest, then the rest.

    All implementations follow without a measured chunk size, so that a table never makes a call
    fail. If nothing was measured, their ranks put those that are likely to be slow last.
    """
    by_name = {form.name: form for form in forms}
    measured = []
    if len(forms) > 1 or chunk_size is None:
        measured = [
            (by_name[name], chunk_size or timing.chunk_size)
            for timing in tuned.ranking(inputs, device)
            if (name := current_name(by_name, timing.implementation)) in by_name
        ]
    ordered = forms if measured else by_rank(forms, inputs, device)
    tries = dict.fromkeys([*measured, *((form, chunk_size) for form in ordered)])
    return [Candidate(form, {"chunk_size": size}) for form, size in tries]
