"""The gated delta rule with several reflections a step, in chunks (README.md, section 1)."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from plstm_seq.ops.linear.triangular import unit_triangular_inverse
from plstm_seq.ops.products import einsum

_CHUNK = 64
_CHUNK_OF_VECTOR_GATES = 16
"""Rates a feature make a chunk's scores [L, L, DK]."""


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
    """The state of an associative memory, N times erased and written a step, and read after it.

    Every step t begins with `S = exp(log_decay_t) * S`, then for each of its N parts

        S = (1 - erase_n key_n key_n^T) S + key_n value_n^T

    and the output is `S^T query_t`. The delta rule writes `beta v` and erases `beta` in the
    direction of a unit key. In a chunk, what each part really writes solves one triangular
    system (the WY form of Yang et al., arXiv 2406.06484, for several parts a step as in Siems et
    al., arXiv 2502.10297); decays enter as `exp` of differences that are never positive, so that
    nothing is divided by a product of decays. Exact for any chunk size, in the types of the inputs.

    Args:
        query: [*B, T, DK].
        key: [*B, T, N, DK].
        value: [*B, T, N, DV].
        erase: [*B, T, N]; None: nothing is erased, as in gated linear attention.
        log_decay: [*B, T, 1] or a rate a feature [*B, T, DK], finite and at most 0; None: no decay.
        initial_state: S before the first step, [*B, DK, DV].
        chunk_size: steps of a chunk; None: about 64 parts, 16 with a rate a feature.

    Returns:
        The output [*B, T, DV] and the last state [*B, DK, DV].
    """
    length, parts = key.shape[-3:-1]
    if chunk_size is None:
        vector = log_decay is not None and log_decay.shape[-1] > 1
        chunk_size = (_CHUNK_OF_VECTOR_GATES if vector else _CHUNK) // parts
    size = max(1, min(chunk_size, length))
    time = initial_state.ndim - 2
    arrays = {
        name: _chunks(array, size, time)
        for name, array in {
            "query": query,
            "key": key,
            "value": value,
            "erase": erase,
            "log_decay": log_decay,
        }.items()
        if array is not None
    }
    body = jax.checkpoint(lambda state, chunk: _chunk(state, **chunk))
    state, output = jax.lax.scan(body, initial_state, arrays)
    output = jnp.moveaxis(output, 0, time)
    output = output.reshape(*output.shape[:time], -1, output.shape[-1])
    return output[..., :length, :], state


def _chunks(array: Array, size: int, time: int) -> Array:
    """[*B, T, ...] -> [chunks, *B, size, ...]; what is missing at the end does nothing."""
    missing = -array.shape[time] % size
    padding = [(0, 0)] * array.ndim
    padding[time] = (0, missing)
    shape = (*array.shape[:time], -1, size, *array.shape[time + 1 :])
    return jnp.moveaxis(jnp.pad(array, padding).reshape(shape), time, 0)


def _chunk(
    state: Array,
    query: Array,
    key: Array,
    value: Array,
    erase: Array | None = None,
    log_decay: Array | None = None,
) -> tuple[Array, Array]:
    """The state after a chunk of L steps, and its outputs [*B, L, DV]."""
    length, parts = key.shape[-3:-1]
    key, value = (x.reshape(*x.shape[:-3], length * parts, x.shape[-1]) for x in (key, value))
    step = jnp.arange(length)
    step_of_part = jnp.repeat(step, parts)
    total = jnp.zeros((*query.shape[:-1], 1), state.dtype)
    if log_decay is not None:
        total = jnp.cumsum(log_decay, axis=-2)
    total_of_part = jnp.repeat(total, parts, axis=-2)

    written = value
    if erase is not None:
        erase = erase.reshape(*erase.shape[:-2], length * parts, 1)
        part = jnp.arange(length * parts)
        found = einsum("...ld,...dv->...lv", key * jnp.exp(total_of_part), state)
        overlaps = _scores(
            key, key, total_of_part, total_of_part, part[:, None] > part, log_decay is not None
        )
        inverse = unit_triangular_inverse(erase * overlaps)
        written = einsum("...lm,...mv->...lv", inverse, value - erase * found)
    scores = _scores(
        query, key, total, total_of_part, step[:, None] >= step_of_part, log_decay is not None
    )
    output = einsum("...ld,...dv->...lv", query * jnp.exp(total), state)
    output += einsum("...lm,...mv->...lv", scores, written)
    last = total[..., -1:, :]
    state = jnp.exp(last).mT * state
    state += einsum("...md,...mv->...dv", key * jnp.exp(last - total_of_part), written)
    return state, output


def _scores(
    rows: Array, columns: Array, row_total: Array, column_total: Array, mask: Array, decays: bool
) -> Array:
    """`sum_d rows_d columns_d exp(row_total_d - column_total_d)` where the mask is true, else 0."""
    if not decays:
        return jnp.where(mask, einsum("...ld,...md->...lm", rows, columns), 0)
    if row_total.shape[-1] == 1:
        difference = row_total - column_total.mT
        between = jnp.exp(jnp.where(mask, difference, -jnp.inf))
        return einsum("...ld,...md->...lm", rows, columns) * between
    difference = row_total[..., :, None, :] - column_total[..., None, :, :]
    between = jnp.exp(jnp.where(mask[..., None], difference, -jnp.inf))
    return einsum("...ld,...md,...lmd->...lm", rows, columns, between)
