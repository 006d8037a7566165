import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from golden import relative_error
from random_parameters import randomised
from tolerances import AGREEMENT

from plstm_seq.layers import NormConfig, PLSTM1DConfig
from plstm_seq.layers.transition import Orthogonal
from plstm_seq.models import PostUpBlock, PostUpConfig, PreUpBlock, PreUpConfig, make_block
from plstm_seq.models.blocks import inner_dim

MIXER = PLSTM1DConfig(num_heads=2, transition=Orthogonal(dim=2), implementation="recurrent")
CONFIGS = {
    "pre-up": PreUpConfig(projection_round=8),
    "pre-up, bare": PreUpConfig(projection_round=8, gated=False, bias=False, skip=False, norm=None),
    "post-up": PostUpConfig(projection_round=8),
    "post-up, gated": PostUpConfig(
        projection_round=8, gated=True, gating_function="silu", use_scale=True
    ),
    "post-up, bare": PostUpConfig(projection_round=8, bias=False, skip=False, norm=None),
    "post-up, layer norm": PostUpConfig(projection_round=8, norm=NormConfig(kind="layer")),
}
X = np.random.default_rng(0).normal(size=(2, 5, 8))


def make(config):
    return randomised(
        lambda: make_block(8, config, MIXER, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    )


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_pieces_and_steps_agree_with_the_whole(config):
    block = make(config)
    run = fast_jit(lambda block, x, state: block(x, initial_state=state, return_state=True))
    step = fast_jit(lambda block, x, state: block.step(x, state))
    y, _ = run(block, X, None)
    assert y.shape == X.shape

    first, state = run(block, X[:, :3], block.init_state(2))
    second, state_after = run(block, X[:, 3:], state)
    assert relative_error(jnp.concatenate([first, second], axis=1), y) < AGREEMENT["float64"]
    for t in (3, 4):
        output, state = step(block, X[:, t], state)
        assert relative_error(output, y[:, t]) < AGREEMENT["float64"]
    assert relative_error(state.C, state_after.C) < AGREEMENT["float64"]
    assert block.bounded_state


@pytest.mark.parametrize(
    ("config", "inner"),
    [
        (PreUpConfig(), 64),
        (PreUpConfig(projection_scaling=3.0), 128),
        (PreUpConfig(projection_scaling=8 / 3, projection_round=8), 88),
        (PostUpConfig(projection_round=1), 128),
    ],
)
def test_inner_features_are_rounded_up(config, inner):
    assert inner_dim(config, 32) == inner


def test_kinds():
    shapes = jax.eval_shape(
        lambda: nnx.state(make_block(8, PreUpConfig(), MIXER, rngs=nnx.Rngs(0)))
    )
    assert shapes["upproj"]["kernel"].shape == (8, 128)
    assert isinstance(make(CONFIGS["pre-up"]), PreUpBlock)
    assert isinstance(make(CONFIGS["post-up"]), PostUpBlock)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projection_scaling": 0.0}, "projection_scaling: got 0.0"),
        ({"projection_round": 0}, "projection_round: got 0"),
        ({"gating_function": "relu"}, "gating_function: got 'relu'"),
    ],
)
@pytest.mark.parametrize("kind", [PreUpConfig, PostUpConfig])
def test_wrong_options(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)
