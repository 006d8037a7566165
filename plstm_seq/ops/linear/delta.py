"""The gated delta rule with several reflections per step, in chunks (README.md, section 1).

`unit_triangular_inverse` inverts the small triangular matrices of chunks by products alone.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from plstm_seq.ops.arguments import check_chunk_size
from plstm_seq.ops.not_finite import one_by_one, truth_where_not_finite
from plstm_seq.ops.products import einsum, small_matmul

_LARGEST_UNROLLED = 8
_CHUNK = 64
_CHUNK_OF_VECTOR_GATES = 16
"""If each feature has its own rate, a chunk's scores are [L, L, DK], so that chunks are shorter."""


def gated_delta_rule(
    query: Float[Array, "*B T DK"],
    key: Float[Array, "*B T N DK"],
    value: Float[Array, "*B T N DV"],
    erase: Float[Array, "*B T N"] | None = None,
    log_decay: Float[Array, "*B T D"] | None = None,
    *,
    initial_state: Float[Array, "*B DK DV"],
    chunk_size: int | None = None,
) -> tuple[Float[Array, "*B T DV"], Float[Array, "*B DK DV"]]:
    """Run an associative memory that is erased and written N times per step, and then read.

    Every step t begins with `S = exp(log_decay_t) * S`. Then, for each of its N parts,

        S = (1 - erase_n key_n key_n^T) S + key_n value_n^T

    and the output is `S^T query_t`. The delta rule has `erase = beta` and a value of `beta v`, with
    keys of length 1. In a chunk, the values that the parts effectively write are the solution of
    one triangular system (the WY form of Yang et al., arXiv 2406.06484, with several parts per step
    as in Siems et al., arXiv 2502.10297). Decays enter as `exp` of sums that are never positive, so
    that nothing is divided by a product of decays. The result is the same for every chunk size, up
    to rounding.

    Args:
        query: [*B, T, DK].
        key: [*B, T, N, DK].
        value: [*B, T, N, DV].
        erase: [*B, T, N]; None: nothing is erased, as in gated linear attention.
        log_decay: one rate for all features [*B, T, 1] or one rate per feature [*B, T, DK]; finite
            and at most 0. None: no decay.
        initial_state: S before the first step, [*B, DK, DV].
        chunk_size: number of steps of a chunk; None: as many as have about 64 parts, or about 16
            parts if each feature has a rate.

    Returns:
        The output [*B, T, DV] and the last state [*B, DK, DV].

    Raises:
        TypeError: `chunk_size` is not a whole number.
        ValueError: `chunk_size` is below 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from plstm_seq.ops.linear import gated_delta_rule
        >>> key = jnp.array([[[1.0, 0.0]], [[1.0, 0.0]]])  # both steps write to the same key
        >>> value, erase = jnp.array([[[3.0]], [[5.0]]]), jnp.ones((2, 1))
        >>> start = jnp.zeros((2, 1))
        >>> output, state = gated_delta_rule(key[:, 0], key, value, erase, initial_state=start)
        >>> output.tolist()
        [[3.0], [5.0]]
    """
    check_chunk_size(chunk_size)
    length, parts = key.shape[-3:-1]
    if chunk_size is None:
        vector = log_decay is not None and log_decay.shape[-1] > 1
        chunk_size = (_CHUNK_OF_VECTOR_GATES if vector else _CHUNK) // parts
    given = {
        "query": query,
        "key": key,
        "value": value,
        "erase": erase,
        "log_decay": log_decay,
    }
    return truth_where_not_finite(
        "gated_delta_rule",
        functools.partial(_in_chunks, max(1, min(chunk_size, length))),
        one_by_one(_part_by_part, initial_state.ndim - 2),
        initial_state,
        {name: array for name, array in given.items() if array is not None},
    )


def _part_by_part(state: Array, arrays: Mapping[str, Array]) -> tuple[Array, Array]:
    """Compute one sequence step by step and part by part, as the rule is written above."""

    @jax.checkpoint
    def step(state: Array, now: Mapping[str, Array]) -> tuple[Array, Array]:
        if (log_decay := now.get("log_decay")) is not None:
            state = jnp.exp(log_decay)[:, None] * state
        for part in range(len(now["key"])):
            key, value = now["key"][part], now["value"][part]
            if (erase := now.get("erase")) is not None:
                value = value - erase[part] * (key @ state)
            state = state + key[:, None] * value
        return state, now["query"] @ state

    state, output = jax.lax.scan(step, state, arrays)
    return output, state


def _in_chunks(size: int, initial_state: Array, arrays: Mapping[str, Array]) -> tuple[Array, Array]:
    time = initial_state.ndim - 2
    length = arrays["query"].shape[time]
    chunks = {name: _chunks(array, size, time) for name, array in arrays.items()}
    body = jax.checkpoint(lambda state, chunk: _chunk(state, **chunk))
    state, output = jax.lax.scan(body, initial_state, chunks)
    output = jnp.moveaxis(output, 0, time)
    output = jax.lax.collapse(output, time, time + 2)
    return output[..., :length, :], state


def _chunks(array: Array, size: int, time: int) -> Array:
    """Cut [*B, T, ...] into [chunks, *B, size, ...]; padding at the end has no effect."""
    missing = -array.shape[time] % size
    padding = [(0, 0)] * array.ndim
    padding[time] = (0, missing)
    chunks = (array.shape[time] + missing) // size
    shape = (*array.shape[:time], chunks, size, *array.shape[time + 1 :])
    return jnp.moveaxis(jnp.pad(array, padding).reshape(shape), time, 0)


def _chunk(
    state: Array,
    query: Array,
    key: Array,
    value: Array,
    erase: Array | None = None,
    log_decay: Array | None = None,
) -> tuple[Array, Array]:
    """Return the state after a chunk of L steps, and the chunk's outputs [*B, L, DV]."""
    length, parts = key.shape[-3:-1]
    key, value = (x.reshape(*x.shape[:-3], length * parts, x.shape[-1]) for x in (key, value))
    if log_decay is None:
        log_decay = jnp.zeros((length, 1), state.dtype)
    begin, between = _decays(log_decay)
    # The decays from each part on: the decay of a step comes before its first part.
    to_parts = jnp.repeat(between, parts, axis=-2)
    written = value
    if erase is not None:
        erase = erase.reshape(*erase.shape[:-2], length * parts, 1)
        decayed = key * jnp.repeat(begin, parts, axis=-2)
        found = einsum("...ld,...dv->...lv", decayed, state)
        overlaps = _scores(key, key, jnp.repeat(to_parts, parts, axis=-3))
        inverse = unit_triangular_inverse(erase * overlaps)
        written = einsum("...lm,...mv->...lv", inverse, value - erase * found)
    output = einsum("...ld,...dv->...lv", query * begin, state)
    output += einsum("...lm,...mv->...lv", _scores(query, key, to_parts), written)
    state = begin[..., -1:, :].mT * state
    state += einsum("...md,...mv->...dv", key * to_parts[..., -1, :, :], written)
    return state, output


def _decays(log_decay: Float[Array, "*B L D"]) -> tuple[Array, Array]:
    """Return decays from a chunk's start to each step [*B, L, D], between steps [*B, L, L, D].

    The decay from step s to step m is the product over the steps after s up to m: 1 for m = s, and
    0 for m < s. Each sum is computed by itself, because in a difference of two sums from the start
    a strong decay before both steps would round away the decays between them.
    """
    steps = jnp.arange(log_decay.shape[-2])
    up_to = (steps[:, None] >= steps).astype(log_decay.dtype)
    behind = jnp.where((steps[:, None] > steps)[..., None], log_decay[..., None, :], 0)
    between = jnp.exp(einsum("mk,...ksd->...msd", up_to, behind)) * up_to[..., None]
    return jnp.exp(einsum("mk,...kd->...md", up_to, log_decay)), between


def _scores(rows: Array, columns: Array, between: Array) -> Array:
    """Return `sum_d rows_ld columns_md between_lmd`, [*B, L, M]."""
    if between.shape[-1] == 1:
        return einsum("...ld,...md->...lm", rows, columns) * between[..., 0]
    return einsum("...ld,...md,...lmd->...lm", rows, columns, between)


@jax.custom_vjp
def unit_triangular_inverse(strict: Float[Array, "*B L L"]) -> Float[Array, "*B L L"]:
    """Return `(1 + strict)^-1` for strictly lower triangular matrices.

    Blocks on the diagonal are joined in pairs, `[[A, 0], [C, B]]^-1 = [[A^-1, 0], [-B^-1 C A^-1,
    B^-1]]`, starting with blocks of size one. This takes log2 L batches of products, while LAPACK
    would invert the matrices one by one.

    Args:
        strict: [*B, L, L]; numbers on and above the diagonal are ignored.

    Returns:
        [*B, L, L], lower triangular with a diagonal of ones.
    """
    length = strict.shape[-1]
    whole = 1 << (length - 1).bit_length()
    missing = [(0, 0)] * (strict.ndim - 2) + [(0, whole - length)] * 2
    strict = jnp.pad(strict, missing)
    lead = strict.shape[:-2]
    inverse = jnp.ones((*lead, whole, 1, 1), strict.dtype)
    size = 1
    while size < whole:
        pairs = whole // (2 * size)
        blocks = strict.reshape(*lead, pairs, 2, size, pairs, 2, size)
        below = jnp.diagonal(blocks[..., :, 1, :, :, 0, :], axis1=-4, axis2=-2)
        first, second = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        corner = -_product(second, _product(jnp.moveaxis(below, -1, -3), first))
        inverse = jnp.concatenate(
            [
                jnp.concatenate([first, jnp.zeros_like(first)], axis=-1),
                jnp.concatenate([corner, second], axis=-1),
            ],
            axis=-2,
        )
        size *= 2
    return inverse[..., 0, :length, :length]


def _inverse_forward(strict: Array) -> tuple[Array, Array]:
    inverse = unit_triangular_inverse(strict)
    return inverse, inverse


def _inverse_backward(inverse: Array, cotangent: Array) -> tuple[Array]:
    gradient = -einsum("...ji,...jk,...lk->...il", inverse, cotangent, inverse)
    return (jnp.tril(gradient, -1),)


unit_triangular_inverse.defvjp(_inverse_forward, _inverse_backward)


def _product(left: Array, right: Array) -> Array:
    if left.shape[-1] <= _LARGEST_UNROLLED:
        return small_matmul(left, right)
    return einsum("...ij,...jk->...ik", left, right)
