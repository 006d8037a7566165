"""Transitions that are a table by token: one matrix a token on every path of a model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx

from plstm_seq.layers import ConvolutionConfig, GateConfig, PLSTM1DConfig, PLSTM1DLayer
from plstm_seq.layers.by_token import ByToken
from plstm_seq.layers.initializers import FanIn
from plstm_seq.layers.transition import Factorized, Orthogonal, Table, Transition
from plstm_seq.models import PostUpConfig, PreUpConfig, SequenceModel
from plstm_seq.models.sequence import state_tracking
from plstm_seq.probing import by_token, record, sensitivity

VOCABULARY = 5
OPEN = GateConfig(weight=True, activation="sigmoid", weight_init=FanIn())


def config(block=None, **mixer):
    base = state_tracking(Table(dim=2, tokens=VOCABULARY), width=8, num_heads=3, DK=2, DV=2)
    changed = dataclasses.replace(base.mixer, implementation="recurrent", source=OPEN, **mixer)
    block = PostUpConfig(projection_round=8) if block is None else block
    return dataclasses.replace(base, mixer=changed, block=block)


def model_of(made, seed=0):
    return SequenceModel(VOCABULARY, made, param_dtype=jnp.float64, rngs=nnx.Rngs(seed))


MODELS = {
    "post_up": config(),
    "pre_up": config(PreUpConfig(projection_round=8), passthrough=True),
    "convolved": config(
        convolution=ConvolutionConfig(kernel_size=2), convolution_inputs=("query", "source")
    ),
    "before": config(mark_reads="before"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("length", [3, 11], ids=["short", "long"])
def test_whole_is_pieces_is_steps(name, length):
    model = model_of(MODELS[name])
    tokens = jax.random.randint(jax.random.key(1), (2, length), 0, VOCABULARY)
    whole, last = model(tokens, return_state=True)
    first, state = model(tokens[:, :2], return_state=True)
    second, state = model(tokens[:, 2:], initial_state=state, return_state=True)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, rtol=1e-10)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), state, last)
    state = model.init_state(2)
    for place in range(length):
        logits, state = model.step(tokens[:, place], state)
        np.testing.assert_allclose(logits, whole[:, place], rtol=1e-10)


def test_the_recorded_transitions_are_those_of_the_table():
    model = model_of(MODELS["post_up"])
    tokens = jax.random.randint(jax.random.key(1), (8, 16), 0, VOCABULARY)
    recording = record(model, tokens)
    np.testing.assert_allclose(recording.logits, model(tokens), rtol=1e-10)
    gates = by_token(recording, num_tokens=VOCABULARY)
    table = model.blocks[0].mixer.transition.embedding[...]
    np.testing.assert_allclose(gates.transitions, table, rtol=1e-12)
    np.testing.assert_allclose(gates.spread["transition"], 0, atol=1e-12)
    np.testing.assert_allclose(
        table @ jnp.swapaxes(table, -1, -2), np.broadcast_to(np.eye(2), table.shape), atol=1e-12
    )


def test_sensitivity_reaches_every_position():
    found = sensitivity(
        model_of(MODELS["post_up"]),
        jax.random.randint(jax.random.key(1), (2, 4), 0, VOCABULARY),
        key=jax.random.key(2),
    )
    assert (found.gradient > 0).all()


def test_members_are_mapped():
    tokens = jax.random.randint(jax.random.key(1), (2, 12), 0, VOCABULARY)
    models = [model_of(config(), seed) for seed in range(2)]
    graph = nnx.graphdef(models[0])
    assert graph == nnx.graphdef(models[1])
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(nnx.state, models))

    def loss(variables):
        return jnp.sum(nnx.merge(graph, variables)(tokens) ** 2)

    gradients = fast_jit(jax.vmap(jax.grad(loss)))(both)
    single = fast_jit(jax.grad(loss))(nnx.state(models[1]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, atol=1e-9), gradients, single)
    assert np.abs(gradients["blocks"][0]["mixer"]["transition"]["embedding"][...]).min() > 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="num_blocks: got 2, expected 1"):
        dataclasses.replace(config(), num_blocks=2)
    with pytest.raises(ValueError, match="convolution: got one that the transition reads"):
        config(convolution=ConvolutionConfig())
    with pytest.raises(ValueError, match=r"transition\.tokens: got 5, expected vocab_size = 6"):
        SequenceModel(6, config(), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="tokens"):
        Table(tokens=0)
    with pytest.raises(TypeError, match="transition: got Table"):
        Transition(2, 4, Table(), rngs=nnx.Rngs(0))
    layer = PLSTM1DLayer(8, config().mixer, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="x: got an array, expected ByToken"):
        layer(jnp.ones((1, 3, 8)))
    with pytest.raises(TypeError, match="x: got an array, expected ByToken"):
        layer.step(jnp.ones((1, 8)), layer.init_state(1))
    with pytest.raises(ValueError, match=r"x\.table"):
        layer(ByToken(jnp.ones((4, 8)), jnp.zeros((1, 3), jnp.int32)))


def test_other_families_do_not_ask_for_tokens():
    for family in (Factorized(), Orthogonal()):
        assert not PLSTM1DConfig(transition=family).needs_tokens
