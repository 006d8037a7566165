"""Two kernels for the recurrence and its cotangents, with one thread per sequence.

Arrays are laid out as [T, F, N]: each of the F numbers of a step is stored for all sequences
together, so that neighbouring threads read neighbouring addresses. In the kernels a gate or a state
is a numpy array of its numbers. Each number is an array [LANES] with one element per thread, and
`np.einsum` writes out the multiply-adds.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from plstm_seq.ops.sequence.inputs import Inputs
from plstm_seq.ops.sequence.mosaic_gpu import tiles
from plstm_seq.ops.sequence.mosaic_gpu.call import call, position
from plstm_seq.ops.sequence.mosaic_gpu.tiles import Ref, f32

# The number of threads of a warpgroup, each of which has one element.
LANES = 128
STRIDED = plgpu.Layout.WG_STRIDED((LANES,), vec_size=1)

Numbers = Any  # a numpy array of dtype object that contains arrays [LANES]


def forward(x: Inputs, state: Array, *, scale: float, dtype: jnp.dtype) -> tuple[Array, Array]:
    """Computes the recurrence.

    Args:
        x: query, key [N, T, DK], value [N, T, DV, JV], source [N, T, JT, JV], transition
            [N, T, JT, JT], mark [N, T, JO, JT], direct [N, T, JO, JV] or None.
        state: the state before the first step, [N, DK, DV, JT].
        scale: factor of the output.
        dtype: type of the output.

    Returns:
        The output [N, T, DV, JO], and the last state.
    """
    read_step = _reader(x)
    N, T, *_ = x.query.shape
    sizes, outputs = state.shape[1:], (x.value.shape[2], x.mark.shape[2])

    def body(*refs: Ref) -> None:
        *inputs, begin, output, last = refs

        def step(t: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
            now, before = read_step(inputs, t), _numbers(state, sizes)
            y = np.einsum("vi,oi->vo", np.einsum("k,kvi->vi", now.query, before), now.mark)
            if now.direct is not None:
                score = _dot("k,k->", now.query, now.key)
                y = y + score * np.einsum("vw,ow->vo", now.value, now.direct)
            _write(output, t, y * scale)
            return tuple(_next(now, before).flat)

        state = tuple(_read(begin, 0, sizes).flat)
        _write(last, 0, _numbers(jax.lax.fori_loop(0, T, step, state), sizes))

    arguments = _lanes((x, state[:, None]))
    results = [(T, outputs, dtype), (1, sizes, f32)]
    output, last = _call("small_forward", body, arguments, results)
    return _sequences(output, N, outputs), _sequences(last, N, sizes)[:, 0]


def backward(
    x: Inputs, state: Array, output_bar: Array, state_bar: Array, *, scale: float
) -> tuple[Inputs, Array]:
    """Returns the cotangents of the inputs and of the initial state; it computes the states again.

    Args:
        x: the same as in `forward`.
        state: the same as in `forward`.
        output_bar: cotangent of the output, [N, T, DV, JO].
        state_bar: cotangent of the last state, [N, DK, DV, JT].
        scale: the same as in `forward`.
    """
    read_step, count = _reader(x), len(jax.tree.leaves(x))
    N, T = output_bar.shape[:2]
    sizes, outputs = state.shape[1:], output_bar.shape[2:]

    def body(*refs: Ref) -> None:
        inputs, rest = refs[:count], refs[count:]
        begin, output_bar, state_bar, *bars, first_bar, states = rest

        def forth(t: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
            before = _numbers(state, sizes)
            _write(states, t, before)
            return tuple(_next(read_step(inputs, t), before).flat)

        def back(i: Array, after_bar: tuple[Array, ...]) -> tuple[Array, ...]:
            t = T - 1 - i
            now, before = read_step(inputs, t), _read(states, t, sizes)
            y_bar = _read(output_bar, t, outputs) * scale
            now_bar, before_bar = _step_backward(now, before, y_bar, _numbers(after_bar, sizes))
            for ref, bar in zip(bars, jax.tree.leaves(now_bar), strict=True):
                _write(ref, t, bar)
            return tuple(before_bar.flat)

        jax.lax.fori_loop(0, T, forth, tuple(_read(begin, 0, sizes).flat))
        carried = tuple(_read(state_bar, 0, sizes).flat)
        _write(first_bar, 0, _numbers(jax.lax.fori_loop(0, T, back, carried), sizes))

    arguments = _lanes((x, state[:, None], output_bar, state_bar[:, None]))
    like = [(T, leaf.shape[2:], leaf.dtype) for leaf in jax.tree.leaves(x)]
    results = [*like, (1, sizes, f32), (T, sizes, f32)]
    *bars, first_bar, _ = _call("small_backward", body, arguments, results)
    bars = [_sequences(bar, N, shape) for bar, (_, shape, _) in zip(bars, like, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(x), bars), _sequences(first_bar, N, sizes)[:, 0]


def _next(now: Inputs, before: Numbers) -> Numbers:
    """Returns the state after a step, [DK, DV, JT]."""
    writing = np.einsum("iw,vw->vi", now.source, now.value)
    moved = np.einsum("ij,kvj->kvi", now.transition, before)
    return moved + np.einsum("k,vi->kvi", now.key, writing)


def _step_backward(
    now: Inputs, before: Numbers, y_bar: Numbers, after_bar: Numbers
) -> tuple[Inputs, Numbers]:
    """Returns the cotangents of a step's inputs and of the state before it.

    Args:
        now: the step's inputs.
        before: the state before the step, [DK, DV, JT].
        y_bar: cotangent of the step's output before scaling, [DV, JO].
        after_bar: cotangent of the state after the step, [DK, DV, JT].
    """
    query, key, value, source, transition, mark, direct = now
    reading = np.einsum("k,kvi->vi", query, before)
    reading_bar = np.einsum("vo,oi->vi", y_bar, mark)
    writing = np.einsum("iw,vw->vi", source, value)
    writing_bar = np.einsum("k,kvi->vi", key, after_bar)
    query_bar = np.einsum("kvi,vi->k", before, reading_bar)
    key_bar = np.einsum("kvi,vi->k", after_bar, writing)
    value_bar = np.einsum("vi,iw->vw", writing_bar, source)
    direct_bar = None
    if direct is not None:
        score = _dot("k,k->", query, key)
        joined = np.einsum("vo,vw->ow", y_bar, value)
        direct_bar = score * joined
        score_bar = _dot("ow,ow->", direct, joined)
        query_bar, key_bar = query_bar + score_bar * key, key_bar + score_bar * query
        value_bar = value_bar + score * np.einsum("vo,ow->vw", y_bar, direct)
    bars = Inputs(
        query_bar,
        key_bar,
        value_bar,
        np.einsum("vi,vw->iw", writing_bar, value),
        np.einsum("kvi,kvj->ij", after_bar, before),
        np.einsum("vo,vi->oi", y_bar, reading),
        direct_bar,
    )
    moved = np.einsum("ij,kvi->kvj", transition, after_bar)
    return bars, moved + np.einsum("k,vi->kvi", query, reading_bar)


def _dot(subscripts: str, left: Numbers, right: Numbers) -> Numbers:
    """Computes a sum of products as an array [1], which can be multiplied with other arrays."""
    return _numbers([np.einsum(subscripts, left, right)], (1,))


def _call(name: str, body: Any, arguments: Any, results: list[tuple[int, Any, Any]]) -> list[Array]:
    """Runs a kernel over warpgroups; `results` has the steps, shape and type of each result."""
    leaves = jax.tree.leaves(arguments)
    lanes = leaves[0].shape[-1]
    out_type = [
        jax.ShapeDtypeStruct((steps, math.prod(shape), lanes), dtype)
        for steps, shape, dtype in results
    ]
    return call(name, body, *leaves, out_type=out_type, grid={"n": lanes // LANES})


def _lanes(tree: Any) -> Any:
    """Rearranges [N, T, ...] to [T, F, N], with N padded by zeros to a multiple of LANES."""

    def arrange(x: Array) -> Array:
        x = x.reshape(*x.shape[:2], -1).transpose(1, 2, 0)
        return jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[-1] % LANES)))

    return jax.tree.map(arrange, tree)


def _sequences(x: Array, N: int, shape: tuple[int, ...]) -> Array:
    """Inverts `_lanes`."""
    return x[..., :N].transpose(2, 0, 1).reshape(N, len(x), *shape)


def _reader(x: Inputs) -> Callable[[Sequence[Ref], Array], Inputs]:
    """Returns a function that reads a step's inputs from the references to them."""
    structure, shapes = jax.tree.structure(x), [y.shape[2:] for y in jax.tree.leaves(x)]

    def read(refs: Sequence[Ref], t: Array) -> Inputs:
        numbers = [_read(ref, t, shape) for ref, shape in zip(refs, shapes, strict=True)]
        return jax.tree.unflatten(structure, numbers)

    return read


def _read(ref: Ref, t: Any, shape: tuple[int, ...]) -> Numbers:
    """Reads a step's numbers of these threads' sequences as float32."""
    loaded = (tiles.load(ref.at[t, i, _here()], STRIDED) for i in range(math.prod(shape)))
    return _numbers((x.astype(f32) for x in loaded), shape)


def _write(ref: Ref, t: Any, numbers: Numbers) -> None:
    for i, x in enumerate(numbers.flat):
        tiles.store(ref.at[t, i, _here()], x)


def _here() -> Any:
    """Returns the slice of these threads' sequences."""
    return pl.ds(position("n") * LANES, LANES)


def _numbers(arrays: Iterable[Array], shape: tuple[int, ...]) -> Numbers:
    numbers = np.empty(math.prod(shape), object)
    for i, array in enumerate(arrays):
        numbers[i] = array
    return numbers.reshape(shape)
