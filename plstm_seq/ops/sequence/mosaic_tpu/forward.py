"""The forward kernel: it computes the outputs of chunks and carries the state in VMEM."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.sequence.inputs import Inputs
from plstm_seq.ops.sequence.mosaic_tpu import chunk as c
from plstm_seq.ops.sequence.mosaic_tpu import layout
from plstm_seq.ops.sequence.mosaic_tpu import products as p


def forward(
    core: Inputs,
    state: Array,
    *,
    scale: float,
    chunk: int,
    output_dtype: jnp.dtype,
    interpret: Any,
) -> tuple[Array, Array, Array]:
    """Runs the kernel for `Kernel.forward`.

    It saves the states at the chunks' starts, [N, chunks, JT * DV, DK].
    """
    sizes = c.sizes_of(core, chunk, arrays=4, states=3)
    N, dtype = core.query.shape[0], core.query.dtype
    core, state = layout.pad((core, state), sizes.R)
    lanes, state = layout.to_lanes(core, sizes.R), layout.columns(state)
    specs = c.specs(sizes, direct=core.direct is not None)

    def body(*refs: c.Ref) -> None:
        ins, (first, output, last, saved, *scratch) = c.named(lanes, refs)
        scratch = c.Scratch(*scratch)
        c.begin(last, first)
        c.climb_all(ins, scratch, sizes)

        def sequence(r: Array, _: None) -> None:
            state = last[r]
            saved[r] = state
            y, last[r] = _sequence(ins, scratch, r, state, sizes, dtype)
            output[r] = (scale * y).astype(output.dtype)

        jax.lax.fori_loop(0, sizes.R, sequence, None)

    states = (sizes.sequences, sizes.columns, sizes.DK)
    output, last, saved = c.call(
        body,
        sizes,
        inputs=[*c.given(lanes), state],
        in_specs=[*c.given(specs.lanes), specs.state],
        outputs=[
            ((sizes.sequences, sizes.JO, sizes.DV, core.length), output_dtype),
            (states, jnp.float32),
            ((states[0], sizes.chunks, *states[1:]), jnp.float32),
        ],
        out_specs=[specs.output, specs.state, specs.saved],
        scratch=sizes.scratch(),
        interpret=interpret,
    )
    output = output.transpose(0, 3, 2, 1)[:N]
    return output, layout.from_columns(last, sizes.JT)[:N], saved[:N]


def _sequence(
    ins: layout.Lanes, scratch: c.Scratch, r: Array, state: Array, sizes: c.Sizes, dtype: jnp.dtype
) -> tuple[Array, Array]:
    """Returns the output [JO, DV, L] and next state [JT * DV, DK] of a sequence in a chunk."""
    JT, JV, JO = sizes.JT, sizes.JV, sizes.JO
    query, key, value = ins.query[r], ins.key[r], ins.value[r].astype(jnp.float32)
    scores = p.tn(key, query, dtype)
    meeting = c.meeting(sizes.L)

    output = jnp.zeros((JO, *value.shape[1:]), jnp.float32)
    if ins.direct is not None:
        output = p.mix(c.row(ins.direct, r) * c.own_score(query, key), value)

    def at_level(level: Array, output: Array) -> Array:
        gate = c.row(scratch.crossing, r, level)
        written = p.mix(gate[:, :JV], value)
        masked = jnp.where(meeting >> level == 1, scores, 0.0)
        read = p.nn(p.flat(written), masked, dtype)
        return output + p.unmix(gate[:, :JO], p.blocks_of(read, JT))

    output = jax.lax.fori_loop(0, sizes.levels, at_level, output, unroll=True)
    mark, source = c.row(scratch.ends, r, 0)[:, :JO], c.row(scratch.ends, r, 1)[:, :JV]
    transition = c.row(scratch.transition, r, sizes.levels)[..., :1]
    output += p.unmix(mark, p.blocks_of(p.nn(state, query, dtype), JT))
    added = p.nt(p.flat(p.mix(source, value)), key, dtype)
    moved = p.flat(p.mix(transition, p.blocks_of(state, JT)))
    return output, moved + added
