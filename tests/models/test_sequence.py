import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from golden import relative_error
from hypothesis import given, settings
from hypothesis import strategies as st
from random_parameters import randomised
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.layers import PLSTM1DConfig
from plstm_seq.layers.transition import Orthogonal
from plstm_seq.models import PostUpConfig, PreUpConfig, SequenceModel, SequenceModelConfig

VOCABULARY, LABELS, B, T = 5, 3, 2, 6
CONFIG = SequenceModelConfig(
    width=8,
    num_blocks=2,
    block=PostUpConfig(projection_round=8),
    mixer=PLSTM1DConfig(
        num_heads=2,
        transition=Orthogonal(dim=2),
        learned_initial_state=True,
        implementation="recurrent",
    ),
)
CONFIGS = {
    "post-up": CONFIG,
    "pre-up": dataclasses.replace(CONFIG, block=PreUpConfig(projection_round=8)),
    "chunkwise": dataclasses.replace(
        CONFIG,
        mixer=dataclasses.replace(CONFIG.mixer, implementation="chunkwise", chunk_size=4),
    ),
    "no cap, no norm": dataclasses.replace(CONFIG, logit_soft_cap=None, post_blocks_norm=None),
}
TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, size=(B, T))


def make(config=CONFIG, seed=0, **options) -> SequenceModel:
    options = {"param_dtype": jnp.float64, "output_size": LABELS, **options}
    return randomised(lambda: SequenceModel(VOCABULARY, config, **options, rngs=nnx.Rngs(0)), seed)


@fast_jit
def whole(model, tokens, state=None):
    return model(tokens, initial_state=state, return_state=True)


@fast_jit
def step(model, tokens, state):
    return model.step(tokens, state)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_decoding_agrees_with_the_whole(config):
    model = make(config)
    logits, last = whole(model, TOKENS)
    assert logits.shape == (B, T, LABELS)
    state = model.init_state(B)
    for t in range(T):
        output, state = step(model, TOKENS[:, t], state)
        assert relative_error(output, logits[:, t]) < AGREEMENT["float64"]
    for leaf, expected in zip(jax.tree.leaves(state), jax.tree.leaves(last), strict=True):
        assert relative_error(leaf, expected) < AGREEMENT["float64"]


@settings(max_examples=6, deadline=None)
@given(cuts=st.sets(st.sampled_from([1, 2, 4]), max_size=2))
def test_pieces_agree_with_the_whole(cuts):
    model = make()
    logits, _ = whole(model, TOKENS)
    state, outputs = None, []
    for piece in np.split(TOKENS, sorted(cuts), axis=1):
        output, state = whole(model, piece, state)
        outputs.append(output)
    assert relative_error(jnp.concatenate(outputs, axis=1), logits) < AGREEMENT["float64"]


def test_output_does_not_see_the_future():
    model = make()
    logits, _ = whole(model, TOKENS)
    other = TOKENS.copy()
    other[:, 3:] = (other[:, 3:] + 1) % VOCABULARY
    changed, _ = whole(model, other)
    np.testing.assert_array_equal(changed[:, :3], logits[:, :3])
    assert (changed[:, 3:] != logits[:, 3:]).all()


def test_tied_weights_have_no_head_of_their_own():
    tied = make(dataclasses.replace(CONFIG, tie_weights=True), output_size=None)
    assert not hasattr(tied, "lm_head")
    assert whole(tied, TOKENS)[0].shape == (B, T, VOCABULARY)
    with pytest.raises(ValueError, match="output_size: got 3, expected vocab_size = 5"):
        make(dataclasses.replace(CONFIG, tie_weights=True))


def test_logits_are_capped():
    model = make(dataclasses.replace(CONFIG, logit_soft_cap=2.0))
    model.lm_head[...] = 1000 * model.lm_head[...]
    logits, _ = whole(model, TOKENS)
    assert 1.9 < jnp.max(jnp.abs(logits)) <= 2.0


def test_low_precision_has_logits_and_state_in_float32():
    model = make(dtype=jnp.bfloat16, param_dtype=jnp.float32)
    logits, state = whole(model, TOKENS)
    assert logits.dtype == jnp.float32
    assert state[0].C.dtype == jnp.float32
    expected, _ = whole(make(param_dtype=jnp.float32), TOKENS)
    assert relative_error(logits, expected) < 0.05
    fresh = model.init_state(B)
    assert jax.tree.map(lambda leaf: leaf.dtype, fresh) == jax.tree.map(
        lambda leaf: leaf.dtype, state
    )


def test_members_by_vmap_over_parameters():
    graph, _ = nnx.split(make())

    def loss(parameters, tokens):
        return jnp.mean(nnx.merge(graph, parameters)(tokens) ** 2)

    states = [nnx.state(make(seed=seed)) for seed in range(3)]
    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    together = fast_jit(jax.vmap(jax.grad(loss), in_axes=(0, None)))(members, TOKENS)
    alone = fast_jit(jax.grad(loss))(jax.tree.map(lambda leaf: leaf[1], members), TOKENS)
    of_one = jax.tree.map(lambda leaf: leaf[1], together)
    for leaf, expected in zip(jax.tree.leaves(of_one), jax.tree.leaves(alone), strict=True):
        assert relative_error(leaf, expected) < GRADIENT_AGREEMENT["float64"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width: got 0"),
        ({"num_blocks": 0}, "num_blocks: got 0"),
        ({"logit_soft_cap": 0.0}, "logit_soft_cap: got 0.0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        SequenceModelConfig(**options)


def test_wrong_inputs():
    model = make()
    with pytest.raises(TypeError, match="tokens: got float32, expected an array of integers"):
        model(jnp.ones((2, 3), jnp.float32))
    with pytest.raises(ValueError, match=r"tokens: got shape \(2,\), expected \[B, T\]"):
        model(TOKENS[:, 0])
    with pytest.raises(ValueError, match=r"tokens: got shape \(2, 6\), expected \[B\]"):
        model.step(TOKENS, model.init_state(B))
    with pytest.raises(ValueError, match="state: got 1 block states, expected 2"):
        model(TOKENS, initial_state=model.init_state(B)[:1])


@pytest.mark.parametrize("length", [T, 12 * VOCABULARY], ids=["positions", "by_token"])
@pytest.mark.parametrize("token", [-1, VOCABULARY])
def test_a_token_of_no_vocabulary_is_refused_where_it_is_known_and_reads_nan_elsewhere(
    token, length
):
    model = make()
    tokens = jnp.zeros((B, length), jnp.int32).at[0, 2].set(token)
    with pytest.raises(ValueError, match=r"tokens: got .*, expected 0 to 4"):
        model(tokens)
    with pytest.raises(ValueError, match=r"tokens: got .*, expected 0 to 4"):
        jax.jit(lambda: model(tokens))()  # a constant of the program
    logits, _ = whole(model, tokens)
    assert np.isfinite(logits[0, :2]).all()
    assert np.isfinite(logits[1]).all()
    assert np.isnan(logits[0, 2:]).all()
    logits, _ = step(model, tokens[:, 2], model.init_state(B))
    assert np.isnan(logits[0]).all()
    assert np.isfinite(logits[1]).all()
