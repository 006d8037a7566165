"""Dropout in blocks and models: only where training hands over a key."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from random_parameters import randomised

from plstm_seq.layers import Hyperparameter, PLSTM1DConfig, structure
from plstm_seq.layers.transition import Orthogonal
from plstm_seq.models import PostUpConfig, PreUpConfig, SequenceModel, SequenceModelConfig

MIXER = PLSTM1DConfig(
    num_heads=2, transition=Orthogonal(dim=2), convolution=None, implementation="recurrent"
)
BLOCKS = {
    "post-up": PostUpConfig(projection_round=8),
    "pre-up": PreUpConfig(projection_round=8),
}
blocks = pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
TOKENS = np.random.default_rng(0).integers(0, 3, size=(2, 6))
KEY = jax.random.key(0)


def make(block, rate, **options) -> SequenceModel:
    block = dataclasses.replace(block, dropout=rate, **options)
    config = SequenceModelConfig(width=8, num_blocks=2, block=block, mixer=MIXER)
    return randomised(lambda: SequenceModel(3, config, param_dtype=jnp.float64, rngs=nnx.Rngs(0)))


@fast_jit
def train(model, key):
    return model(TOKENS, dropout_key=key)


@fast_jit
def plain(model):
    return model(TOKENS)


@blocks
def test_without_it_there_are_neither_leaves_nor_random_numbers(block):
    model = make(block, None)
    assert not model.uses_dropout
    assert not nnx.to_flat_state(nnx.state(model, Hyperparameter))
    assert "random" not in str(jax.make_jaxpr(lambda key: model(TOKENS, dropout_key=key))(KEY))
    np.testing.assert_array_equal(train(model, KEY), plain(model))


@blocks
def test_a_key_drops_and_without_a_key_nothing_is_dropped(block):
    model, without = make(block, 0.5), make(block, None)
    assert model.uses_dropout
    np.testing.assert_array_equal(plain(model), plain(without))
    one, other = train(model, KEY), train(model, jax.random.key(1))
    np.testing.assert_array_equal(train(model, KEY), one)
    for a, b in [(one, other), (one, plain(model))]:
        assert np.mean(np.abs(a - b) > 1e-6) > 0.9
    _, state = model(TOKENS, return_state=True)
    last, _ = model.step(TOKENS[:, 0], state)
    expected, _ = without.step(TOKENS[:, 0], without(TOKENS, return_state=True)[1])
    np.testing.assert_array_equal(last, expected)


@blocks
def test_rate_zero_is_a_value_like_any_other(block):
    models = [make(block, rate) for rate in (0.0, 0.3)]
    np.testing.assert_allclose(train(models[0], KEY), plain(models[0]), rtol=1e-12, atol=1e-14)
    graphs, states = zip(*map(nnx.split, models), strict=True)
    assert graphs[0] == graphs[1]
    assert graphs[0] != nnx.graphdef(make(block, None))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    together = fast_jit(
        jax.vmap(lambda state: nnx.merge(graphs[0], state)(TOKENS, dropout_key=KEY))
    )
    alone = jnp.stack([train(model, KEY) for model in models])
    np.testing.assert_allclose(together(stacked), alone, rtol=1e-12, atol=1e-14)


def test_a_block_drops_what_it_adds_to_its_input():
    """Without its input added, what a block of rate p gives is zero at a share p."""
    model = make(BLOCKS["pre-up"], 0.5, skip=False)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 50, 8)))
    dropped = model.blocks[0](x, dropout_key=KEY)
    zero = np.asarray(dropped == 0)
    assert abs(zero.mean() - 0.5) < 0.05
    expected = 2 * np.asarray(model.blocks[0](x))
    np.testing.assert_allclose(dropped[~zero], expected[~zero], rtol=1e-12)


def test_blocks_and_parts_draw_for_themselves(monkeypatch):
    seen = []

    def spy(h, rate, key):
        seen.append(jax.random.key_data(key).tobytes())
        return h

    monkeypatch.setattr("plstm_seq.models.blocks.dropout", spy)
    make(BLOCKS["post-up"], 0.5)(TOKENS, dropout_key=KEY)
    assert len(set(seen)) == len(seen) == 4


@pytest.mark.parametrize("kind", [PreUpConfig, PostUpConfig])
def test_wrong_rates_and_what_shares_a_program(kind):
    with pytest.raises(ValueError, match=r"dropout: got 1.0, expected None or a probability"):
        kind(dropout=1.0)
    assert structure(kind(dropout=0.0)) == structure(kind(dropout=0.5))
    assert structure(kind(dropout=0.0)) != structure(kind())
