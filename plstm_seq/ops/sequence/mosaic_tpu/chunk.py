"""Parts that the forward and the backward kernel share: sizes, scratch memory, the way up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from plstm_seq.ops import varying
from plstm_seq.ops.sequence.inputs import Inputs
from plstm_seq.ops.sequence.mosaic_tpu import gates
from plstm_seq.ops.sequence.mosaic_tpu.layout import Lanes, group_size

Ref = Any  # Pallas has no public name for this type

MEBIBYTE = 2**20
# v5e and v6e have 128 MiB of VMEM; a kernel gets 16 MiB unless it asks for more.
VMEM_LIMIT = 64 * MEBIBYTE
# The blocks of a group may take so much of this limit, counted twice for the pipeline. The rest is
# for scratch memory and for registers that the compiler spills.
BLOCKS_LIMIT = 24 * MEBIBYTE


@dataclass(frozen=True)
class Sizes:
    """The sizes of a call, which is cut into groups of `R` sequences and chunks of `L` steps."""

    DK: int
    DV: int
    JT: int
    JV: int
    JO: int
    L: int
    R: int
    groups: int
    chunks: int

    @property
    def levels(self) -> int:
        """The number n of levels, with L = 2^n."""
        return self.L.bit_length() - 1

    @property
    def width(self) -> int:
        """Number of columns of a crossing."""
        return max(self.JV, self.JO)

    @property
    def columns(self) -> int:
        """The number of columns of the state when it is one matrix, [JT * DV, DK]."""
        return self.JT * self.DV

    @property
    def sequences(self) -> int:
        """The padded N."""
        return self.groups * self.R

    def scratch(self, spread_levels: int | None = None) -> "Scratch":
        """Returns float32 memory in VMEM; `spread_levels` is the levels of `transition`, or all."""
        n, JT, width, small = self.levels, self.JT, self.width, (self.R, self.L)
        shapes = Scratch(
            crossing=(n, JT, width, *small),
            transition=(spread_levels or n + 1, JT, JT, *small),
            ends=(2, JT, width, *small),
        )
        return Scratch(*(pltpu.VMEM(shape, jnp.float32) for shape in shapes))


class Scratch(NamedTuple):
    """The gates of all levels of a chunk.

    Attributes:
        crossing: the crossings of the levels, [n, JT, width, R, L].
        transition: the transition of each step's block, on levels 0 to n, [n + 1, JT, JT, R, L].
        ends: transposed marks and sources of the top level, [2, JT, width, R, L].
    """

    crossing: Any
    transition: Any
    ends: Any


def sizes_of(core: Inputs, chunk: int, arrays: int, states: int) -> Sizes:
    """Returns the sizes of a call.

    Args:
        core: the inputs in the core form.
        chunk: number of steps of a chunk.
        arrays: number of arrays of vectors per sequence among the kernel's blocks.
        states: number of states per sequence among the kernel's blocks.
    """
    (N, T, DK, _), DV = core.query.shape, core.value.shape[2]
    JT, JV, JO = core.transition.shape[-1], core.value.shape[-1], core.mark.shape[2]
    rows = max(DK, DV * JV, DV * JO)
    bytes_each = 2 * (arrays * rows * chunk * core.query.dtype.itemsize + states * 4 * JT * DV * DK)
    R = group_size(N, bytes_each, BLOCKS_LIMIT)
    return Sizes(DK, DV, JT, JV, JO, chunk, R, groups=-(-N // R), chunks=T // chunk)


class Specs(NamedTuple):
    """The blocks that a program gets of each array.

    Attributes:
        lanes: blocks of the inputs, and of their cotangents.
        output: blocks [R, JO, DV, L] of an array [N, JO, DV, T].
        state: blocks [R, JT * DV, DK] of an array [N, JT * DV, DK], the same one for all chunks.
        saved: blocks [R, JT * DV, DK] of an array [N, chunks, JT * DV, DK].
    """

    lanes: Lanes
    output: pl.BlockSpec
    state: pl.BlockSpec
    saved: pl.BlockSpec


def specs(sizes: Sizes, *, direct: bool, reverse: bool = False) -> Specs:
    """Returns the blocks for a grid of groups and chunks; `reverse` begins with the last chunk."""
    R, L, DV = sizes.R, sizes.L, sizes.DV

    def at(index: Array) -> Array:
        return sizes.chunks - 1 - index if reverse else index

    def features(*shape: int) -> pl.BlockSpec:
        zeros = (0,) * len(shape)
        return pl.BlockSpec((R, *shape, L), lambda g, i: (g, *zeros, at(i)))

    def gate(*shape: int) -> pl.BlockSpec:
        return pl.BlockSpec((None, *shape, R, L), lambda g, i: (g, 0, 0, 0, at(i)))

    state = (sizes.columns, sizes.DK)
    return Specs(
        lanes=Lanes(
            query=features(sizes.DK),
            key=features(sizes.DK),
            value=features(sizes.JV, DV),
            source=gate(sizes.JT, sizes.JV),
            transition=gate(sizes.JT, sizes.JT),
            mark=gate(sizes.JT, sizes.JO),
            direct=gate(sizes.JO, sizes.JV) if direct else None,
        ),
        output=features(sizes.JO, DV),
        state=pl.BlockSpec((R, *state), lambda g, _: (g, 0, 0)),
        saved=pl.BlockSpec((R, None, *state), lambda g, i: (g, at(i), 0, 0)),
    )


def given(lanes: Lanes) -> list[Any]:
    """Returns the arrays that are not None, in the order of a kernel's arguments."""
    return [x for x in lanes if x is not None]


def named(lanes: Lanes, refs: Sequence[Ref]) -> tuple[Lanes, Sequence[Ref]]:
    """Names the first ones of `refs` like the arrays of `given`; returns them and the others."""
    count = len(given(lanes))
    return Lanes(*refs[:count], *[None] * (len(lanes) - count)), refs[count:]


def begin(carried: Ref, first: Ref) -> None:
    """Starts the carried state at the first chunk.

    It stays in VMEM, since its block is the same one for all chunks.
    """

    @pl.when(pl.program_id(1) == 0)
    def _() -> None:
        carried[...] = first[...]


def climb_all(ins: Lanes, scratch: Scratch, sizes: Sizes) -> None:
    """Computes the gates of all levels from those of the steps."""
    scratch.transition[0] = ins.transition[...]
    scratch.ends[0] = gates.widen(ins.mark[...], sizes.width)
    scratch.ends[1] = gates.widen(ins.source[...], sizes.width)

    def up(level: Array, _: None) -> None:
        ends = gates.Ends(scratch.ends[0], scratch.ends[1])
        crossing, ends, transition = gates.climb(ends, scratch.transition[level], level)
        scratch.crossing[level] = crossing
        scratch.ends[0], scratch.ends[1] = ends
        scratch.transition[level + 1] = transition

    jax.lax.fori_loop(0, sizes.levels, up, None)


def meeting(L: int) -> Array:
    """Returns [L, L], the key's time first: `meeting >> l == 1` if two steps meet on level l."""
    b, a = (jax.lax.broadcasted_iota(jnp.int32, (L, L), axis) for axis in (0, 1))
    return jnp.where(a > b, a ^ b, 0)


def own_score(query: Array, key: Array) -> Array:
    """Returns the product of the query and the key of each step, [1, L]."""
    return jnp.sum(query.astype(jnp.float32) * key.astype(jnp.float32), axis=0, keepdims=True)


def row(ref: Ref, r: Array, *leading: Array | int) -> Array:
    """Reads one sequence's gates from memory, [*leading, I, J, R, L] -> [I, J, 1, L]."""
    return ref[(*leading, slice(None), slice(None), pl.ds(r, 1), slice(None))]


def set_row(ref: Ref, r: Array, gate: Array, *leading: Array | int) -> None:
    """Writes one sequence's gates to memory, as `row` reads them."""
    ref[(*leading, slice(None), slice(None), pl.ds(r, 1), slice(None))] = gate


def call(
    body: Any,
    sizes: Sizes,
    *,
    inputs: Sequence[Array],
    in_specs: Sequence[pl.BlockSpec],
    outputs: Sequence[tuple[tuple[int, ...], Any]],
    out_specs: Sequence[pl.BlockSpec],
    scratch: Sequence[Any],
    interpret: Any,
) -> list[Array]:
    """Runs a kernel over groups and, in order, over chunks; `outputs` are shapes and types."""
    return pl.pallas_call(
        body,
        out_shape=[varying.result(shape, dtype, *inputs) for shape, dtype in outputs],
        in_specs=in_specs,
        out_specs=out_specs,
        grid=(sizes.groups, sizes.chunks),
        scratch_shapes=scratch,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=VMEM_LIMIT
        ),
        interpret=interpret or False,
    )(*inputs)
