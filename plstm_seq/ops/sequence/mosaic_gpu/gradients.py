"""Cotangents of all inputs of all chunks, from the states before the chunks and cotangents after.

On the way up through the levels the kernel keeps the crossings and the transitions that they are
multiplied by; on the way down it computes the products, level by level. On one level every step is
either a right sibling, whose mark reads, or a left sibling, whose source writes. One symmetric
product therefore serves both: `scores` is query . key below the diagonal, for the marks, and its
transpose above the diagonal, for the gradients of the sources.

The cotangent of a block's transition is kept as an unsummed `spread` over the block's steps. On the
way down the number at the partner step is added, and nothing is ever summed over steps.
"""

import functools
from collections.abc import Mapping, Sequence
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
from plstm_seq.ops.sequence.mosaic_gpu.tiles import LEVELS, L, Ref

# The number of small matrices that the way up keeps for the way down; each takes 4 KiB for J = 4.
# For J = 8 they do not fit into shared memory. Then as many workers as an H100 has multiprocessors
# share the chunks, and each keeps its matrices in global memory.
KEPT = {"crossings": LEVELS, "passings": LEVELS, "whole": 2}
WORKERS = 132


def gradients(
    x: Inputs, states: Array, after_bar: Array, output_bar: Array, *, scale: float
) -> Inputs:
    """Returns the cotangents of `x`, in the types of `x`.

    Args:
        x: the inputs without the axes JQ and JK.
        states: the states before the chunks, [N, c, 64, J * DV].
        after_bar: the cotangents of the states after the chunks, [N, c, 64, J * DV].
        output_bar: the cotangent of the output, [N, T, DV, J].
        scale: factor of the output.
    """
    N, T, _ = x.query.shape
    J, parts = x.transition.shape[-1], t.parts_of(x.query.dtype)
    arrays = g.arrays_of(x)
    wanted = {name: jax.ShapeDtypeStruct(y.shape, y.dtype) for name, y in arrays.items()}
    of_chunks = {"states": states, "after": after_bar}
    arrays |= of_chunks | {"output": output_bar}

    chunks = T // L
    kept = {name: g.small(J, copies) for name, copies in KEPT.items()}
    memory = {
        **{name: t.matrix(parts) for name in ("queries", "keys", "states", "after")},
        "rows": g.small(J, 2),
        "shifting": g.small(J, 2, g.MARGIN),
        "ready": plgpu.Barrier(num_arrivals=4),
        "again": plgpu.Barrier(),
    }

    def chunk(n: Array, c: Array, refs: Sequence[Ref], memory: Mapping[str, Any]) -> None:
        at = [
            ref.at[n, c] if name in of_chunks else ref.at[n, pl.ds(c * L, L)]
            for name, ref in zip((*arrays, *wanted), refs, strict=True)
        ]
        ins = dict(zip(arrays, at[: len(arrays)], strict=True))
        bars = dict(zip(wanted, at[len(arrays) :], strict=True))
        _chunk(ins, bars, memory, J=J, parts=parts, scale=scale)

    def each(*refs: Ref, **memory: Any) -> None:
        chunk(position("n"), position("c"), refs, memory)

    def work(*refs: Ref, **memory: Any) -> None:
        worker = position("worker")
        own = [ref.at[worker] for ref in refs[-len(kept) :]]
        whole = memory | dict(zip(kept, own, strict=True))

        def item(index: Array, carried: None) -> None:
            plgpu.commit_smem()
            n, c = jnp.divmod(index * workers + worker, chunks)
            chunk(n, c, refs[: -len(kept)], whole)
            return carried

        jax.lax.fori_loop(0, (N * chunks - worker + workers - 1) // workers, item, None)

    if J < 8:
        results = call(
            "gradients",
            each,
            *arrays.values(),
            out_type=tuple(wanted.values()),
            grid={"n": N, "c": chunks},
            scratch=memory | kept,
        )
    else:
        workers = min(N * chunks, WORKERS)
        own = [jax.ShapeDtypeStruct((workers, *x.shape), x.dtype) for x in kept.values()]
        results = call(
            "gradients",
            work,
            *arrays.values(),
            out_type=(*wanted.values(), *own),
            grid={"worker": workers},
            scratch=memory,
        )[: len(wanted)]
    named = dict(zip(wanted, results, strict=True))
    return x._replace(**{n: y.reshape(getattr(x, n).shape) for n, y in named.items()})


def _chunk(
    ins: Mapping[str, Ref],
    bars: Mapping[str, Ref],
    m: Mapping[str, Any],
    *,
    J: int,
    parts: int,
    scale: float,
) -> None:
    """Computes one chunk in memory `m`; scores contain the scale, other terms apply it later."""
    for name, target in (("query", "queries"), ("key", "keys"), ("states",) * 2, ("after",) * 2):
        t.fetch(ins[name], m[target], m["ready"])
    gates = g.Gates(
        g.load(ins["mark"]), g.load(ins["source"], transposed=True), g.load(ins["transition"])
    )
    gates = g.over_levels(functools.partial(_up, m), gates)
    g.scatter(m["whole"].at[0], gates.mark)
    g.scatter(m["whole"].at[1], gates.source)
    values, readers = t.load_blocks(ins["value"]), t.load_blocks(ins["output"])
    t.wait(m["ready"], parts)
    plgpu.commit_smem()
    gate_bars, value_bar = _whole(ins, m, values, readers, scale)

    lower, _ = t.multiply(m["queries"], t.transposed(m["keys"]))
    upper, _ = t.multiply(m["keys"], t.transposed(m["queries"]))
    row, column = t.row_and_column()
    scores = jnp.where(row > column, lower, upper) * scale
    scores_bar = t.zeros(L)
    if "direct" in ins:
        own = jnp.sum(t.where(row == column, scores), axis=1)
        own_bar, value_bar = _direct(ins["direct"], bars["direct"], own, values, readers, value_bar)
        scores_bar = t.where(row == column, t.over_rows(own_bar, L))
    scores, scores_bar = t.operand(scores, parts), t.operand(scores_bar, parts)

    def down(level: Array, carried: tuple[g.Gates, Any, Any]) -> tuple[g.Gates, Any, Any]:
        gate_bars, value_bar, scores_bar = carried
        incoming = g.choose(g.is_right(level), gate_bars.mark, gate_bars.source)
        factors = m["crossings"].at[level]
        on_right = ((t.row_numbers(L // J) >> level) & 1) != 0
        side = [jnp.where(on_right, y, v) for y, v in zip(readers, values, strict=True)]
        mixed = t.split(t.mix(g.by_rows(factors), side), parts)
        for ref, piece in zip(m["states"], mixed, strict=True):
            ref[...] = piece
        g.scatter(m["rows"].at[1], incoming)
        g.scatter(m["shifting"].at[0], gate_bars.transition)
        plgpu.commit_smem()
        meets = t.meets(row, column, level)
        met, _ = t.multiply(mixed, t.transposed(m["states"]))
        scores_bar = jnp.where(meets, t.operand(met, parts), scores_bar)
        felt, _ = t.multiply(t.split(t.where(meets, scores), parts), m["states"])
        value_bar = [
            bar + jnp.where(on_right, jnp.zeros_like(y), y)
            for bar, y in zip(value_bar, t.unmix(g.by_rows(factors), felt), strict=True)
        ]
        g.scatter_single(m["rows"].at[0], t.correlate(side, felt))
        return _down(m, level, gate_bars, incoming), value_bar, scores_bar

    gate_bars, value_bar, scores_bar = g.over_levels(
        down, (gate_bars, value_bar, scores_bar), down=True
    )
    g.store(bars["mark"], gate_bars.mark)
    g.store(bars["source"], gate_bars.source, transposed=True)
    g.store(bars["transition"], gate_bars.transition)
    t.store_blocks(bars["value"], value_bar)

    # The cotangents of queries and keys come from the chunk's scores, and from the states before
    # and after the chunk.
    t.fetch(ins["states"], m["states"], m["again"])
    marks, sources = g.by_rows(m["whole"].at[0]), g.by_rows(m["whole"].at[1])
    scores_bar = scores_bar.astype(t.f32)
    inner, _ = t.multiply(t.split(t.where(row >= column, scores_bar), parts), m["keys"])
    t.wait(m["again"], parts)
    read, _ = t.multiply(t.split(t.mix(marks, readers), parts), t.transposed(m["states"]))
    t.store(bars["query"], (inner + read) * scale)
    inner, _ = t.multiply(t.split(t.where(row <= column, scores_bar), parts), m["queries"])
    felt, _ = t.multiply(t.split(t.mix(sources, values), parts), t.transposed(m["after"]))
    t.store(bars["key"], inner * scale + felt)


def _up(m: Mapping[str, Any], level: Array, gates: g.Gates) -> g.Gates:
    """Climbs one level, and keeps what the way down needs."""
    ref = m["shifting"].at[level % 2]
    g.scatter(ref, gates.transition)
    g.scatter(m["crossings"].at[level], g.crossing(gates, level))
    plgpu.commit_smem()
    gates, passed = g.climb(gates, level, ref)
    g.scatter_single(m["passings"].at[level], passed)
    return gates


def _whole(
    ins: Mapping[str, Ref],
    m: Mapping[str, Any],
    values: list[Array],
    readers: list[Array],
    scale: float,
) -> tuple[g.Gates, list[Array]]:
    """Computes the cotangents of the whole chunk's gates.

    Marks read the state before the chunk; the gradients of sources come from the state after it.
    """
    read, _ = t.multiply(m["queries"], m["states"])
    g.scatter_single(m["rows"].at[0], t.correlate(readers, read * scale))
    felt, _ = t.multiply(m["keys"], m["after"])
    g.scatter_single(m["rows"].at[1], t.correlate(values, felt))
    value_bar = t.unmix(g.by_rows(m["whole"].at[1]), felt)
    before, after = (t.load(ins[name], t.MATRIX).astype(t.f32) for name in ("states", "after"))
    J = len(values)
    g.scatter_single(m["shifting"].at[0], t.correlate(t.blocks_of(after, J), before))
    plgpu.commit_smem()
    refs = m["rows"].at[0], m["rows"].at[1], m["shifting"].at[0]
    gate_bars = g.Gates(*(g.gather(ref) for ref in refs))
    plgpu.commit_smem()
    return gate_bars, value_bar


def _direct(
    direct: Ref,
    direct_bar: Ref,
    own: Array,
    values: list[Array],
    readers: list[Array],
    value_bar: list[Array],
) -> tuple[Array, list[Array]]:
    """Computes the direct term's part of the cotangents of query . key and of the values.

    `own` is scale * query . key.
    """
    width, own_bar = values[0].shape[1], jnp.zeros_like(own)
    for o, y in enumerate(readers):
        for w, v in enumerate(values):
            factor = t.load_rows(direct.at[:, o, w])
            pair = jnp.sum(y.astype(t.f32) * v.astype(t.f32), axis=1)
            t.store(direct_bar.at[:, o, w], own * pair)
            own_bar = own_bar + factor * pair
            value_bar[w] = value_bar[w] + t.over_rows(factor * own, width) * y.astype(t.f32)
    return own_bar, value_bar


def _down(m: Mapping[str, Any], level: Array, bars: g.Gates, incoming: g.Components) -> g.Gates:
    """Computes the cotangents of the gates of half blocks from those of whole blocks.

    `incoming` is the cotangent that arrives at the crossings; it is in `rows[1]`, too. `rows[0]`
    holds the part that the level itself adds, and `shifting[0]` the spread cotangent of the
    transitions.
    """
    steps, right = jnp.int32(1) << level, g.is_right(level)
    passed = g.single(m["passings"].at[level])
    passed_bar = g.product(
        g.gather(m["crossings"].at[level], transposed=True), g.single(m["rows"].at[1])
    )
    g.scatter(m["shifting"].at[1], passed_bar)
    moved = g.product(incoming, g.transpose(passed))
    ref = m["shifting"].at[0]
    folded = g.plus(bars.transition, g.choose(right, g.gather(ref, -steps), g.gather(ref, steps)))
    by_one = g.plus(g.single(ref), g.choose(right, g.single(ref, -steps), g.single(ref, steps)))
    spread = g.product(
        g.choose(right, folded, g.gather(m["passings"].at[level])),
        g.choose(right, g.transpose(passed), by_one),
    )
    plgpu.commit_smem()
    ref = m["shifting"].at[1]
    partner = g.choose(right, g.gather(ref, -steps, transposed=True), g.gather(ref, steps))
    moved = g.plus(moved, g.gather(m["rows"].at[0]))
    return g.Gates(
        g.choose(right, moved, bars.mark),
        g.choose(right, bars.source, moved),
        g.plus(spread, partner),
    )
