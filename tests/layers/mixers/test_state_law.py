"""What every mixer promises, for every kind: state, types, errors, the same for members."""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import pytest
from fast_compile import fast_jit
from flax import nnx
from golden import relative_error
from small_mixers import WIDTH, B, T, mixer_inputs, small_mixer
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.layers import ConvolutionConfig, PLSTM1DConfig
from plstm_seq.layers.mixers import (
    AttentionConfig,
    BaselineConfig,
    DeltaNetConfig,
    DiagonalConfig,
    GatedLinearAttentionConfig,
    GRUConfig,
    LSTMConfig,
    MixerConfig,
    PDConfig,
    RNNConfig,
    SliceConfig,
)
from plstm_seq.layers.transition import Orthogonal

CONFIGS = {
    "plstm_1d": PLSTM1DConfig(
        num_heads=2, transition=Orthogonal(dim=2), implementation="recurrent"
    ),
    "attention": AttentionConfig(num_heads=2),
    "lstm": LSTMConfig(convolution=ConvolutionConfig(kernel_size=3)),
    "gru": GRUConfig(hidden_dim=5),
    "rnn": RNNConfig(),
    "diagonal": DiagonalConfig(convolution=ConvolutionConfig(kernel_size=2)),
    "diagonal, complex": DiagonalConfig(entries="complex", state_dim=6),
    "gated_linear_attention": GatedLinearAttentionConfig(num_heads=2, gate_rank=3),
    "delta_net": DeltaNetConfig(num_heads=2),
    "delta_net, gated products": DeltaNetConfig(num_heads=2, gate=True, num_reflections=2),
    "slice": SliceConfig(drive=True, implementation="recurrent"),
    "slice, dense": SliceConfig(block_size=None, state_dim=9),
    "pd": PDConfig(dictionary_size=3),
    "pd, real": PDConfig(factors="real", state_dim=4),
}
every_kind = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def test_every_kind_is_tested():
    kinds = {config.kind for config in CONFIGS.values()}
    assert kinds == {
        next(f.default for f in dataclasses.fields(cls) if f.name == "kind")
        for cls in typing.get_args(MixerConfig)
    }


@every_kind
def test_whole_pieces_and_steps_agree(config):
    mixer = small_mixer(config)

    @fast_jit
    def in_three_ways(mixer, x):
        whole = mixer(x, initial_state=None, return_state=True)
        state, outputs = mixer.init_state(B), []
        for piece in (x[:, :1], x[:, 1:4], x[:, 4:]):
            y, state = mixer(piece, initial_state=state, return_state=True)
            outputs.append(y)
        pieces = jnp.concatenate(outputs, axis=1), state
        state, outputs = mixer.init_state(B), []
        for t in range(T):
            y, state = mixer.step(x[:, t], state)
            outputs.append(y)
        return whole, pieces, (jnp.stack(outputs, axis=1), state)

    whole, *others = in_three_ways(mixer, mixer_inputs())
    assert whole[0].shape == (B, T, WIDTH)
    for other in others:
        assert jax.tree.structure(other) == jax.tree.structure(whole)
        for leaf, expected in zip(jax.tree.leaves(other), jax.tree.leaves(whole), strict=True):
            assert relative_error(leaf, expected) < AGREEMENT["float64"]
    if mixer.bounded_state:
        fresh = mixer.init_state(B)
        for leaf, last in zip(jax.tree.leaves(fresh), jax.tree.leaves(whole[1]), strict=True):
            assert (leaf.shape, leaf.dtype) == (last.shape, last.dtype)


@pytest.mark.slow
@every_kind
def test_what_is_not_finite_goes_where_steps_take_it(config):
    """Outputs and the gradient of the inputs; NaN as an input, and as a cotangent."""
    mixer = small_mixer(config)

    def whole(x):
        return mixer(x)

    def in_steps(x):
        state, outputs = mixer.init_state(B), []
        for t in range(T):
            y, state = mixer.step(x[:, t], state)
            outputs.append(y)
        return jnp.stack(outputs, axis=1)

    @fast_jit
    def both_ways(x, bar):
        results = [jax.vjp(way, x) for way in (whole, in_steps)]
        return [(y, *backward(bar)) for y, backward in results]

    x, ones = mixer_inputs(), jnp.ones((B, T, WIDTH))
    bad = (0, 3, 1)
    for value in (jnp.nan, jnp.inf):
        for arguments in ((x.at[bad].set(value), ones), (x, ones.at[bad].set(value))):
            got, expected = both_ways(*arguments)
            for found, wanted in zip(got, expected, strict=True):
                finite = jnp.isfinite(wanted)
                assert (jnp.isfinite(found) == finite).all()
                found, wanted = (jnp.where(finite, x, 0) for x in (found, wanted))
                assert relative_error(found, wanted) < GRADIENT_AGREEMENT["float64"]


@every_kind
def test_low_precision_keeps_the_state_in_float32(config):
    mixer = small_mixer(config, dtype=jnp.bfloat16, param_dtype=jnp.float32)
    x = jax.ShapeDtypeStruct((B, T, WIDTH), jnp.bfloat16)

    def run(x):
        return mixer(x, initial_state=None, return_state=True)

    y, state = jax.eval_shape(run, x)
    assert y.dtype == jnp.bfloat16
    types = {leaf.dtype for leaf in jax.tree.leaves(getattr(state, "memory", ()))}
    assert types <= {jnp.dtype(jnp.float32)}
    fresh = jax.eval_shape(lambda: mixer.init_state(B))
    assert [leaf.dtype for leaf in jax.tree.leaves(fresh)] == [
        leaf.dtype for leaf in jax.tree.leaves(state)
    ]


def test_gates_are_made_in_float32():
    """What a memory without a drive holds depends on transitions alone."""
    run = fast_jit(lambda mixer, x: mixer(x, initial_state=None, return_state=True)[1].memory)
    short, expected = (
        run(
            small_mixer(CONFIGS["slice, dense"], dtype=dtype, param_dtype=jnp.float32),
            mixer_inputs().astype(jnp.bfloat16),
        )
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    assert relative_error(short, expected) < AGREEMENT["float32"]


@pytest.mark.parametrize("kind", ["diagonal, complex", "delta_net, gated products", "pd", "lstm"])
def test_members_by_vmap_of_the_gradient(kind):
    mixer = small_mixer(CONFIGS[kind])
    graph, parameters = nnx.split(mixer)
    x = mixer_inputs()

    def loss(parameters):
        return jnp.sum(nnx.merge(graph, parameters)(x) ** 2)

    members = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), parameters)
    together = fast_jit(jax.vmap(jax.grad(loss)))(members)
    alone = fast_jit(jax.grad(loss))(parameters)
    for leaf, expected in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        assert relative_error(leaf[0], expected) < GRADIENT_AGREEMENT["float64"]
        assert jnp.abs(expected).max() > 0


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (AttentionConfig, {"num_heads": 0}, "num_heads: got 0"),
        (AttentionConfig, {"position": "learned"}, "position: got 'learned'"),
        (AttentionConfig, {"rope_base": 1.0}, "rope_base: got 1.0"),
        (LSTMConfig, {"hidden_dim": 0}, "hidden_dim: got 0"),
        (DiagonalConfig, {"entries": "real"}, "entries: got 'real'"),
        (DiagonalConfig, {"eigenvalue_factor": 0.0}, "eigenvalue_factor: got 0.0"),
        (GatedLinearAttentionConfig, {"gate_temperature": 0.0}, "gate_temperature: got 0.0"),
        (DeltaNetConfig, {"beta_max": 3.0}, r"beta_max: got 3.0, expected in \(0, 2\]"),
        (DeltaNetConfig, {"num_reflections": 0}, "num_reflections: got 0"),
        (SliceConfig, {"block_size": 0}, "block_size: got 0"),
        (SliceConfig, {"transition_scale": 0.0}, "transition_scale: got 0.0"),
        (PDConfig, {"factors": "signed"}, "factors: got 'signed'"),
        (PDConfig, {"dictionary_size": 0}, "dictionary_size: got 0"),
    ],
)
def test_wrong_options(cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(**options)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (AttentionConfig(num_heads=3), "input_dim, where head_dim is None,: got 8"),
        (AttentionConfig(head_dim=3), "head_dim: got 3, expected an even number"),
        (SliceConfig(block_size=3), "state_dim: got 8, expected a multiple of block_size = 3"),
    ],
)
def test_sizes_that_do_not_fit(config, message):
    with pytest.raises(ValueError, match=message):
        small_mixer(config)


def test_unknown_config():
    with pytest.raises(TypeError, match="mixer: got BaselineConfig, expected one of PLSTM1DConfig"):
        small_mixer(BaselineConfig())  # pyright: ignore[reportArgumentType]


def test_wrong_inputs():
    mixer = small_mixer(CONFIGS["gru"])
    with pytest.raises(ValueError, match=r"x: got shape \(2, 7\), expected \[B, T, 8\]"):
        mixer(jnp.ones((2, 7)))
    with pytest.raises(ValueError, match=r"x: got shape \(2, 6, 8\), expected \[B, 8\]"):
        mixer.step(mixer_inputs(), mixer.init_state(B))
    with pytest.raises(ValueError, match="batch_size: got 0"):
        mixer.init_state(0)
    with pytest.raises(ValueError, match=r"state.memory: got shape \(3, 5\), expected \[2, 5\]"):
        mixer(mixer_inputs(), initial_state=mixer.init_state(3))
    other = small_mixer(CONFIGS["lstm"])
    with pytest.raises(ValueError, match="state: got PyTreeDef"):
        mixer(mixer_inputs(), initial_state=other.init_state(B))
