"""The gates of a chunk, for one level of the tree after another, in registers and shared memory.

Every step keeps all of its gates. A warpgroup holds `h = 2` rows of a small matrix at once, [64, 2]
in `PAIRS`, with one number per thread; if the matrix has only one row, `h` is 1, [64, 1] in
`SINGLES`. On the level whose blocks have b steps, the transition of a step is the product over its
block, so the product of the sibling block is b steps away, and shared memory moves it. In shared
memory a small matrix is [J/h, J, steps, h]: `h` rows are next to each other, as a warp reads them.

On each level a right sibling needs its mark and a left one its source. Both are in one array, the
*crossing*: mark[o][i] at right siblings, source[w][i] (the transposed source) at left siblings.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from plstm_seq.ops.sequence.inputs import Inputs
from plstm_seq.ops.sequence.mosaic_gpu import tiles as t
from plstm_seq.ops.sequence.mosaic_gpu.tiles import LEVELS, Components, L, Ref, add, f32

PAIRS = plgpu.Layout.TILED(
    plgpu.Tiling(((64, 2), (16, 2), (1,))), warp_dims=(-5,), lane_dims=(-3, -2), vector_dim=-1
)
SINGLES = plgpu.Layout.TILED(
    plgpu.Tiling(((64, 1), (16, 1))),
    warp_dims=(-4,),
    lane_dims=(-2, plgpu.Replicated(2)),
    vector_dim=-1,
)
STEPS = PAIRS.reduce(1)
MARGIN = L // 2


class Gates(NamedTuple):
    """mark[o][i], source[w][i] and transition[i][j] of every step, [64, h]; () if not needed."""

    mark: Components
    source: Components
    transition: Components


def small(J: int, copies: int, margin: int = 0) -> Any:
    """Returns shared memory for small matrices of all steps; a margin allows shifted reads."""
    h = _height(J)
    return plgpu.SMEM((copies, J // h, J, L + 2 * margin, h), f32)


def blocked(gate: Array) -> Array:
    """Reshapes [..., J, J] to [..., J/h, h, J/h, h], as kernels read gates from global memory."""
    J = gate.shape[-1]
    h = _height(J)
    return gate.reshape(*gate.shape[:-2], J // h, h, J // h, h)


def arrays_of(x: Inputs) -> dict[str, Array]:
    """Returns the inputs as kernels take them, without `direct` if there is none."""
    gates = {name: blocked(getattr(x, name)) for name in ("source", "transition", "mark")}
    arrays = x._replace(**gates)._asdict()
    return {name: array for name, array in arrays.items() if array is not None}


def load(ref: Ref, *, transposed: bool = False) -> Components:
    """Loads a gate [64, J/h, h, J/h, h] from global memory, with rows (or columns) in pairs."""
    _, rows, h, _, _ = ref.shape

    def component(i: int, j: int) -> Array:
        at = ref.at[:, j // h, j % h, i, :] if transposed else ref.at[:, i, :, j // h, j % h]
        return t.load(at, _layout(h)).astype(f32)

    return [[component(i, j) for j in range(rows * h)] for i in range(rows)]


def store(ref: Ref, matrix: Components, *, transposed: bool = False) -> None:
    """Stores a gate as `load` reads it, in the type of the memory."""
    h = ref.shape[2]
    for i, row in enumerate(matrix):
        for j, x in enumerate(row):
            at = ref.at[:, j // h, j % h, i, :] if transposed else ref.at[:, i, :, j // h, j % h]
            t.store(at, x)


def scatter(ref: Ref, matrix: Components) -> None:
    """Writes a small matrix per step to shared memory; it is visible after a `commit_smem`."""
    window = _window(ref, 0)
    for i, row in enumerate(matrix):
        for j, x in enumerate(row):
            t.store(ref.at[i, j, window], x)


def scatter_single(ref: Ref, matrix: Components) -> None:
    """Does the same as `scatter` for single components [64]."""
    h, window = ref.shape[-1], _window(ref, 0)
    for i, row in enumerate(matrix):
        for j, x in enumerate(row):
            t.store(ref.at[i // h, j, window, i % h], x)


def gather(ref: Ref, steps: int | Array = 0, *, transposed: bool = False) -> Components:
    """Reads matrices `steps` later, with rows (or columns) in pairs; undefined beyond the chunk."""
    rows, columns, _, h = ref.shape
    window = _window(ref, steps)

    def component(i: int, j: int) -> Array:
        if transposed:
            at = ref.at[j // h, i * h : (i + 1) * h, window, j % h].T
        else:
            at = ref.at[i, j, window]
        return t.load(at, _layout(h))

    return [[component(i, j) for j in range(columns)] for i in range(rows)]


def single(ref: Ref, steps: int | Array = 0, layout: Any = STEPS) -> Components:
    """Reads matrices `steps` later, as single components [64]."""
    rows, columns, _, h = ref.shape
    window = _window(ref, steps)
    return [
        [t.load(ref.at[i // h, j, window, i % h], layout) for j in range(columns)]
        for i in range(rows * h)
    ]


def by_rows(ref: Ref) -> Components:
    """Reads single components [64] in `ROWS`, as factors for the rows of a matrix."""
    return single(ref, layout=t.ROWS)


def product(left: Components, right: Components) -> Components:
    """Returns left . right; `left` has its rows in pairs, `right` has single components."""
    wide = [[_widen(x, left[0][0]) for x in row] for row in right]
    return [
        [add(x * y for x, y in zip(row, column, strict=True)) for column in zip(*wide, strict=True)]
        for row in left
    ]


def transpose(matrix: Components) -> Components:
    """Returns the transpose of a small matrix of single components."""
    return [list(column) for column in zip(*matrix, strict=True)]


def choose(right: Array, one: Components, other: Components) -> Components:
    """Returns `one` at right siblings and `other` at left siblings."""
    return jax.tree.map(lambda x, y: jnp.where(_widen(right, x), x, y), one, other)


def plus(one: Components, other: Components) -> Components:
    """Returns the sum, component by component."""
    return jax.tree.map(jnp.add, one, other)


def over_levels(step: Callable[[Array, Any], Any], carried: Any, *, down: bool = False) -> Any:
    """Runs `step(level, carried)` for all levels, from single steps upwards, or downwards."""

    def body(index: Array, carried: Any) -> Any:
        return step(LEVELS - 1 - index if down else index, carried)

    return jax.lax.fori_loop(0, LEVELS, body, carried)


def is_right(level: int | Array, layout: Any = STEPS) -> Array:
    """Returns [64], true for steps in the right one of two sibling blocks."""
    step = plgpu.broadcasted_iota(jnp.int32, (L,), 0, layout=layout)
    return ((step >> level) & 1) != 0


def crossing(gates: Gates, level: int | Array) -> Components:
    """Returns the crossing of a level: marks at right siblings, sources at left siblings."""
    return choose(is_right(level), gates.mark, gates.source)


def climb(gates: Gates, level: int | Array, transitions: Ref) -> tuple[Gates, Components]:
    """Computes the gates for blocks of 2^(level + 1) steps from those for blocks of 2^level steps.

    `transitions` is the shared memory that holds the gates' transitions. The second result is the
    matrix, as single components, that the crossing was multiplied by: the transition of the left
    sibling at right siblings, and the transposed transition of the right sibling at left siblings.
    """
    steps, right = 1 << level, is_right(level)
    before, after = single(transitions, -steps), single(transitions, steps)
    passed = choose(right, before, transpose(after))
    mark, source = gates.mark, gates.source
    if mark and source:
        moved = product(choose(right, mark, source), passed)
        mark, source = choose(right, moved, mark), choose(right, source, moved)
    elif mark:
        mark = choose(right, product(mark, passed), mark)
    else:
        source = choose(right, source, product(source, passed))
    second = choose(right, gates.transition, gather(transitions, steps))
    first = choose(right, before, single(transitions))
    return Gates(mark, source, product(second, first)), passed


def _height(J: int) -> int:
    return 1 if J == 1 else 2


def _layout(h: int) -> Any:
    return PAIRS if h == 2 else SINGLES


def _window(ref: Ref, steps: int | Array) -> Any:
    return pl.ds((ref.shape[-2] - L) // 2 + steps, L)


def _widen(x: Array, like: Array) -> Array:
    if x.ndim == like.ndim:
        return x
    return plgpu.layout_cast(jax.lax.broadcast_in_dim(x, like.shape, (0,)), _layout(like.shape[1]))
