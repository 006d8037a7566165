"""Dropout whose rate may be traced, so that members of a sweep differ in it."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def dropout(x: Float[Array, "*S"], rate: Float[Array, ""], key: Array) -> Float[Array, "*S"]:
    """Zero entries at random and scale the others by `1 / (1 - rate)`.

    Source: Srivastava et al., Dropout, JMLR 15 (2014). With rate 0 the result is `x` itself.

    Args:
        x: [...].
        rate: the probability of a zero, in [0, 1); a number or a traced array [].
        key: typed key.

    Returns:
        [...], in the type of `x`. Which entries are zero depends on `key`, shape and rate alone.
    """
    # In float32 whatever the types are, so that float64 computes with the same zeros.
    kept = jax.random.uniform(key, x.shape, jnp.float32) >= jnp.asarray(rate, jnp.float32)
    scale = jnp.asarray(1 / (1 - rate), x.dtype)
    return jnp.where(kept, x * scale, jnp.zeros_like(x))


def drop_path(x: Float[Array, "B *S"], rate: Float[Array, ""], key: Array) -> Float[Array, "B *S"]:
    """Zero whole entries of the first axis at random and scale the others by `1 / (1 - rate)`.

    Source: Huang et al., Deep networks with stochastic depth, arXiv 1603.09382. Arguments and
    result as those of `dropout`.
    """
    return x * dropout(jnp.ones((x.shape[0], *[1] * (x.ndim - 1)), x.dtype), rate, key)


def check_dropout(rate: float | None, name: str = "dropout") -> None:
    """Raise `ValueError` unless the rate is None (no dropout) or in [0, 1)."""
    if rate is not None and not 0 <= rate < 1:
        raise ValueError(f"{name}: got {rate}, expected None or a probability in [0, 1)")
