"""The 2D layer: its gates, its orientations, and what it refuses; published numbers elsewhere."""

import dataclasses
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from golden import relative_error
from random_parameters import randomised
from tolerances import AGREEMENT

from plstm_seq.layers import GateConfig
from plstm_seq.layers.grid import GridConvolutionConfig, PLSTM2DConfig, PLSTM2DLayer
from plstm_seq.layers.grid.plstm_2d import GridBranch
from plstm_seq.layers.transition import Orthogonal

GATE = GateConfig(weight=True)
SMALL = PLSTM2DConfig(
    num_heads=2,
    source=GATE,
    mark=GATE,
    direct=GATE,
    transition=Orthogonal(dim=2),
    implementation="recurrent",
)
X = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
run = fast_jit(lambda layer, x: layer(x))
inputs_of = fast_jit(lambda layer, x: layer.op_inputs(x))


def make(mode="P", config=SMALL, seed=0, **changes):
    config = dataclasses.replace(config, **changes)
    return randomised(
        lambda: PLSTM2DLayer(
            8, config, mode=mode, dtype=jnp.float64, param_dtype=jnp.float64, rngs=nnx.Rngs(0)
        ),
        seed,
    )


def alike_in_all_orientations(layer):
    """Gives each gate the parameters of orientation 0."""
    heads = layer.sizes.H

    def first(path, variable):
        array = variable[...]
        if array.shape[0] == 4 * heads:
            array = jnp.tile(array[:heads], (4, *[1] * (array.ndim - 1)))
        elif path[-2] == "orientation":
            array = jnp.broadcast_to(array[:1], array.shape)
        return path, variable.replace(array)

    flat = [first(*entry) for entry in nnx.to_flat_state(nnx.state(layer, nnx.Param))]
    nnx.update(layer, nnx.from_flat_state(flat))
    return layer


def test_p_mode_shares_out_what_came_in():
    """The two transitions out of an edge sum to one of norm 1, and the sources to the source."""
    layer = make()
    gates = inputs_of(layer, X)
    np.testing.assert_array_equal(gates.transition_rl, gates.transition_ru)
    np.testing.assert_array_equal(gates.transition_du, gates.transition_dl)
    total = gates.transition_rl + gates.transition_dl
    norms = jnp.linalg.norm(total, ord=2, axis=(-2, -1))
    assert gates.transition_rl.shape == (2, 2, 4, 3, 4, 2, 2)
    np.testing.assert_allclose(norms, 1, rtol=1e-10)
    source = layer._by_orientation(layer.source(jnp.asarray(X)))
    assert relative_error(gates.source_right + gates.source_down, source) < AGREEMENT["float64"]


def test_p_mode_published_form():
    gates = inputs_of(make(p_form="published"), X)
    np.testing.assert_allclose(gates.transition_dl, 1 - gates.transition_rl)
    np.testing.assert_allclose(gates.source_down, 1 - gates.source_right)


def test_orientation_gate_follows_its_formula():
    layer = make(orientation_scale=0.7)
    gate = layer.orientation
    logits = gate.bias[...] + 0.7 / 8 * jnp.einsum("ohi,...i->...oh", gate.weight[...], X)
    expected = jax.nn.sigmoid(logits).reshape(*X.shape[:3], -1)
    assert relative_error(gate(jnp.asarray(X)), expected) < AGREEMENT["float64"]


def test_orientation_gates_start_spread_over_the_heads():
    layer = PLSTM2DLayer(12, PLSTM2DConfig(num_heads=3), rngs=nnx.Rngs(0))
    np.testing.assert_allclose(layer.orientation.bias[...], [[-2, 0, 2]] * 4)
    assert not jnp.any(layer.orientation.weight[...])


@pytest.mark.parametrize(("chirality", "missing"), [("L", "dl"), ("R", "ru")])
def test_d_mode_leaves_one_turn_out(chirality, missing):
    gates = inputs_of(make("D", chirality=chirality), X)._asdict()
    assert [name for name, gate in gates.items() if gate is None] == [f"transition_{missing}"]


@pytest.mark.parametrize("mode", ["P", "D"])
@pytest.mark.parametrize("axis", [1, 2], ids=["X", "Y"])
def test_a_flipped_grid_gives_the_flipped_output(mode, axis):
    """With gates that are alike in all orientations there is no other direction left."""
    layer = alike_in_all_orientations(make(mode))
    y = run(layer, X)
    assert relative_error(run(layer, np.flip(X, axis)), jnp.flip(y, axis)) < AGREEMENT["float64"]


@pytest.mark.parametrize("orientation", range(4))
def test_an_orientation_reads_from_its_corner(orientation):
    """Bit 0 reads X, the first axis, from its end, bit 1 reads Y."""
    layer = make("P", orientations=(orientation,))
    changed = X.copy()
    changed[:, 1, 2] += 1
    reached = jnp.any(run(layer, X) != run(layer, changed), axis=(0, 3))
    rows, columns = np.indices((3, 4))
    after = rows <= 1 if orientation & 1 else rows >= 1
    after &= columns <= 2 if orientation & 2 else columns >= 2
    np.testing.assert_array_equal(reached, after)


def test_the_sum_over_orientations_is_that_of_separate_passes():
    fused = make(norm=None, direct=None, outprojection=False)
    apart = make(norm=None, direct=None, outprojection=False, norm_of="orientation")
    assert relative_error(run(fused, X), 4 * run(apart, X)) < AGREEMENT["float64"]


def test_normed_apart_is_the_mean_over_layers_of_one_orientation():
    both = make(orientations=(0, 3), norm_of="orientation", outprojection=False)
    total = 0.0
    for index, orientation in enumerate((0, 3)):
        one = make(orientations=(orientation,), outprojection=False)
        flat = dict(nnx.to_flat_state(nnx.state(both, nnx.Param)))
        ours = [
            (path, variable.replace(part_of(flat[path][...], variable.shape, index)))
            for path, variable in nnx.to_flat_state(nnx.state(one, nnx.Param))
        ]
        nnx.update(one, nnx.from_flat_state(ours))
        total += run(one, X)
    assert relative_error(run(both, X), total / 2) < AGREEMENT["float64"]


def part_of(array, shape, index):
    """The gates of one of the orientations, for a parameter of `shape` of one alone."""
    if array.shape == shape:
        return array
    return array.reshape(-1, *shape)[index]


@pytest.mark.parametrize("mode", ["P", "D"])
def test_implementations_agree(mode):
    layer = make(mode, implementation="parallel", passthrough=True)
    truth = make(mode, passthrough=True)
    assert relative_error(run(layer, X), run(truth, X)) < AGREEMENT["float64"]


def test_gate_orders():
    """Gate n is that of orientation n // H and head n % H, or of head n // 4, orientation n % 4."""
    gate = GateConfig(weight=True, sub_heads=8)
    layer = make("D", source=gate, gate_order="orientation")
    flat = layer.source_right(jnp.asarray(X))
    ours = inputs_of(layer, X).source_right
    np.testing.assert_array_equal(ours[:, 1, 3], flat[:, :, :, 3 * 2 + 1])
    ours = inputs_of(make("D", source=gate, gate_order="head"), X).source_right
    np.testing.assert_array_equal(ours[:, 1, 3], flat[:, :, :, 1 * 4 + 3])


@pytest.mark.parametrize("convolved", [True, False], ids=["all", "none"])
def test_convolution_feeds_the_chosen_branches(convolved):
    branches = get_args(GridBranch) if convolved else ()
    options = dict(convolution=GridConvolutionConfig(), convolution_inputs=branches)
    layer, plain = make(passthrough=True, **options), make(passthrough=True)
    flat = nnx.to_flat_state(nnx.state(layer, nnx.Param))
    nnx.update(plain, nnx.from_flat_state([x for x in flat if x[0][0] != "convolution"]))
    x = layer.convolution(jnp.asarray(X)) if convolved else X
    assert relative_error(run(layer, X), run(plain, x)) < AGREEMENT["float64"]


def test_bfloat16_keeps_gates_in_float32():
    layer = PLSTM2DLayer(8, SMALL, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    gates = inputs_of(layer, X.astype(np.float32))
    assert gates.query.dtype == jnp.bfloat16
    assert gates.transition_rl.dtype == gates.source_right.dtype == jnp.float32
    y = run(layer, X.astype(np.float32))
    exact = run(PLSTM2DLayer(8, SMALL, rngs=nnx.Rngs(0)), X.astype(np.float32))
    assert y.dtype == jnp.bfloat16
    assert relative_error(y.astype(jnp.float32), exact) < 3 * AGREEMENT["bfloat16"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orientations": (0, 4)}, "orientations: got"),
        ({"orientations": ()}, "orientations: got"),
        ({"p_form": "exact"}, "p_form: got 'exact'"),
        ({"chirality": "l"}, "chirality: got 'l'"),
        ({"norm_of": "head"}, "norm_of: got 'head'"),
        ({"gate_order": "H"}, "gate_order: got 'H'"),
        ({"convolution_inputs": ("gate",)}, "convolution_inputs: got"),
        ({"tie_query_key": True, "JQ": 2}, "tie_query_key: got JQ = 2"),
        ({"num_heads": 3}, "expected a multiple of num_heads"),
        ({"outprojection": False, "DV": 3}, "passthrough"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        make(passthrough=True, **changes)


def test_refuses_modes_and_shapes():
    with pytest.raises(ValueError, match="mode: got 'PD'"):
        make("PD")
    with pytest.raises(ValueError, match=r"x: got shape \(3, 4, 8\)"):
        make()(jnp.asarray(X[0]))
