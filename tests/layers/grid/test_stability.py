"""What the gates of a mode let through on any grid: the bounds that the modes are made for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit

from plstm_seq.layers.grid.gates import d_gates, p_gates
from plstm_seq.ops import plstm_2d

SIDE = 5
RNG = np.random.default_rng(0)


def rotations():
    angles = RNG.uniform(0, 2 * np.pi, (SIDE, SIDE))
    cosine, sine = np.cos(angles), np.sin(angles)
    return jnp.asarray(np.moveaxis([[cosine, -sine], [sine, cosine]], (0, 1), (-2, -1)))


def gate(name):
    """Random shares, a source of one at every cell, and transitions of norm 1."""
    if name == "orientation":
        return jnp.asarray(RNG.uniform(size=(SIDE, SIDE)))
    if name.startswith("transition"):
        return rotations()
    return jnp.broadcast_to(jnp.eye(2)[:, None], (SIDE, SIDE, 2, 1, 2))


def scalar(name):
    """The same, with transitions of 1."""
    if name == "orientation":
        return gate(name)
    return jnp.ones((SIDE, SIDE, 1, 1) if name.startswith("transition") else (SIDE, SIDE, 1, 1, 1))


@fast_jit
def leaving(gates, value):
    """The states on the right and lower edge, where one cell alone has a value."""
    one = jnp.ones((SIDE, SIDE, 1, 1))
    _, states = plstm_2d(one, one, value, *gates, return_state=True, implementation="recurrent")
    return states


def written(J):
    return jnp.zeros((SIDE, SIDE, 1, J)).at[1, 2, 0, 0].set(1.0)


def test_p_mode_loses_and_gains_nothing():
    right, down = leaving(p_gates(scalar, "shared"), written(1))
    assert float(right.sum() + down.sum()) == pytest.approx(1, abs=1e-12)


def test_p_mode_with_rotations_gains_nothing():
    right, down = leaving(p_gates(gate, "shared"), written(2))
    lengths = jnp.linalg.norm(right, axis=-1).sum() + jnp.linalg.norm(down, axis=-1).sum()
    assert 0 < float(lengths) <= 1


def test_the_published_p_mode_with_rotations_may_gain():
    """Ones minus a rotation is no contraction: here the gain is large already on 5 x 5 cells."""
    right, down = leaving(p_gates(gate, "published"), written(2))
    lengths = jnp.linalg.norm(right, axis=-1).sum() + jnp.linalg.norm(down, axis=-1).sum()
    assert float(lengths) > 2


@pytest.mark.parametrize("chirality", ["L", "R"])
def test_d_mode_reaches_every_edge_with_full_length(chirality):
    """L turns to the right: all that is below comes by on the right edge. R turns down."""
    right, down = leaving(d_gates(gate, chirality), written(2))
    turned, straight = (right, down) if chirality == "L" else (down, right)
    start = 2 if chirality == "L" else 1
    expected = (np.arange(SIDE) >= start).astype(float)
    np.testing.assert_allclose(jnp.linalg.norm(turned, axis=-1)[:, 0, 0], expected, atol=1e-12)
    reached = jnp.linalg.norm(straight, axis=-1)[:, 0, 0]
    assert jax.device_get(jnp.round(reached, 12)).tolist().count(1.0) == 1
