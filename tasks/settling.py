"""Automata that settle: words after which the label never changes, and inputs that avoid them.

Most regular languages have prefixes that no word of theirs begins with. Uniform symbols soon lead
there, and nothing is left to be learned from long inputs.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

LONG = 128
"""Length at which the frequencies of labels are taken."""


class Choices(NamedTuple):
    """Which symbols are drawn in a state, each bool `[states, symbols]`.

    Attributes:
        on: those that leave the label open, or all where none does.
        settling: those that settle it, in states that leave it open.
    """

    on: np.ndarray
    settling: np.ndarray


def choices(transition: np.ndarray, outputs: np.ndarray, initial: int) -> Choices | None:
    """What may be drawn in an automaton that settles; None if no label is ever settled.

    A state is settled if all states that can be reached from it have one label.
    """
    states = np.arange(len(transition))
    reach = np.eye(len(states), dtype=bool)
    reach[states[:, None], transition] = True
    for _ in range(len(states).bit_length()):
        reach = (reach.astype(np.float32) @ reach) > 0
    labels = np.array([len(set(outputs[row].tolist())) for row in reach])
    settled = labels == 1
    if settled[initial] or not settled[reach[initial]].any():
        return None
    settling = settled[transition] & ~settled[:, None]
    on = ~settling
    on[~on.any(axis=1)] = True
    return Choices(on, settling)


def draw(
    transition: np.ndarray, initial: int, chosen: Choices, key: Array, lengths: Array, width: int
) -> Array:
    """Draw inputs of which one half settles, at a uniform position, and the other does not.

    From that position on the first symbol is drawn that settles the label, and then any. Other
    symbols are uniform among those that leave it open.

    Returns:
        int32 `[B, width]`; behind a row's length they go on.
    """
    half_key, due_key, symbol_key = jax.random.split(key, 3)
    half = jax.random.bernoulli(half_key, 0.5, lengths.shape)
    due = jnp.where(half, jax.random.randint(due_key, lengths.shape, 0, lengths), width)
    steps = jnp.asarray(transition, jnp.int32)
    on, settling = jnp.asarray(chosen.on), jnp.asarray(chosen.settling)
    shape = (width, len(lengths), transition.shape[1])
    noise = jax.random.uniform(symbol_key, shape, jnp.float32)

    def step(state: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        position, drawn = now
        ready = ((position >= due) & settling[state].any(1))[:, None]
        allowed = jnp.where(ready, settling[state], on[state])
        symbol = jnp.where(allowed, drawn, -1).argmax(1).astype(jnp.int32)
        return steps[state, symbol], symbol

    start = jnp.full(lengths.shape, initial, jnp.int32)
    positions = jnp.arange(width, dtype=jnp.int32)
    return jax.lax.scan(step, start, (positions, noise))[1].T


def label_frequencies(
    transition: np.ndarray, outputs: np.ndarray, initial: int, chosen: Choices, *, last: bool
) -> np.ndarray:
    """How often each label occurs in inputs of length `LONG` that `draw` makes: float64 `[labels]`.

    Args:
        transition: Integer `[states, symbols]`.
        outputs: Integer `[states]`.
        initial: State before the first symbol.
        chosen: What `choices` found.
        last: At the last position; else over all.
    """
    on, settles = (_chain(transition, part) for part in chosen)
    ready = chosen.settling.any(axis=1)
    calm, due = np.zeros((2, len(transition)))
    calm[initial] = 1
    counts = np.zeros(outputs.max() + 1)
    for position in range(LONG):
        # Of the half that will settle and is not due yet, one in (what remains) becomes due.
        remaining = (LONG - position) / LONG
        moved = calm * (1 / LONG) / (1 + remaining)
        calm, due = calm - moved, due + moved
        calm, due = calm @ on, np.where(ready, due, 0) @ settles + np.where(ready, 0, due) @ on
        if not last or position == LONG - 1:
            counts += np.bincount(outputs, calm + due, len(counts))
    return counts / counts.sum()


def _chain(transition: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Probabilities of steps under uniform symbols among those allowed; rows of none are 0."""
    states = len(transition)
    chain = np.zeros((states, states))
    shares = allowed / np.maximum(allowed.sum(axis=1, keepdims=True), 1)
    np.add.at(chain, (np.arange(states)[:, None], transition), shares)
    return chain
