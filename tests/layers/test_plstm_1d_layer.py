"""The 1D layer against a plain loop, in pieces, step by step, and with every option."""

import dataclasses
import functools

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
from tolerances import AGREEMENT

from plstm_seq.layers import (
    ConvolutionConfig,
    GateConfig,
    HeadProjectionConfig,
    PLSTM1DConfig,
    PLSTM1DLayer,
)
from plstm_seq.layers.initializers import Normal
from plstm_seq.layers.transition import Factorized, Orthogonal

B, T, WIDTH = 2, 7, 8
TOLERANCE = AGREEMENT["float64"]

GATE = GateConfig(weight=True, activation="tanh", bias_init=Normal(), weight_init=Normal())
BASE = PLSTM1DConfig(
    num_heads=2,
    transition=Orthogonal(dim=2, generator_bias_init=Normal(), generator_weight_init=Normal()),
    source=GATE,
    mark=GATE,
    direct=GATE,
    implementation="recurrent",
)
CONFIGS = {
    "base": BASE,
    "no convolution": dataclasses.replace(BASE, convolution=None),
    "kernel of one": dataclasses.replace(BASE, convolution=ConvolutionConfig(kernel_size=1)),
    "convolves the value alone": dataclasses.replace(BASE, convolution_inputs=("value",)),
    "JV is not JO": dataclasses.replace(BASE, JV=1, JO=3),
    "JK and JQ": dataclasses.replace(BASE, JK=2, JQ=3, DK=3, sub_heads=1),
    "no norm": dataclasses.replace(BASE, norm=None),
    "no passthrough": dataclasses.replace(BASE, passthrough=False),
    "no out projection": dataclasses.replace(BASE, outprojection=False),
    "no direct term": dataclasses.replace(BASE, direct=None),
    "tied": dataclasses.replace(BASE, tie_query_key=True),
    "l2": dataclasses.replace(BASE, key=HeadProjectionConfig(normalization="l2")),
    "learned initial state": dataclasses.replace(BASE, learned_initial_state=True),
    "mark reads after": dataclasses.replace(BASE, mark_reads="after"),
    "mark reads after, no direct term": dataclasses.replace(BASE, mark_reads="after", direct=None),
    "no source": dataclasses.replace(
        BASE, source=None, direct=None, mark_reads="after", learned_initial_state=True
    ),
    "no source, direct term": dataclasses.replace(BASE, source=None, learned_initial_state=True),
    "bias only": dataclasses.replace(
        BASE, source=GateConfig(), mark=GateConfig(), direct=GateConfig()
    ),
    "scalar transition": dataclasses.replace(BASE, transition=Factorized(dim=1), JV=2, JO=2),
    "chunkwise": dataclasses.replace(BASE, implementation="chunkwise", chunk_size=4),
}
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


@functools.cache
def make(config: PLSTM1DConfig, **options) -> PLSTM1DLayer:
    options = {"param_dtype": jnp.float64, **options}
    return randomised(lambda: PLSTM1DLayer(WIDTH, config, **options, rngs=nnx.Rngs(0)))


def inputs(length: int = T, dtype=jnp.float64) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(B, length, WIDTH)), dtype)


def branches(layer: PLSTM1DLayer, x: jax.Array):
    """What the layer's modules make of the input: q, k, v, source, mark, direct, transition."""
    config = layer.config
    convolved = x if layer.conv is None else layer.conv(x)[0]
    branch = {
        name: convolved if name in config.convolution_inputs else x
        for name in ("source", "transition", "mark", "direct", "query", "key", "value")
    }
    lead, (heads, dk, dv, jk, _, jv, jt, _) = x.shape[:2], layer.sizes
    key = layer.query if config.tie_query_key else layer.key
    # Where nothing is written, whatever would be is of no effect.
    k = jnp.ones((*lead, heads, dk, jk)) if key is None else key(branch["key"])
    v = jnp.ones((*lead, heads, dv, jv)) if layer.value is None else layer.value(branch["value"])
    no_source = jnp.zeros((*lead, heads, jt, jk, jv))
    s = no_source if layer.source is None else layer.source(branch["source"])
    q, m = layer.query(branch["query"]), layer.mark(branch["mark"])
    d = None if layer.direct is None else layer.direct(branch["direct"])
    return q, k, v, s, m, d, layer.transition(branch["transition"])


def finish(layer: PLSTM1DLayer, y: jax.Array, x: jax.Array):
    """What follows the recurrence, [B, T, H, DV, JO] to [B, T, O]."""
    y = y.reshape(*y.shape[:3], -1)
    y = (y if layer.mhnorm is None else layer.mhnorm(y)).reshape(*x.shape[:2], -1)
    y = y if layer.outprojection is None else layer.outprojection(y)
    if layer.passthrough is None:
        return y
    convolves = layer.conv is not None and "passthrough" in layer.config.convolution_inputs
    return y + layer.passthrough(layer.conv(x)[0] if convolves else x)


def plain_loop(layer: PLSTM1DLayer, x: jax.Array) -> jax.Array:
    """The layer's definition, one step after another, reading C_{t-1} or C_t as it says."""
    q, k, v, s, m, d, transition = jax.tree.map(np.asarray, branches(layer, x))
    C = np.asarray(layer.init_state(x.shape[0]).C)
    outputs = []
    for t in range(x.shape[1]):
        written = np.einsum("bhiaw,bhka,bhvw->bhkvi", s[:, t], k[:, t], v[:, t])
        after = np.einsum("bhij,bhkvj->bhkvi", transition[:, t], C) + written
        read = C if layer.config.mark_reads == "before" else after
        y = np.einsum("bhoqi,bhkq,bhkvi->bhvo", m[:, t], q[:, t], read)
        if d is not None:
            y += np.einsum("bhoqaw,bhkq,bhka,bhvw->bhvo", d[:, t], q[:, t], k[:, t], v[:, t])
        outputs.append(y * layer.sizes.DK**-0.5)
        C = after
    return finish(layer, jnp.asarray(np.stack(outputs, axis=1)), x)


@fast_jit
def whole(layer: PLSTM1DLayer, x, state=None):
    return layer(x, initial_state=state, return_state=True)


@fast_jit
def step(layer: PLSTM1DLayer, x, state):
    return layer.step(x, state)


@each_config
def test_agrees_with_a_plain_loop(config):
    layer = make(config)
    y, state = whole(layer, inputs())
    assert y.shape == (B, T, layer.output_dim)
    assert relative_error(y, plain_loop(layer, inputs())) < TOLERANCE
    assert (state.position == T).all()


@each_config
def test_steps_agree_with_the_whole(config):
    layer = make(config)
    x = inputs()
    y, last = whole(layer, x)
    state, outputs = layer.init_state(B), []
    for t in range(T):
        output, state = step(layer, x[:, t], state)
        outputs.append(output)
    assert relative_error(jnp.stack(outputs, axis=1), y) < TOLERANCE
    assert jax.tree.structure(state) == jax.tree.structure(last)
    for leaf, expected in zip(jax.tree.leaves(state), jax.tree.leaves(last), strict=True):
        assert leaf.dtype == expected.dtype
        assert relative_error(leaf, expected) < TOLERANCE


@settings(max_examples=12, deadline=None)
@given(cuts=st.sets(st.sampled_from([1, 3, 4, 6])), name=st.sampled_from(["base", "chunkwise"]))
def test_pieces_agree_with_the_whole(cuts, name):
    layer = make(dataclasses.replace(CONFIGS[name], learned_initial_state=True))
    x = inputs()
    y, last = whole(layer, x)
    state, outputs = None, []
    for piece in jnp.split(x, sorted(cuts), axis=1):
        output, state = whole(layer, piece, state)
        outputs.append(output)
    assert relative_error(jnp.concatenate(outputs, axis=1), y) < TOLERANCE
    assert relative_error(state.C, last.C) < TOLERANCE
    assert relative_error(state.convolution, last.convolution) < TOLERANCE
    assert (state.position == T).all()


def test_without_a_source_nothing_is_written_and_no_parameter_is_idle():
    layer = make(CONFIGS["no source"])
    assert layer.source is None
    assert layer.key is None
    assert layer.value is None
    written = layer.op_inputs(inputs())
    assert written.value.shape[-1] == 1  # JV: what is never read is as small as can be
    for name in ("source", "key", "value"):
        assert not getattr(written, name).any()
    graph, state = nnx.split(layer)
    gradient = jax.grad(lambda state: nnx.merge(graph, state)(inputs()).var())(state)
    assert all(leaf.any() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("length", [1, 3, 13])
def test_any_length(length):
    """A padded tail enters neither outputs nor state, with convolution and passthrough on."""
    layer = make(dataclasses.replace(BASE, implementation="chunkwise", chunk_size=4))
    y, state = whole(layer, inputs(length))
    expected, expected_state = whole(make(BASE), inputs(length))
    assert relative_error(y, expected) < TOLERANCE
    assert relative_error(state.C, expected_state.C) < TOLERANCE


def test_the_learned_initial_state_is_the_state_before_the_first_step():
    layer = make(CONFIGS["learned initial state"])
    fresh = layer.init_state(B)
    assert fresh.C.shape == (B, 2, 4, 2, 2)
    np.testing.assert_array_equal(fresh.C[1], layer.initial_state[...])
    y, _ = whole(layer, inputs())
    np.testing.assert_array_equal(y, whole(layer, inputs(), fresh)[0])
    zero = dataclasses.replace(fresh, C=jnp.zeros_like(fresh.C))
    assert relative_error(whole(layer, inputs(), zero)[0], y) > 1e-3


def test_output_size():
    wide = dataclasses.replace(BASE, passthrough=False)
    assert whole(make(wide, output_dim=5), inputs())[0].shape == (B, T, 5)
    bare = dataclasses.replace(wide, outprojection=False, DV=3)
    assert make(bare).output_dim == 2 * 3 * 2


@pytest.mark.parametrize("transition", [Orthogonal(dim=2), Factorized(dim=2)])
def test_low_precision_keeps_gates_and_state_in_float32(transition):
    config = dataclasses.replace(BASE, transition=transition, DV=2)
    low = make(config, dtype=jnp.bfloat16, param_dtype=jnp.float32)
    high = make(config, param_dtype=jnp.float32)
    y, state = whole(low, inputs(dtype=jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    assert state.C.dtype == jnp.float32
    assert state.convolution.dtype == jnp.bfloat16
    assert low.transition(inputs(dtype=jnp.bfloat16)).dtype == jnp.float32
    expected, _ = whole(high, inputs(dtype=jnp.float32))
    assert relative_error(y, expected) < 0.05
    fresh = low.init_state(B)
    assert jax.tree.map(jnp.result_type, fresh) == jax.tree.map(jnp.result_type, state)


def test_types_follow_input_and_parameters():
    layer = make(BASE, param_dtype=jnp.float32)

    def output_type(dtype):
        return jax.eval_shape(layer, inputs(dtype=dtype)).dtype

    assert output_type(jnp.float32) == jnp.float32
    assert output_type(jnp.bfloat16) == jnp.float32
    assert output_type(jnp.float64) == jnp.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 0}, "num_heads: got 0"),
        ({"JK": 0}, "JK: got 0"),
        ({"source": None}, "source: got None, expected a gate unless learned_initial_state"),
        ({"mark_reads": "now"}, "mark_reads: got 'now'"),
        ({"convolution_inputs": ("source", "S")}, r"convolution_inputs: got \['S'\]"),
        ({"tie_query_key": True, "JK": 2}, "tie_query_key: got JQ = 1 and JK = 2"),
        ({"num_heads": 3}, "input_dim, where DK is None,: got 8"),
        ({"JV": 3}, "input_dim, where DV is None,: got 8"),
        ({"sub_heads": 3}, "input_dim: got 8, expected a multiple of sub_heads = 3"),
        ({"implementation": "magic"}, "implementation"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        whole(make(dataclasses.replace(BASE, **options)), inputs())


def test_wrong_output_size():
    with pytest.raises(ValueError, match="output_dim: got 5, expected input_dim = 8"):
        make(BASE, output_dim=5)
    bare = dataclasses.replace(BASE, outprojection=False, passthrough=False)
    with pytest.raises(ValueError, match=r"output_dim: got 5, expected H \* DV \* JO = 8"):
        make(bare, output_dim=5)


def test_wrong_inputs():
    layer = make(BASE)
    with pytest.raises(ValueError, match=r"x: got shape \(2, 7\), expected \[B, T, 8\]"):
        layer(jnp.ones((2, 7)))
    with pytest.raises(ValueError, match=r"x: got shape \(2, 7, 8\), expected \[B, 8\]"):
        layer.step(inputs(), layer.init_state(B))
    with pytest.raises(ValueError, match="batch_size: got 0"):
        layer.init_state(0)
    fresh = layer.init_state(B)
    smaller = dataclasses.replace(fresh, C=fresh.C[:, :1])
    with pytest.raises(ValueError, match=r"state.C: got shape \(2, 1, 4, 2, 2\), expected \(2, 2"):
        layer(inputs(), initial_state=smaller)
    without = dataclasses.replace(fresh, convolution=None)
    with pytest.raises(ValueError, match=r"state.convolution: got shape None, expected \(2, 3, 8"):
        layer.step(inputs()[:, 0], without)
