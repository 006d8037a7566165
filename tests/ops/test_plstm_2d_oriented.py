"""Several orientations at once against `plstm_2d` for one after another."""

import jax
import jax.numpy as jnp
import pytest
from fast_compile import fast_jit
from golden import relative_error
from op_2d import make
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.ops import plstm_2d, plstm_2d_oriented
from plstm_seq.ops.grid import chunkwise
from plstm_seq.ops.grid.inputs import GATES, Inputs


def oriented(count, *grid, **options):
    """Vectors and direct of one grid, gates of several."""
    grids = [make(*grid, **options, batch=(1,), seed=seed)[0] for seed in range(count)]
    gates = {
        name: jnp.stack([getattr(x, name) for x in grids], 1)
        for name in GATES
        if getattr(grids[0], name) is not None
    }
    return grids[0]._replace(**gates)


def one_by_one(inputs, orientations):
    """The sum, the direct term in the first orientation alone."""
    total = 0.0
    for i, orientation in enumerate(orientations):
        axes = tuple(axis for bit, axis in ((1, 1), (2, 2)) if orientation & bit)
        gates = {
            name: None if gate is None else gate[:, i]
            for name, gate in zip(GATES, inputs[3:11], strict=True)
        }
        now = inputs._replace(**gates, direct=None if i else inputs.direct)
        now = jax.tree.map(lambda x, axes=axes: jnp.flip(x, axes), now)
        total += jnp.flip(plstm_2d(*now, implementation="recurrent"), axes)
    return total


@pytest.mark.parametrize(
    ("implementation", "orientations", "turns"),
    [
        ("parallel", (0, 1, 2, 3), "P"),
        ("parallel", (3, 1), "L"),
        ("chunkwise", (0, 1, 2, 3), "P"),
    ],
    ids=["parallel", "parallel_two", "chunkwise"],
)
def test_agrees_with_one_after_another(monkeypatch, implementation, orientations, turns):
    monkeypatch.setattr(chunkwise, "SIDE", 2)
    inputs = oriented(len(orientations), 3, 4, turns=turns)

    def run(inputs):
        return plstm_2d_oriented(*inputs, orientations=orientations, implementation=implementation)

    def with_gradient(function):
        def loss(inputs):
            output = function(inputs)
            return jnp.sum(jnp.sin(output)), output

        return fast_jit(jax.grad(loss, has_aux=True))(inputs)

    gradients, output = with_gradient(run)
    expected_gradients, expected = with_gradient(lambda x: one_by_one(x, orientations))
    assert relative_error(output, expected) < AGREEMENT["float64"]
    for name, a, b in zip(Inputs._fields, gradients, expected_gradients, strict=True):
        assert (a is None) == (b is None)
        assert a is None or relative_error(a, b) < GRADIENT_AGREEMENT["float64"], name
    empty = jax.tree.map(lambda x: x[:0], inputs)
    assert jax.eval_shape(run, empty).shape == (0, *output.shape[1:])
    gradients = jax.eval_shape(jax.grad(lambda inputs: run(inputs).sum()), empty)
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, empty)


def test_low_precision_scale_and_no_direct_term():
    inputs = oriented(2, 3, 3, dimensions="J1")._replace(direct=None)
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), inputs)
    output = fast_jit(lambda x: plstm_2d_oriented(*x, orientations=(0, 2), scale=0.3))(low)
    exact = jax.tree.map(lambda x: x.astype(jnp.float64), low)
    expected = fast_jit(lambda x: one_by_one(x, (0, 2)))(exact) * 0.3 / 3**-0.5
    assert output.dtype == jnp.bfloat16
    assert relative_error(output, expected) < AGREEMENT["bfloat16"]


def test_wrong_arguments():
    inputs = oriented(2, 3, 3, dimensions="J1")
    with pytest.raises(ValueError, match="expected O = 2 of them, as the gates have"):
        plstm_2d_oriented(*inputs)
    with pytest.raises(ValueError, match=r"got \(0, 4\), expected numbers from 0 to 3"):
        plstm_2d_oriented(*inputs, orientations=(0, 4))
    with pytest.raises(ValueError, match=r"source_right: .*\[\*B, O, X, Y, JT, JK, JV\]"):
        plstm_2d_oriented(*inputs._replace(source_right=inputs.source_right[:, 0]))
    with pytest.raises(ValueError, match="implementation: got 'fast', expected one of"):
        plstm_2d_oriented(*inputs, orientations=(0, 1), implementation="fast")
