"""The 1D op in chunks, in XLA: `levels` joins steps of a chunk, a state joins chunks (README.md).

The sequence is computed in runs of chunks, so that the memory that a run needs in addition to its
arguments does not grow with T. The backward pass keeps the arguments and the states between runs.
It computes everything else again, run by run from the last.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.choice import Implementation
from plstm_seq.ops.products import einsum
from plstm_seq.ops.sequence import blocks
from plstm_seq.ops.sequence.carry import carry, carry_backward
from plstm_seq.ops.sequence.inner import gating_matrix, inner_backward
from plstm_seq.ops.sequence.inputs import Inputs
from plstm_seq.ops.sequence.levels import levels
from plstm_seq.ops.sequence.recurrent import SMALL_STATE

# The number of steps whose gates are in memory at once. It is large enough to fill a device, and
# the gates are small compared with the arguments.
RUN = 1024

# The arguments, and the state at each run's start.
_Residuals = tuple[Inputs, Array]


class Plan(NamedTuple):
    """A division of `length` steps into `runs` runs of `chunks` chunks of `size` steps."""

    size: int
    chunks: int
    runs: int
    length: int

    @property
    def steps(self) -> int:
        """Number of steps of a run."""
        return self.size * self.chunks

    def real(self, run: Array) -> Array | None:
        """Returns [c, L], true for steps of a run that are not padding; None if there is none."""
        if self.steps * self.runs == self.length:
            return None
        steps = run * self.steps + jnp.arange(self.steps)
        return (steps < self.length).reshape(self.chunks, self.size)


def chunkwise(
    inputs: Inputs, initial_state: Array, *, chunk_size: int | None
) -> tuple[Array, Array]:
    """Returns the output [*B, T, DV, JO] and the last state, in the type of the state.

    Args:
        inputs: [*B, T, ...].
        initial_state: [*B, DK, DV, JT].
        chunk_size: L, a power of two; it is lowered to the smallest one that is at least T. None:
            `default_chunk_size`.
    """
    size = min(chunk_size or default_chunk_size(inputs), _enough(inputs.length))
    plan = make_plan(inputs.length, size)
    function = functools.partial(_sequence, plan)
    for _ in range(initial_state.ndim - 3):
        function = jax.vmap(function)
    output, state = function(inputs.lengthened(plan.steps * plan.runs), initial_state)
    return output[..., : inputs.length, :, :], state


def _check(inputs: Inputs, state: Array, *, chunk_size: int | None) -> None:
    """Declines a symbolic T, as in a program that is exported for every length."""
    del state, chunk_size
    if not isinstance(inputs.length, int):
        raise NotImplementedError("chunks are cut from a length that is a number")


def _rank(inputs: Inputs, platform: str) -> int:
    """Ranks it after `recurrent` for small states on a CPU, where it is slower.

    Measured by `benchmarks/ops_1d.py --batch 512 --DK 4 --DV 4 --lengths 40`.
    """
    numbers = all(isinstance(size, int) for size in inputs.query.shape[:-2])
    small = math.prod(inputs.state_shape[-3:]) <= SMALL_STATE
    return int(platform == "cpu" and numbers and small)


CHUNKWISE = Implementation("chunkwise", chunkwise, _check, _rank)


def default_chunk_size(inputs: Inputs) -> int:
    """Returns the fastest L on a CPU, or one near it (`benchmarks/ops_1d.py --chunk-sizes`).

    The matrix of a chunk has `L * JO * JV` entries per step, so that many gates call for shorter
    chunks.
    """
    many = inputs.mark.shape[-3] * inputs.value.shape[-1] > 32
    return min(8 if many else 16, _enough(inputs.length))


def _enough(length: int) -> int:
    """Returns the smallest power of two that is at least `length`."""
    return 1 << (length - 1).bit_length()


def make_plan(length: int, size: int) -> Plan:
    """Cuts `length` steps into runs of about `RUN` steps, padded by less than a chunk each."""
    chunks = -(-length // size)
    runs = -(-chunks * size // max(RUN, size))
    return Plan(size, -(-chunks // runs), runs, length)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sequence(plan: Plan, inputs: Inputs, state: Array) -> tuple[Array, Array]:
    """Computes one sequence [T, ...] that is padded to the length of the plan's chunks."""
    return _sequence_forward(plan, inputs, state)[0]


def _sequence_forward(
    plan: Plan, inputs: Inputs, state: Array
) -> tuple[tuple[Array, Array], _Residuals]:
    def body(state: Array, run: Array) -> tuple[Array, tuple[Array, Array]]:
        output, after = _run(plan, _slice(inputs, plan, run), state, plan.real(run))
        return after, (output, state)

    last, (output, states) = jax.lax.scan(body, state, jnp.arange(plan.runs))
    return (output.reshape(-1, *output.shape[2:]), last), (inputs, states)


def _sequence_backward(
    plan: Plan, residuals: _Residuals, cotangents: tuple[Array, Array]
) -> tuple[Inputs, Array]:
    inputs, states = residuals
    output_bar, state_bar = cotangents

    def body(carried: tuple[Array, Inputs], run: Array) -> tuple[tuple[Array, Inputs], None]:
        state_bar, inputs_bar = carried
        begin = run * plan.steps
        part = jax.lax.dynamic_slice_in_dim(output_bar, begin, plan.steps)
        run_bar, state_bar = _run_backward(
            plan, _slice(inputs, plan, run), states[run], plan.real(run), part, state_bar
        )
        inputs_bar = jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(
                whole, part.astype(whole.dtype), begin, 0
            ),
            inputs_bar,
            run_bar,
        )
        return (state_bar, inputs_bar), None

    empty = jax.tree.map(jnp.zeros_like, inputs)
    (state_bar, inputs_bar), _ = jax.lax.scan(
        body, (state_bar, empty), jnp.arange(plan.runs), reverse=True
    )
    return inputs_bar, state_bar


_sequence.defvjp(_sequence_forward, _sequence_backward)


def _slice(inputs: Inputs, plan: Plan, run: Array) -> Inputs:
    return jax.tree.map(
        lambda x: jax.lax.dynamic_slice_in_dim(x, run * plan.steps, plan.steps), inputs
    )


def _arrange(plan: Plan, inputs: Inputs, dtype: jnp.dtype) -> tuple[Inputs, Array]:
    """Arranges [steps, ...] as [c, L, ...], with DK and DV last; returns it and the direct term.

    If there is no direct term, zeros take its place.
    """
    x = jax.tree.map(
        lambda y: y.reshape(plan.chunks, plan.size, *y.shape[1:]).astype(dtype), inputs
    )
    direct = x.direct
    if direct is None:
        direct = jnp.zeros((*x.mark.shape[:4], *x.source.shape[3:]), dtype)
    return x._replace(query=x.query.mT, key=x.key.mT, value=x.value.mT), direct


def _run(plan: Plan, inputs: Inputs, state: Array, real: Array | None) -> tuple[Array, Array]:
    """Computes one run of chunks: its output [steps, DV, JO] and the state after it."""
    x, direct = _arrange(plan, inputs, state.dtype)
    crossings, whole = levels(x.mark, x.source, x.transition, real)
    some = None if real is None else real[:, 0]
    output, after = carry(x.query, x.key, x.value, whole, state.mT, some)
    joined = inputs.direct is not None
    matrix = gating_matrix(x.query, x.key, direct, crossings, joined=joined)
    value, spoil = blocks.reaching(x.value, diagonal=joined)
    output += spoil(einsum("clomw,cmwv->clov", matrix, value))
    return output.mT.reshape(plan.steps, *output.mT.shape[2:]), after.mT


def _run_backward(
    plan: Plan,
    inputs: Inputs,
    state: Array,
    real: Array | None,
    output_bar: Array,
    state_bar: Array,
) -> tuple[Inputs, Array]:
    """Returns the cotangents of the inputs and of the state of `_run`."""
    x, direct = _arrange(plan, inputs, state.dtype)
    bar = output_bar.reshape(plan.chunks, plan.size, *output_bar.shape[1:]).mT
    (crossings, whole), levels_vjp = jax.vjp(
        functools.partial(levels, real=real), x.mark, x.source, x.transition
    )
    query_bar, key_bar, value_bar, whole_bar, before_bar = carry_backward(
        *(x.query, x.key, x.value, whole, state.mT, bar, state_bar.mT),
        None if real is None else real[:, 0],
    )
    joined = inputs.direct is not None
    matrix = gating_matrix(x.query, x.key, direct, crossings, joined=joined)
    finite, spoil = blocks.reaching(bar, diagonal=joined, backwards=True)
    value_bar += spoil(einsum("clomw,clov->cmwv", matrix, finite))
    matrix_bar = einsum("clov,cmwv->clomw", bar, x.value)
    query_in, key_in, direct_bar, crossings_bar = inner_backward(
        x.query, x.key, direct, crossings, matrix_bar, joined=joined
    )
    mark_bar, source_bar, transition_bar = levels_vjp((crossings_bar, whole_bar))
    bars = Inputs(
        (query_bar + query_in).mT,
        (key_bar + key_in).mT,
        value_bar.mT,
        source_bar,
        transition_bar,
        mark_bar,
        None if inputs.direct is None else direct_bar,
    )
    return jax.tree.map(lambda y: y.reshape(plan.steps, *y.shape[2:]), bars), before_bar.mT
