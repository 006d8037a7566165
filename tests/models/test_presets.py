import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx

from plstm_seq.layers.transition import (
    Bounded,
    Diagonal,
    Factorized,
    HouseholderProduct,
    Orthogonal,
)
from plstm_seq.models import SequenceModel, state_tracking

TRANSITIONS = {
    "orthogonal": Orthogonal(dim=2),
    "householder": HouseholderProduct(dim=3),
    "bounded": Bounded(dim=2),
    "factorized": Factorized(dim=5),
    "scalar": Diagonal(dim=1),
}


@pytest.mark.parametrize("transition", TRANSITIONS.values(), ids=TRANSITIONS.keys())
def test_state_tracking_starts_ready_to_learn(transition):
    config = state_tracking(transition)
    model = fast_jit(lambda: SequenceModel(6, config, rngs=nnx.Rngs(0)))()
    mixer = model.blocks[0].mixer
    x = jax.random.normal(jax.random.key(1), (3, config.width))

    @fast_jit
    def gates(mixer, x):
        return mixer.source(x), mixer.mark(x)

    source, mark = gates(mixer, x)
    assert jnp.max(source) < 0.01
    assert np.abs(mark[:, :, :, 0] - np.eye(transition.dim)).max() < 0.6
    assert jnp.std(mixer.init_state(1).C) > 0.5
    logits = fast_jit(lambda model, tokens: model(tokens))(model, jnp.arange(6)[None])
    assert jnp.isfinite(logits).all()
