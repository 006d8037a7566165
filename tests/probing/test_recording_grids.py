"""What is recorded of a model over grids is what its layers run on; the model stays as it is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from tolerances import AGREEMENT

from plstm_seq.layers.grid import GridAttentionConfig, GridConvolutionConfig
from plstm_seq.models import VisionModel, VisionModelConfig
from plstm_seq.models.vision import published_mixer
from plstm_seq.probing import record_grid

TOLERANCE = AGREEMENT["float64"]
MIXER = dataclasses.replace(
    published_mixer(2), orientations=(0, 3), convolution=GridConvolutionConfig((3, 3))
)
CONFIG = VisionModelConfig(width=8, num_blocks=2, mixer=MIXER, patch_size=4, position_grid=(2, 3))


def test_recorded_are_the_gates_of_the_run_in_both_modes():
    model = VisionModel(CONFIG, output_size=2, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    before = jax.tree.map(np.asarray, nnx.state(model))
    images = jax.random.uniform(jax.random.key(1), (1, 8, 12, 3), jnp.float64)
    found = record_grid(model, images)
    graphdef, variables = nnx.split(model)
    run = fast_jit(lambda variables: nnx.merge(graphdef, variables)(images))
    np.testing.assert_allclose(found.outputs, run(variables), atol=TOLERANCE)
    assert [(layer.block, layer.mode) for layer in found.layers] == [(0, "P"), (1, "D")]
    heard = []
    assert model.position is not None
    entered = model.position(model.embedding(images))
    model.blocks[0]._around(entered, lambda h: (heard.append(h) or model.blocks[0].mixer(h), None))
    inputs = model.blocks[0].mixer.op_inputs(heard[0])
    first, second = (layer.gates for layer in found.layers)
    assert first["orientation"].shape == (1, 2, 2, 2, 3)
    share = first["orientation"][..., None, None]
    np.testing.assert_allclose(share * first["transition"], inputs.transition_rl, atol=TOLERANCE)
    down = (1 - share)[..., None] * first["source"]
    np.testing.assert_allclose(down, inputs.source_down, atol=TOLERANCE)
    np.testing.assert_allclose(first["direct"], inputs.direct, atol=TOLERANCE)
    assert set(second) == {*model.blocks[1].mixer.gate_names, "direct"}
    assert second["transition_turn"].shape == (1, 2, 2, 2, 3, 1, 1)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(model))


def test_a_model_without_plstm_layers_is_refused():
    config = dataclasses.replace(CONFIG, mixer=GridAttentionConfig(num_heads=2), num_blocks=1)
    model = VisionModel(config, output_size=2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="pLSTM"):
        record_grid(model, jnp.zeros((1, 8, 12, 3)))
