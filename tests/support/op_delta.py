"""Random arguments of the gated delta rule, and the rule as a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np

B, T, DK, DV = 2, 7, 3, 4


def delta_inputs(parts: int, decays: int, erases: bool, dtype=np.float64) -> dict:
    rng = np.random.default_rng(0)
    key = rng.normal(size=(B, T, parts, DK))
    inputs = {
        "query": rng.normal(size=(B, T, DK)),
        "key": key / np.linalg.norm(key, axis=-1, keepdims=True),
        "value": rng.normal(size=(B, T, parts, DV)),
        "initial_state": rng.normal(size=(B, DK, DV)),
    }
    if erases:
        inputs["erase"] = rng.uniform(0, 2, size=(B, T, parts))
    if decays:
        # The last ones forget all: nothing is divided by a product of decays.
        inputs["log_decay"] = -np.exp(rng.normal(size=(B, T, decays)))
        inputs["log_decay"][:, -2] = -200
    return {name: array.astype(dtype) for name, array in inputs.items()}


def delta_loop(query, key, value, erase=None, log_decay=None, *, initial_state):
    """Step by step, part by part, as in the docstring."""
    erases = erase is not None
    erase = erase if erases else jnp.zeros(key.shape[:-1])
    log_decay = jnp.zeros((*query.shape[:-1], 1)) if log_decay is None else log_decay

    def step(state, now):
        query, key, value, erase, log_decay = now
        state = jnp.exp(log_decay)[:, :, None] * state
        for n in range(key.shape[1]):
            k = key[:, n]
            if erases:
                found = jnp.einsum("bd,bdv->bv", k, state)
                state = state - erase[:, n, None, None] * k[:, :, None] * found[:, None]
            state = state + k[:, :, None] * value[:, n, None]
        return state, jnp.einsum("bd,bdv->bv", query, state)

    steps = [jnp.moveaxis(array, 1, 0) for array in (query, key, value, erase, log_decay)]
    state, outputs = jax.lax.scan(step, initial_state, steps)
    return jnp.moveaxis(outputs, 0, 1), state
