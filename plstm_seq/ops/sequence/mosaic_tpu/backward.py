"""The backward kernel, which walks over the chunks from the last to the first.

The cotangent of the state is carried in VMEM. The scores, the gates of all levels, and what each
level reads and writes are computed again from the inputs and the state at the chunk's start.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.sequence.inputs import Inputs
from plstm_seq.ops.sequence.mosaic_tpu import chunk as c
from plstm_seq.ops.sequence.mosaic_tpu import gates, layout
from plstm_seq.ops.sequence.mosaic_tpu import products as p


def backward(
    core: Inputs,
    saved: Array,
    output_bar: Array,
    state_bar: Array,
    *,
    scale: float,
    chunk: int,
    interpret: Any,
) -> tuple[Inputs, Array]:
    """Runs the kernel for `Kernel.backward`."""
    sizes = c.sizes_of(core, chunk, arrays=7, states=3)
    padded, saved, output_bar, state_bar = layout.pad((core, saved, output_bar, state_bar), sizes.R)
    lanes = layout.to_lanes(padded, sizes.R)
    specs = c.specs(sizes, direct=core.direct is not None, reverse=True)

    def body(*refs: c.Ref) -> None:
        ins, (output_bar, states, last_bar, *results) = c.named(lanes, refs)
        bars, (state_bar, *scratch) = c.named(lanes, results)
        scratch, scratch_bar = c.Scratch(*scratch[:3]), c.Scratch(*scratch[3:])
        c.begin(state_bar, last_bar)
        c.climb_all(ins, scratch, sizes)

        def sequence(r: Array, _: None) -> None:
            _sequence(
                _Sequence(ins, bars, scratch, scratch_bar, r, sizes, core.query.dtype),
                scale * output_bar[r].astype(jnp.float32),
                states[r],
                state_bar,
            )

        jax.lax.fori_loop(0, sizes.R, sequence, None)
        _descend_all(bars, scratch, scratch_bar, sizes)

    arrays = c.given(lanes)
    states = (sizes.sequences, sizes.columns, sizes.DK)
    *bars, state_bar = c.call(
        body,
        sizes,
        inputs=[*arrays, output_bar.transpose(0, 3, 2, 1), saved, layout.columns(state_bar)],
        in_specs=[*c.given(specs.lanes), specs.output, specs.saved, specs.state],
        outputs=[*((x.shape, x.dtype) for x in arrays), (states, jnp.float32)],
        out_specs=[*c.given(specs.lanes), specs.state],
        scratch=[*sizes.scratch(), *sizes.scratch(spread_levels=1)],
        interpret=interpret,
    )
    bars, _ = c.named(lanes, bars)
    N = core.query.shape[0]
    return layout.from_lanes(bars, core), layout.from_columns(state_bar, sizes.JT)[:N]


class _Sequence(NamedTuple):
    ins: layout.Lanes
    bars: layout.Lanes
    scratch: c.Scratch
    scratch_bar: c.Scratch
    r: Array
    sizes: c.Sizes
    dtype: jnp.dtype


def _sequence(x: _Sequence, output_bar: Array, state: Array, state_bar: c.Ref) -> None:
    """Computes all cotangents of one sequence, except those that come down the levels.

    Args:
        x: the memory, and the number of the sequence.
        output_bar: the scaled cotangent of the output, [JO, DV, L].
        state: the state at the chunk's start, [JT * DV, DK].
        state_bar: memory [R, JT * DV, DK] with the cotangent of the state after the chunk; it
            receives that of the state before the chunk.
    """
    r, dtype, JT, JV, JO = x.r, x.dtype, x.sizes.JT, x.sizes.JV, x.sizes.JO
    query, key, value = x.ins.query[r], x.ins.key[r], x.ins.value[r].astype(jnp.float32)
    scores = p.tn(key, query, dtype)
    meeting = c.meeting(x.sizes.L)

    def at_level(level: Array, carried: tuple[Array, Array]) -> tuple[Array, Array]:
        value_bar, scores_bar = carried
        gate, meets = c.row(x.scratch.crossing, r, level), meeting >> level == 1
        masked = jnp.where(meets, scores, 0.0)
        written = p.flat(p.mix(gate[:, :JV], value))
        read_bar = p.flat(p.mix(gate[:, :JO], output_bar))
        read = p.blocks_of(p.nn(written, masked, dtype), JT)
        written_bar = p.blocks_of(p.nt(read_bar, masked, dtype), JT)
        # On one level a step either reads or writes, so one of the two is zero.
        mark_bar = gates.widen(p.correlate(read, output_bar), x.sizes.width)
        source_bar = gates.widen(p.correlate(written_bar, value), x.sizes.width)
        c.set_row(x.scratch_bar.crossing, r, p.over_sublanes(mark_bar + source_bar), level)
        value_bar += p.unmix(gate[:, :JV], written_bar)
        scores_bar += jnp.where(meets, p.tn(written, read_bar, dtype), 0.0)
        return value_bar, scores_bar

    carried = jnp.zeros_like(value), jnp.zeros_like(scores)
    value_bar, scores_bar = jax.lax.fori_loop(0, x.sizes.levels, at_level, carried, unroll=True)

    later_bar = state_bar[r]
    mark, source = c.row(x.scratch.ends, r, 0)[:, :JO], c.row(x.scratch.ends, r, 1)[:, :JV]
    read = p.blocks_of(p.nn(state, query, dtype), JT)
    read_bar = p.flat(p.mix(mark, output_bar))
    written = p.flat(p.mix(source, value))
    written_bar = p.blocks_of(p.nn(later_bar, key, dtype), JT)
    value_bar += p.unmix(source, written_bar)
    query_bar = p.tn(state, read_bar, dtype) + p.nn(key, scores_bar, dtype)
    key_bar = p.tn(later_bar, written, dtype) + p.nt(query, scores_bar, dtype)

    ends_bar = p.correlate(read, output_bar), p.correlate(written_bar, value)
    for end, sums in enumerate(ends_bar):
        gate_bar = gates.widen(p.over_sublanes(sums), x.sizes.width)
        c.set_row(x.scratch_bar.ends, r, gate_bar, end)
    later_blocks = p.blocks_of(later_bar, JT)
    total = p.over_sublanes(p.correlate(later_blocks, p.blocks_of(state, JT)))
    total = jnp.sum(total, axis=-1, keepdims=True)
    spread = jnp.broadcast_to(total / x.sizes.L, (JT, JT, 1, x.sizes.L))
    c.set_row(x.scratch_bar.transition, r, spread, 0)
    transition = c.row(x.scratch.transition, r, x.sizes.levels)[..., :1]
    moved_bar = p.flat(p.unmix(transition, later_blocks))
    state_bar[r] = moved_bar + p.nt(read_bar, query, dtype)

    if x.ins.direct is not None:
        direct, own = c.row(x.ins.direct, r), c.own_score(query, key)
        pairs = p.over_sublanes(p.correlate(output_bar, value))
        c.set_row(x.bars.direct, r, own * pairs)
        own_bar = jnp.sum(direct * pairs, axis=(0, 1))
        value_bar += p.unmix(own * direct, output_bar)
        query_bar += own_bar * key.astype(jnp.float32)
        key_bar += own_bar * query.astype(jnp.float32)
    for bar, total in zip(x.bars[:3], (query_bar, key_bar, value_bar), strict=True):
        bar[r] = total.astype(bar.dtype)


def _descend_all(
    bars: layout.Lanes, scratch: c.Scratch, scratch_bar: c.Scratch, sizes: c.Sizes
) -> None:
    """Computes the cotangents of the steps' gates from those of all levels."""

    def down(index: Array, _: None) -> None:
        level = sizes.levels - 1 - index
        ends, spread = gates.descend(
            gates.Ends(scratch_bar.ends[0], scratch_bar.ends[1]),
            scratch_bar.transition[0],
            scratch_bar.crossing[level],
            scratch.crossing[level],
            scratch.transition[level],
            level,
        )
        scratch_bar.ends[0], scratch_bar.ends[1] = ends
        scratch_bar.transition[0] = spread

    jax.lax.fori_loop(0, sizes.levels, down, None)
    bars.mark[...] = scratch_bar.ends[0][:, : sizes.JO]
    bars.source[...] = scratch_bar.ends[1][:, : sizes.JV]
    bars.transition[...] = scratch_bar.transition[0]
