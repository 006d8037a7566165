"""What is recorded is what the model computes, and the model stays as it is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from tolerances import AGREEMENT

from plstm_seq.layers import ConvolutionConfig, GateConfig
from plstm_seq.layers.mixers import LSTMConfig
from plstm_seq.layers.transition import Orthogonal
from plstm_seq.models import SequenceModel, SequenceModelConfig
from plstm_seq.models.sequence import state_tracking
from plstm_seq.probing import by_token, realizations, record, with_orthogonal_transitions
from plstm_seq.probing.rounding import Polar

TOLERANCE = AGREEMENT["float64"]
TOKENS = jax.random.randint(jax.random.key(0), (3, 7), 0, 3)


def make(num_blocks=1, **mixer):
    config = state_tracking(Orthogonal(dim=2), width=8, num_blocks=num_blocks, num_heads=2, DK=2)
    changed = dataclasses.replace(config.mixer, implementation="recurrent", **mixer)
    config = dataclasses.replace(config, mixer=changed)
    return SequenceModel(3, config, param_dtype=jnp.float64, rngs=nnx.Rngs(0))


def test_recorded_are_the_gates_states_and_outputs_of_the_run():
    model = make(num_blocks=2, convolution=ConvolutionConfig(2), direct=GateConfig(weight=True))
    before = jax.tree.map(np.asarray, nnx.state(model))
    found = record(model, TOKENS)
    graphdef, variables = nnx.split(model)
    run = fast_jit(lambda variables: nnx.merge(graphdef, variables)(TOKENS, return_state=True))
    logits, last = run(variables)
    np.testing.assert_allclose(found.logits, logits, atol=TOLERANCE)
    assert [layer.block for layer in found.layers] == [0, 1]
    for layer, state in zip(found.layers, last, strict=True):
        np.testing.assert_allclose(layer.states[:, -1], state.C, atol=TOLERANCE)
        before_step = np.concatenate([0 * layer.states[:, :1], layer.states[:, :-1]], axis=1)
        before_step[:, 0] = layer.initial_state
        stepped = np.einsum("...ij,...kvj->...kvi", layer.transition, before_step)
        written = np.einsum("...iaw,...ka,...vw->...kvi", layer.source, layer.key, layer.value)
        np.testing.assert_allclose(stepped + written, layer.states, atol=TOLERANCE)
        assert layer.direct is not None
        assert layer.outputs.shape == (3, 7, 8)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(model))


def test_gates_spread_over_contexts_only_where_there_are_contexts():
    gates = by_token(record(make(), TOKENS), num_tokens=4)
    assert gates.count.sum() == TOKENS.size
    assert gates.count[3] == 0
    assert np.isnan(gates.transitions[3]).all()
    assert max(np.nanmax(spread) for spread in gates.spread.values()) < 1e-6
    first = int(TOKENS[0, 0])
    np.testing.assert_allclose(
        gates.transitions[first],
        record(make(), TOKENS).layers[0].transition[0, 0],
        atol=TOLERANCE,
    )
    convolved = by_token(record(make(convolution=ConvolutionConfig(2)), TOKENS), num_tokens=3)
    assert np.nanmin(convolved.spread["transition"]) > 1e-3
    deep = record(make(num_blocks=2), TOKENS)
    assert np.nanmax(by_token(deep, 0, num_tokens=3).spread["transition"]) < 1e-6
    assert np.nanmin(by_token(deep, 1, num_tokens=3).spread["transition"]) > 1e-6


def test_every_head_has_a_realization():
    recording = record(make(), TOKENS)
    gates = by_token(recording, num_tokens=3)
    parts = realizations(recording.layers[0], gates)
    assert [part.dim for part in parts] == [2, 2]


def test_transitions_are_made_orthogonal_in_a_copy():
    model = make()
    layer = model.blocks[0].mixer
    layer.transition.generator_bias[...] += 0.3
    scaled = nnx.clone(model)

    class Shrunk(nnx.Module):
        def __init__(self, transition):
            self.transition = transition

        def __call__(self, x):
            return 0.9 * self.transition(x)

    scaled.blocks[0].mixer.transition = Shrunk(scaled.blocks[0].mixer.transition)
    fixed = with_orthogonal_transitions(scaled)
    assert isinstance(fixed.blocks[0].mixer.transition, Polar)
    assert not isinstance(scaled.blocks[0].mixer.transition, Polar)
    np.testing.assert_allclose(fixed(TOKENS), model(TOKENS), atol=1e-6)


def test_a_model_without_plstm_layers_is_refused():
    config = SequenceModelConfig(width=8, mixer=LSTMConfig())
    model = SequenceModel(3, config, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="pLSTM"):
        record(model, TOKENS)
    with pytest.raises(ValueError, match="pLSTM"):
        with_orthogonal_transitions(model)
