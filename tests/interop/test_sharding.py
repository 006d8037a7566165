"""Logical axes of parameters, and a model that is split over a mesh as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_layer import CASES, MIXER
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from processes import run_function
from random_parameters import randomised

from plstm_seq.interop.sharding import ShardingRules, logical_axes, shard, shardings
from plstm_seq.layers import PLSTM1DConfig
from plstm_seq.layers.transition import Diagonal
from plstm_seq.models import SequenceModel, SequenceModelConfig

MATRICES = [name for name in CASES if name.startswith(("mixer", "graph", "p"))]


def split_over_four_devices():
    jax.config.update("jax_disable_most_optimizations", True)
    mixer = PLSTM1DConfig(num_heads=4, transition=Diagonal(dim=4), implementation="recurrent")
    config = SequenceModelConfig(width=16, mixer=mixer)
    model = randomised(lambda: SequenceModel(8, config, rngs=nnx.Rngs(0)))
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    tokens = jnp.arange(24).reshape(4, 6) % 8

    def run(tokens):
        graph, state, rest = nnx.split(model, nnx.Param, ...)

        def loss(state):
            logits = nnx.merge(graph, state, rest)(tokens)
            return jnp.sum(jnp.sin(logits)), logits

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(state)

    def error(a, b):
        return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max())

    (_, whole), gradient = run(tokens)
    rules = ShardingRules(
        vocabulary="model", labels="model", inner="model", heads="model", width="data"
    )
    shard(model, mesh, rules)
    over_data = NamedSharding(mesh, PartitionSpec("data"))
    (_, split), split_gradient = run(jax.device_put(tokens, over_data))
    kernel = model.blocks[0].upproj.kernel[...]
    return {
        "kernel": [kernel.shape, kernel.addressable_shards[0].data.shape],
        "gradient_lies_as": str(split_gradient.blocks[0].upproj.kernel[...].sharding.spec),
        "error": error(split, whole),
        "gradient_error": max(jax.tree.leaves(jax.tree.map(error, split_gradient, gradient))),
    }


def test_a_split_model_computes_the_same():
    result = run_function(split_over_four_devices, devices=4)
    assert result["kernel"] == [[16, 64], [8, 32]]
    assert "'data', 'model'" in result["gradient_lies_as"]
    assert result["error"] < 1e-5
    assert result["gradient_error"] < 1e-4


@pytest.mark.parametrize("name", MATRICES)
def test_every_matrix_has_a_named_axis(name):
    module = CASES[name].make()
    axes = logical_axes(module)
    shapes = {
        ".".join(map(str, path)): variable.shape
        for path, variable in nnx.to_flat_state(nnx.state(module, nnx.Param))
    }
    assert {key: len(value) for key, value in axes.items()} == {
        key: len(shape) for key, shape in shapes.items()
    }
    kernels = {key: value for key, value in axes.items() if key.endswith(("kernel", "weight"))}
    assert [key for key, value in kernels.items() if set(value) == {None}] == []


@pytest.mark.parametrize(
    ("name", "parameter", "axes"),
    [
        ("sequence_model", "token_embedding.embedding", ("vocabulary", "width")),
        ("sequence_model", "lm_head", ("width", "labels")),
        ("post_up_block", "upproj.kernel", ("width", "inner")),
        ("post_up_block", "scale1.scale", ("width",)),
        ("plstm_1d", "query.weight", (None, None, None, "heads", None)),
        ("plstm_1d", "source.bias", ("heads", None, None, None)),
        ("plstm_1d", "transition.inproj_weight", ("heads", None, None, None, "width")),
        (
            "table_model",
            "blocks.0.mixer.transition.embedding",
            ("vocabulary", "heads", None, None),
        ),
        ("plstm_1d", "mhnorm.norm.scale", ("heads",)),
        ("plstm_1d", "conv.kernel", (None, None, "width")),
        ("plstm_1d", "outprojection.kernel", ("heads", "width")),
    ],
)
def test_axes_of(name, parameter, axes):
    assert logical_axes(CASES[name].make())[parameter] == axes


def test_a_mesh_axis_splits_an_array_once():
    rules = ShardingRules(width="model", inner="model")
    assert rules.spec(("width", "inner")) == PartitionSpec("model", None)


def test_a_mesh_that_does_not_fit_is_refused():
    mesh = Mesh(np.array(jax.devices()[:1] * 4), ("model",))
    config = SequenceModelConfig(width=8, mixer=MIXER)
    model = nnx.eval_shape(lambda: SequenceModel(7, config, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"rules name the mesh axes \['data'\]"):
        shardings(model, mesh, ShardingRules(width="data"))
    with pytest.raises(ValueError, match="the mesh does not divide") as error:
        shard(model, mesh, ShardingRules(labels="model", heads="model"))
    assert "lm_head: axis 1 has 7 entries, not a multiple of 'model' = 4" in str(error.value)
    assert "source.bias: axis 0 has 2 entries" in str(error.value)
