"""In which type a layer computes, and in which it accumulates."""

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


def promote(*arrays: Array, dtype: DTypeLike | None = None) -> tuple[Array, ...]:
    """Bring arrays to one type: `dtype`, or where it is None the one they promote to."""
    common = jnp.result_type(*arrays) if dtype is None else dtype
    return tuple(array.astype(common) for array in arrays)


def accumulation_dtype(dtype: DTypeLike) -> jnp.dtype:
    """float32 for everything shorter, so that sums and products of gates do not round away."""
    return jnp.promote_types(dtype, jnp.float32)
