"""The 1D layer under the transformations of jax."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from golden import relative_error
from random_parameters import randomised
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.layers import GateConfig, PLSTM1DConfig, PLSTM1DLayer
from plstm_seq.layers.initializers import Normal
from plstm_seq.layers.transition import Orthogonal

B, T, WIDTH = 2, 4, 8
GATE = GateConfig(weight=True, bias_init=Normal(), weight_init=Normal())
CONFIG = PLSTM1DConfig(
    num_heads=2,
    transition=Orthogonal(dim=2, generator_weight_init=Normal()),
    source=GATE,
    mark=GATE,
    learned_initial_state=True,
    mark_reads="after",
    implementation="recurrent",
)
X = np.random.default_rng(0).normal(size=(B, T, WIDTH))


def build(key, config=CONFIG) -> PLSTM1DLayer:
    return PLSTM1DLayer(WIDTH, config, param_dtype=jnp.float64, rngs=nnx.Rngs(key))


def make(config=CONFIG) -> PLSTM1DLayer:
    return randomised(lambda: build(jax.random.key(0), config))


@fast_jit
def whole(layer: PLSTM1DLayer, x):
    return layer(x)


def loss(graph, parameters, x):
    return jnp.sum(jnp.sin(nnx.merge(graph, parameters)(x)))


def tree_error(actual, expected) -> float:
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    return max(relative_error(a, b) for a, b in pairs)


def test_jit():
    layer = make()
    jitted = nnx.jit(lambda layer, x: layer(x))
    assert relative_error(jitted(layer, X), whole(layer, X)) < AGREEMENT["float64"]


def test_members_by_vmap_over_parameters():
    graph, _ = nnx.split(make())
    keys = jax.random.split(jax.random.key(0), 3)
    members = fast_jit(jax.vmap(lambda key: nnx.state(build(key))))(keys)
    gradient = jax.grad(loss, argnums=1)
    together = fast_jit(jax.vmap(lambda p: gradient(graph, p, X)))(members)
    alone = fast_jit(lambda p: gradient(graph, p, X))
    for i in range(3):
        expected = alone(jax.tree.map(lambda leaf, i=i: leaf[i], members))
        actual = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        assert tree_error(actual, expected) < GRADIENT_AGREEMENT["float64"]


def test_every_parameter_has_a_gradient():
    graph, parameters = nnx.split(make())
    gradients = fast_jit(lambda p: jax.grad(loss, argnums=1)(graph, p, X))(parameters)
    zero = [path for path, leaf in nnx.to_flat_state(gradients) if not jnp.any(leaf[...] != 0)]
    assert zero == []


def test_gradient_against_finite_differences():
    graph, parameters = nnx.split(make())
    direction = jax.tree.map(
        lambda leaf: jnp.asarray(np.random.default_rng(1).normal(size=leaf.shape)), parameters
    )

    @fast_jit
    def both(parameters):
        def along(h):
            moved = jax.tree.map(lambda p, d: p + h * d, parameters, direction)
            return loss(graph, moved, X)

        gradient = jax.grad(loss, argnums=1)(graph, parameters, X)
        product = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)
        return jnp.sum(jnp.stack(jax.tree.leaves(product))), (along(1e-5) - along(-1e-5)) / 2e-5

    exact, numeric = both(parameters)
    assert relative_error(exact, numeric) < 1e-6


def test_remat():
    graph, parameters = nnx.split(make())
    plain = fast_jit(lambda p: jax.grad(loss, argnums=1)(graph, p, X))
    again = fast_jit(
        lambda p: jax.grad(jax.checkpoint(loss, static_argnums=0), argnums=1)(graph, p, X)
    )
    assert tree_error(again(parameters), plain(parameters)) < GRADIENT_AGREEMENT["float64"]


def test_decoding_in_a_scan():
    layer = make()
    graph, parameters = nnx.split(layer)

    @fast_jit
    def decode(parameters, x):
        layer = nnx.merge(graph, parameters)

        def one(state, token):
            y, state = layer.step(token, state)
            return state, y

        return jax.lax.scan(one, layer.init_state(B), x.swapaxes(0, 1))[1].swapaxes(0, 1)

    assert relative_error(decode(parameters, X), whole(layer, X)) < AGREEMENT["float64"]


@pytest.mark.parametrize("batch", [1, 3])
def test_state_is_a_pytree_led_by_the_batch(batch):
    state = make().init_state(batch)
    assert all(leaf.shape[0] == batch for leaf in jax.tree.leaves(state))
    doubled = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), state)
    assert isinstance(doubled, type(state))
    assert dataclasses.asdict(doubled)["C"].shape[0] == 2 * batch
