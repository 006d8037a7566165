"""Baselines in a model: decoding, training alone and together, evaluation beyond."""

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
from toy import Parity

from plstm_seq.evaluation import Stream, length_generalization
from plstm_seq.layers.mixers import AttentionConfig, DeltaNetConfig, LSTMConfig, PDConfig
from plstm_seq.models import PostUpConfig, PreUpConfig, SequenceModel, SequenceModelConfig
from plstm_seq.training import Member, OptimizerConfig, TrainingConfig, Uniform, fit, fit_members

TASK = Parity()
CONFIG = SequenceModelConfig(width=8, block=PostUpConfig(projection_round=8))
TRAINING = TrainingConfig(
    steps=4,
    batch_size=4,
    steps_per_dispatch=4,
    optimizer=OptimizerConfig(warmup_steps=1),
    curriculum=Uniform(2, 5),
    solved=None,
)


def model_of(mixer, **options) -> SequenceModel:
    config = dataclasses.replace(CONFIG, mixer=mixer, **options)
    return SequenceModel(2, config, param_dtype=jnp.float64, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("mixer", "block"),
    [
        (AttentionConfig(num_heads=2), PostUpConfig(projection_round=8)),
        (LSTMConfig(), PreUpConfig(projection_round=8)),
    ],
    ids=["attention, post-up", "lstm, pre-up"],
)
def test_decoding_agrees_with_the_whole(mixer, block):
    model = randomised(lambda: model_of(mixer, num_blocks=2, block=block))
    tokens = np.random.default_rng(0).integers(0, 2, size=(2, 5))

    @fast_jit
    def both(model, tokens):
        state, logits = model.init_state(2), []
        for t in range(tokens.shape[1]):
            output, state = model.step(tokens[:, t], state)
            logits.append(output)
        return model(tokens), jnp.stack(logits, axis=1)

    whole, stepped = both(model, tokens)
    assert relative_error(stepped, whole) < AGREEMENT["float64"]


@pytest.mark.parametrize("mixer", [LSTMConfig(), DeltaNetConfig(num_heads=2, gate=True)])
def test_a_member_is_the_run_alone(mixer):
    first, second, alone = (randomised(lambda: model_of(mixer), seed) for seed in (0, 1, 1))
    members = [
        Member(model, TRAINING, jax.random.key(seed)) for seed, model in enumerate((first, second))
    ]
    fit_members(members, TASK.sample)
    before = jax.tree.map(jnp.copy, nnx.state(alone))
    fit(alone, TASK.sample, TRAINING, key=jax.random.key(1))
    together = jax.tree.leaves(nnx.state(second))
    trained = jax.tree.leaves(nnx.state(alone))
    for leaf, expected, start in zip(together, trained, jax.tree.leaves(before), strict=True):
        assert relative_error(leaf, expected) < GRADIENT_AGREEMENT["float64"]
        assert (expected != start).any()


@pytest.mark.parametrize("mixer", [AttentionConfig(num_heads=2), PDConfig(dictionary_size=2)])
def test_evaluation_of_bounded_and_unbounded_states(mixer):
    result = length_generalization(
        randomised(lambda: model_of(mixer)),
        Stream(TASK.draw, TASK.start, TASK.advance),
        [3, 9],
        chance=0.5,
        key=jax.random.key(0),
        num_sequences=3,
        batch_size=3,
        chunk_size=4,
        whole_maximum=8,
    )
    bounded = not isinstance(mixer, AttentionConfig)
    assert result.whole != bounded
    assert result.lengths == ((3, 9) if bounded else (3,))
