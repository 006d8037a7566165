"""Two kernels for the states at the chunks' starts, and, run backwards, for their cotangents.

The first kernel works on all chunks at once and finds what each adds to the state; the second walks
over the chunks. Forwards a chunk adds `key^T (source_n value)` to the state after it; backwards it
adds `query^T (mark_n^T output_bar)` to the cotangent of the state before it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from plstm_seq.ops.sequence.mosaic_gpu import gates as g
from plstm_seq.ops.sequence.mosaic_gpu import tiles as t
from plstm_seq.ops.sequence.mosaic_gpu.call import call, position
from plstm_seq.ops.sequence.mosaic_gpu.tiles import L, Ref, f32

# A warpgroup has a part [16, 8 n] of the state: each warp has four rows, and each lane has every
# eighth number of one row.
SLAB = 16
# The number of chunks that are loaded while earlier ones are computed, which hides memory latency.
GROUP = 4
SLABS = plgpu.Layout.TILED(
    plgpu.Tiling(((16, 8), (4, 8), (1,))), warp_dims=(-5,), lane_dims=(-3, -2), vector_dim=-1
)


def contributions(
    vectors: Array, blocks: Array, gate: Array, transition: Array, *, scale: float, backward: bool
) -> tuple[Array, Array]:
    """Returns what every chunk adds to the state, and the product of its transitions.

    Args:
        vectors: keys (backwards: queries), [N, T, 64].
        blocks: values (backwards: cotangents of the output), [N, T, DV, J].
        gate: sources (backwards: marks), [N, T, J, J].
        transition: [N, T, J, J].
        scale: factor of the contributions.
        backward: whether this is for the cotangents of the states.

    Returns:
        Contributions [N, c, 64, J * DV] in the type of `vectors`, transitions [N, c, J, J] float32.
    """
    N, T, _ = vectors.shape
    J, parts = gate.shape[-1], t.parts_of(vectors.dtype)

    def body(
        vectors: Ref,
        blocks: Ref,
        gate: Ref,
        transition: Ref,
        added: Ref,
        total: Ref,
        *,
        keys: list[Ref],
        mixed: list[Ref],
        rows: Ref,
        transitions: Ref,
        ready: Ref,
    ) -> None:
        n, c = position("n"), position("c")
        chunk = pl.ds(c * L, L)
        t.fetch(vectors.at[n, chunk], keys, ready)
        side = g.load(gate.at[n, chunk], transposed=not backward)
        values = t.load_blocks(blocks.at[n, chunk])
        moved = g.load(transition.at[n, chunk])
        gates = g.Gates(side, [], moved) if backward else g.Gates([], side, moved)

        def climb(level: Array, gates: g.Gates) -> g.Gates:
            ref = transitions.at[level % 2]
            g.scatter(ref, gates.transition)
            plgpu.commit_smem()
            return g.climb(gates, level, ref)[0]

        gates = g.over_levels(climb, gates)
        g.scatter(rows.at[0], gates.mark or gates.source)
        g.scatter(rows.at[1], gates.transition)
        plgpu.commit_smem()
        t.put(mixed, t.mix(g.by_rows(rows.at[0]), values))
        t.wait(ready, parts)
        plgpu.commit_smem()
        product, _ = t.multiply(t.transposed(keys), mixed)
        t.store(added.at[n, c], product * scale)
        h = rows.shape[-1]
        for i in range(J):
            for j in range(J):
                total[n, c, i, j] = rows[1, i // h, j, 0, i % h]

    return call(
        "contributions",
        body,
        vectors,
        blocks,
        g.blocked(gate),
        g.blocked(transition),
        out_type=(
            jax.ShapeDtypeStruct((N, T // L, L, L), vectors.dtype),
            jax.ShapeDtypeStruct((N, T // L, J, J), f32),
        ),
        grid={"n": N, "c": T // L},
        scratch={
            "keys": t.matrix(parts),
            "mixed": t.matrix(parts),
            "rows": g.small(J, 2),
            "transitions": g.small(J, 2, g.MARGIN),
            "ready": plgpu.Barrier(),
        },
    )


def walk(added: Array, total: Array, begin: Array, *, backward: bool) -> tuple[Array, Array]:
    """Returns the states before all chunks; backwards, the cotangents of the states after them.

    Args:
        added: what every chunk adds to the state, [N, c, 64, J * DV].
        total: the product of every chunk's transitions, [N, c, J, J].
        begin: the initial state (backwards: the cotangent of the last state), [N, 64, J * DV],
            float32.
        backward: whether to walk from the last chunk to the first, with transposed transitions.

    Returns:
        States [N, c, 64, J * DV] in the type of `added`, and the state at the end of the walk, in
        float32.
    """
    N, chunks, _, _ = added.shape
    J = total.shape[-1]

    def body(added: Ref, total: Ref, begin: Ref, states: Ref, end: Ref) -> None:
        n, slab = position("n"), position("slab")
        features = pl.ds(slab * SLAB, SLAB)

        def chunk(step: Array) -> Array:
            step = jnp.minimum(step, chunks - 1)
            return chunks - 1 - step if backward else step

        def load(group: Array) -> list[tuple[Array, list[list[Array]]]]:
            indices = [chunk(group * GROUP + k) for k in range(GROUP)]
            return [
                (
                    t.load(added.at[n, c, features], SLABS),
                    [[total[n, c, i, j] for j in range(J)] for i in range(J)],
                )
                for c in indices
            ]

        def one(step: Array, state: Array, more: Array, factors: list[list[Array]]) -> Array:
            t.store(states.at[n, chunk(step), features], state)
            blocks = t.blocks_of(state, J)
            rows = g.transpose(factors) if backward else factors
            moved = [t.add(f * x for f, x in zip(row, blocks, strict=True)) for row in rows]
            return jnp.concatenate(moved, axis=1) + more.astype(f32)

        def several(group: Array, carried: Any) -> Any:
            state, ready = carried
            following = load(group + 1)
            for k in range(GROUP):
                step = group * GROUP + k
                state = jax.lax.cond(
                    step < chunks,
                    lambda s, *x, i=step: one(i, s, *x),
                    lambda s, *_: s,
                    state,
                    *ready[k],
                )
            return state, following

        state = t.load(begin.at[n, features], SLABS)
        groups = -(-chunks // GROUP)
        state, _ = jax.lax.fori_loop(0, groups, several, (state, load(jnp.int32(0))))
        t.store(end.at[n, features], state)

    return call(
        "walk",
        body,
        added,
        total,
        begin,
        out_type=(
            jax.ShapeDtypeStruct(added.shape, added.dtype),
            jax.ShapeDtypeStruct(begin.shape, f32),
        ),
        grid={"n": N, "slab": L // SLAB},
    )
