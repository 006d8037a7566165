"""The outputs of all chunks, given the states at their starts."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from plstm_seq.ops.sequence.inputs import Inputs
from plstm_seq.ops.sequence.mosaic_gpu import gates as g
from plstm_seq.ops.sequence.mosaic_gpu import tiles as t
from plstm_seq.ops.sequence.mosaic_gpu.call import call, position
from plstm_seq.ops.sequence.mosaic_gpu.tiles import L, Ref


def outputs(x: Inputs, states: Array, *, scale: float, dtype: jnp.dtype) -> Array:
    """Returns the output [N, T, DV, J].

    Args:
        x: the inputs without the axes JQ and JK.
        states: the states before the chunks, [N, c, 64, J * DV].
        scale: factor of the output.
        dtype: type of the output.
    """
    N, T, _ = x.query.shape
    J, parts = x.transition.shape[-1], t.parts_of(x.query.dtype)
    arrays = g.arrays_of(x) | {"states": states}

    def body(*refs: Ref, **m: Any) -> None:
        n, c = position("n"), position("c")
        chunk = pl.ds(c * L, L)
        *ins, output = refs
        ins = dict(zip(arrays, ins, strict=True))
        t.fetch(ins["query"].at[n, chunk], m["queries"], m["ready"])
        t.fetch(ins["key"].at[n, chunk], m["keys"], m["ready"])
        t.fetch(ins["states"].at[n, c], m["states"], m["ready"])
        gates = g.Gates(
            g.load(ins["mark"].at[n, chunk]),
            g.load(ins["source"].at[n, chunk], transposed=True),
            g.load(ins["transition"].at[n, chunk]),
        )
        values = t.load_blocks(ins["value"].at[n, chunk])
        t.wait(m["ready"], parts)
        scores, _ = t.multiply(m["queries"], t.transposed(m["keys"]))
        scores = scores * scale
        row, column = t.row_and_column()
        if "direct" in ins:
            own = jnp.sum(t.where(row == column, scores), axis=1)
            direct = ins["direct"].at[n, chunk]
            factors = [[t.load_rows(direct.at[:, o, w]) * own for o in range(J)] for w in range(J)]
            result = t.blocks_of(t.mix(factors, values), J)
        else:
            result = [t.zeros(L // J)] * J
        scores = t.operand(t.where(row > column, scores), parts)

        def level_of(level: Array, carried: tuple[g.Gates, Any]) -> tuple[g.Gates, Any]:
            gates, result = carried
            ref = m["transitions"].at[level % 2]
            g.scatter(ref, gates.transition)
            g.scatter(m["crossings"].at[level % 2], g.crossing(gates, level))
            plgpu.commit_smem()
            t.put(m["mixed"], t.mix(g.by_rows(m["crossings"].at[level % 2]), values))
            plgpu.commit_smem()
            reads = t.split(t.where(t.meets(row, column, level), scores), parts)
            y, (gates, _) = t.multiply(reads, m["mixed"], lambda: g.climb(gates, level, ref))
            return gates, t.plus(result, t.unmix(g.by_rows(m["crossings"].at[level % 2]), y))

        gates, result = g.over_levels(level_of, (gates, result))
        g.scatter(m["crossings"].at[0], gates.mark)
        y, _ = t.multiply(m["queries"], m["states"], plgpu.commit_smem)
        result = t.plus(result, t.unmix(g.by_rows(m["crossings"].at[0]), y * scale))
        t.store_blocks(output.at[n, chunk], result)

    return call(
        "outputs",
        body,
        *arrays.values(),
        out_type=jax.ShapeDtypeStruct(x.value.shape, dtype),
        grid={"n": N, "c": T // L},
        scratch={
            "queries": t.matrix(parts),
            "keys": t.matrix(parts),
            "states": t.matrix(parts),
            "mixed": t.matrix(parts),
            "crossings": g.small(J, 2),
            "transitions": g.small(J, 2, g.MARGIN),
            "ready": plgpu.Barrier(num_arrivals=3),
        },
    )
