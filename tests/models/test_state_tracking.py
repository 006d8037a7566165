import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx

from plstm_seq.layers.transition import Diagonal, HouseholderProduct, Orthogonal
from plstm_seq.models import SequenceModel, state_tracking

TRANSITIONS = {
    "orthogonal": Orthogonal(dim=2),
    "householder": HouseholderProduct(dim=3),
    "scalar": Diagonal(dim=1),
}


@pytest.mark.parametrize("transition", TRANSITIONS.values(), ids=TRANSITIONS.keys())
def test_state_tracking_starts_ready_to_learn(transition):
    config = state_tracking(transition, width=16)

    @fast_jit
    def start(key, x, tokens):
        model = SequenceModel(6, config, rngs=nnx.Rngs(key))
        mixer = model.blocks[0].mixer
        return mixer.source(x), mixer.mark(x), mixer.init_state(1).C, model(tokens)

    x = np.random.default_rng(0).normal(size=(3, config.width)).astype(np.float32)
    source, mark, C, logits = start(jax.random.key(0), x, jnp.arange(6)[None])
    assert jnp.max(source) < 0.01
    assert np.abs(mark[:, :, :, 0] - np.eye(transition.dim)).max() < 0.6
    assert jnp.std(C) > 0.5
    assert jnp.isfinite(logits).all()
