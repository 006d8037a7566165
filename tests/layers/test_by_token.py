"""A table of what depends on a token alone gives what computing it at every position gives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from jax.test_util import check_grads

from plstm_seq.layers.by_token import ByToken, pays, rows_at
from plstm_seq.layers.convolution import ConvolutionConfig
from plstm_seq.layers.mixers import LSTMConfig
from plstm_seq.layers.transition import Factorized
from plstm_seq.models import PostUpConfig, PreUpConfig, SequenceModel, sequence
from plstm_seq.models.sequence import state_tracking

VOCABULARY, BATCH, LENGTH = 3, 2, 7


def configs():
    base = state_tracking(Factorized(dim=2), width=8, num_heads=2, DK=2, DV=2)
    base = dataclasses.replace(
        base, mixer=dataclasses.replace(base.mixer, implementation="recurrent")
    )
    convolving = dataclasses.replace(base.mixer, convolution=ConvolutionConfig(kernel_size=2))
    passing = dataclasses.replace(base.mixer, passthrough=True)
    return {
        "post_up": dataclasses.replace(base, block=PostUpConfig(projection_round=8)),
        "pre_up": dataclasses.replace(base, mixer=passing, block=PreUpConfig(projection_round=8)),
        "convolution": dataclasses.replace(base, mixer=convolving),
        "lstm": dataclasses.replace(base, mixer=LSTMConfig()),
    }


@pytest.mark.parametrize("name", configs())
def test_outputs_states_and_gradients_are_the_same(name, monkeypatch):
    model = SequenceModel(VOCABULARY, configs()[name], param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    tokens = jax.random.randint(jax.random.key(1), (BATCH, LENGTH), 0, VOCABULARY)
    weights = jax.random.normal(jax.random.key(2), (BATCH, LENGTH, VOCABULARY), jnp.float64)

    graph, parameters = nnx.split(model)

    def outcome():
        @fast_jit
        def run(parameters):
            def loss(parameters):
                logits, state = nnx.merge(graph, parameters)(tokens, return_state=True)
                return jnp.sum(logits * weights), state

            return jax.value_and_grad(loss, has_aux=True)(parameters)

        return run(parameters)

    assert pays(VOCABULARY, BATCH * LENGTH)
    with_table = outcome()
    monkeypatch.setattr(sequence, "pays", lambda *_: False)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11),
        with_table,
        outcome(),
    )


def test_the_values_at_positions():
    rows = jnp.arange(6.0).reshape(3, 2)
    tokens = jnp.array([[2, 0], [1, 1]])
    values = ByToken(rows, tokens)
    assert values.shape == (2, 2, 2)
    np.testing.assert_array_equal(values.map(jnp.square).expand(), rows[tokens] ** 2)


def test_both_modes_of_differentiation():
    tokens = jnp.array([2, 0, 2])
    check_grads(lambda table: rows_at(table, tokens), (jnp.ones((3, 2)),), order=2)


def test_a_token_outside_of_the_vocabulary_is_seen():
    assert jnp.isnan(rows_at(jnp.ones((3, 2)), jnp.array([3]))).all()


@pytest.mark.parametrize(
    ("entries", "positions", "answer"), [(2, 4, True), (2, 3, False), (2000, 10**6, False)]
)
def test_a_table_pays_for_a_small_vocabulary(entries, positions, answer):
    assert pays(entries, positions) is answer
