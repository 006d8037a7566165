"""Tiles of a chunk: layouts, loads, and products on the tensor cores.

A chunk has `L = 64` steps, the rows of one `wgmma`. Keys and queries have 64 features and values
have `J * DV = 64`, so that every matrix is [64, 64]. A warpgroup's registers have three layouts:
`MATRIX` [64, 8 n] is the layout of a `wgmma` accumulator, `ROWS` [64] holds one number for each of
its rows, and `SCATTERED` is `MATRIX` with single elements, which strided memory needs.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from plstm_seq.ops import varying
from plstm_seq.ops.sequence.mosaic_gpu.call import is_interpreted

L = 64
LEVELS = 6  # 2 ** LEVELS == L
MATRIX = plgpu.Layout.WGMMA
ROWS = plgpu.Layout.WGMMA.reduce(1)
SCATTERED = plgpu.Layout._WGMMA_ACC_32BIT  # the one that Pallas converts to MATRIX and back

f32, bf16 = jnp.float32, jnp.bfloat16

Ref = Any  # Pallas has no public name for this type
Components = Sequence[Sequence[Array]]


def parts_of(dtype: jnp.dtype) -> int:
    """Returns how many bf16 numbers represent one number; three have all 24 bits of a float32."""
    return 1 if dtype == bf16 else 3


def matrix(parts: int) -> list[Any]:
    """Returns shared memory for the parts of a [64, 64] matrix, as a tensor core reads them."""
    transforms = (plgpu.TilingTransform((8, 64)), plgpu.SwizzleTransform(128))
    return [plgpu.SMEM((L, L), bf16, transforms=transforms) for _ in range(parts)]


def load(ref: Ref, layout: Any) -> Array:
    """Loads an array of any strides from global or shared memory, in the type of the memory."""
    x = plgpu.load(ref, layout=layout, optimized=False)  # pyright: ignore[reportCallIssue]
    # Inside `jax.shard_map` an array that was read varies over the mesh's axes, while results of
    # computations in a kernel do not, so that a loop could not carry it. The compiler removes this
    # product.
    return x * x.dtype.type(1) if varying.axes_of(x) else x


def store(ref: Ref, x: Array) -> None:
    """Writes an array to memory of any strides, in the memory's type."""
    x = x.astype(ref.dtype)
    if hasattr(plgpu, "store"):  # jax 0.12
        plgpu.store(ref, x, optimized=False)  # pyright: ignore[reportAttributeAccessIssue]
    else:
        ref[...] = x


def fetch(source: Ref, target: Sequence[Ref], ready: Ref) -> None:
    """Copies [64, 64] to shared memory; bf16 signals `ready`, else it takes a `commit_smem`."""
    if len(target) == 1:
        plgpu.copy_gmem_to_smem(source, target[0], ready)
    else:
        put(target, load(source, MATRIX))


def wait(ready: Ref, parts: int) -> None:
    """Waits until all parts that were fetched have arrived."""
    if parts == 1:
        plgpu.barrier_wait(ready)
    else:
        plgpu.commit_smem()


def put(target: Sequence[Ref], x: Array) -> None:
    """Writes a float32 matrix to shared memory; it is visible after a `commit_smem`."""
    for ref, piece in zip(target, split(x, len(target)), strict=True):
        ref[...] = piece


def split(x: Array, parts: int) -> list[Array]:
    """Splits an array into a sum of bf16 arrays."""
    pieces = [x.astype(bf16)]
    for _ in range(parts - 1):
        x = x - pieces[-1].astype(f32)
        pieces.append(x.astype(bf16))
    return pieces


def operand(x: Array, parts: int) -> Array:
    """Converts a float32 array that is used in products alone; this saves registers."""
    return x.astype(bf16) if parts == 1 else x


def transposed(refs: Sequence[Ref]) -> list[Ref]:
    """Returns the transpose of a matrix in shared memory."""
    return [ref.T for ref in refs]


def multiply(
    left: Sequence[Any], right: Sequence[Ref], meanwhile: Callable[[], Any] = lambda: None
) -> tuple[Array, Any]:
    """Returns left @ right, both given in parts, and the result of `meanwhile`.

    `left` is in registers (`MATRIX`) or in shared memory, `right` in shared memory. Products of
    parts that are smaller than float32's rounding are left out.
    """
    pairs = [(a, b) for i, a in enumerate(left) for b in right[: len(right) - i]]
    if is_interpreted():  # the interpreter's `wgmma` does not support registers
        return add(
            jnp.dot(a[...], b[...], preferred_element_type=f32) for a, b in pairs
        ), meanwhile()

    def body(accumulator: Ref) -> tuple[Array, Any]:
        for a, b in pairs:
            plgpu.wgmma(accumulator, a, b)
        other = meanwhile()
        return accumulator[...], other

    return pl.run_scoped(body, plgpu.WGMMAAccumulatorRef((L, L), f32))


def over_rows(x: Array, columns: int) -> Array:
    """Broadcasts [64] in `ROWS` to [64, columns] in `MATRIX`."""
    return jax.lax.broadcast_in_dim(x, (L, columns), (0,))


def mix(rows: Components, blocks: Sequence[Array]) -> Array:
    """Returns sum_w rows[w][i] blocks[w] for every i, next to each other: [64, 64]."""
    width = blocks[0].shape[1]
    return jnp.concatenate(
        [
            add(
                over_rows(x, width) * block.astype(f32)
                for x, block in zip(column, blocks, strict=True)
            )
            for column in zip(*rows, strict=True)
        ],
        axis=1,
    )


def unmix(rows: Components, x: Array) -> list[Array]:
    """Returns sum_i rows[w][i] x_i for every w, the transpose of `mix`."""
    blocks = blocks_of(x, len(rows[0]))
    width = blocks[0].shape[1]
    return [
        add(over_rows(y, width) * block for y, block in zip(row, blocks, strict=True))
        for row in rows
    ]


def correlate(blocks: Sequence[Array], x: Array) -> Components:
    """Returns sum_v blocks[w] x_i as [w][i], [64] in `ROWS`: the cotangent of `rows` in `mix`."""
    return correlate_each(blocks, blocks_of(x, len(blocks)))


def correlate_each(one: Sequence[Array], other: Sequence[Array]) -> Components:
    """Returns sum_v one[o] other[w] as [o][w], each [64] in `ROWS`."""
    return [[jnp.sum(x.astype(f32) * y.astype(f32), axis=1) for y in other] for x in one]


def row_numbers(columns: int) -> Array:
    """Returns the row number of every element, [64, columns]."""
    return plgpu.broadcasted_iota(jnp.int32, (L, columns), 0, layout=MATRIX)


def plus(one: Sequence[Array], other: Sequence[Array]) -> list[Array]:
    """Returns the sum, block by block."""
    return [x + y for x, y in zip(one, other, strict=True)]


def blocks_of(x: Array, count: int) -> list[Array]:
    """Cuts a matrix into blocks of columns."""
    width = x.shape[1] // count
    return [x[:, begin : begin + width] for begin in range(0, x.shape[1], width)]


def load_rows(ref: Ref) -> Array:
    """Loads [64] of any stride to `ROWS`, as float32."""
    return load(ref, ROWS).astype(f32)


def load_blocks(ref: Ref) -> list[Array]:
    """Loads values [64, DV, J] from global memory as J blocks [64, DV] in `MATRIX`."""

    def block(w: int) -> Array:
        scattered = load(ref.at[:, :, w], SCATTERED)
        return plgpu.layout_cast(scattered, MATRIX)

    return [block(w) for w in range(ref.shape[-1])]


def store_blocks(ref: Ref, blocks: Sequence[Array]) -> None:
    """Stores blocks as `load_blocks` reads them."""
    for w, block in enumerate(blocks):
        store(ref.at[:, :, w], plgpu.layout_cast(block, SCATTERED))


def row_and_column() -> tuple[Array, Array]:
    """Returns the row and column numbers of every element of a matrix."""
    row, column = (plgpu.broadcasted_iota(jnp.int32, (L, L), d, layout=MATRIX) for d in (0, 1))
    return row, column


def meets(row: Array, column: Array, level: int | Array) -> Array:
    """Returns whether two steps are in sibling blocks of this level, in either order."""
    return (row >> level) == ((column >> level) ^ 1)


def zeros(columns: int) -> Array:
    """Returns float32 zeros [64, columns] in `MATRIX`: a loop's carry cannot change its layout."""
    return plgpu.layout_cast(jnp.zeros((L, columns), f32), MATRIX)


def where(condition: Array, x: Array) -> Array:
    """Returns `x` where the condition holds, else zero."""
    return jnp.where(condition, x, jnp.zeros_like(x))


def add(terms: Iterable[Array]) -> Array:
    """Returns the sum of arrays."""
    return functools.reduce(jnp.add, terms)
