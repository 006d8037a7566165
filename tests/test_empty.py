"""A batch of nothing gives an empty result; sequences, grids and graphs of nothing are refused."""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from plstm_seq.graphs import bucket, line_graph, padded, sizes_of
from plstm_seq.layers.dag import GraphMixerConfig
from plstm_seq.layers.mixers import MixerConfig, make_mixer
from plstm_seq.models import SequenceModel, SequenceModelConfig
from plstm_seq.models.graph import GraphInputs, GraphModel, GraphModelConfig, Pooling
from plstm_seq.models.vision import VisionModel, VisionModelConfig, vision_transformer

MIXERS = typing.get_args(MixerConfig)
GRAPH_MIXERS = typing.get_args(GraphMixerConfig)
SHAPES_OF_NOTHING = [(2, 0), (0, 0)]


@pytest.mark.parametrize("config", MIXERS, ids=lambda config: config.__name__)
def test_mixers(config):
    mixer = make_mixer(8, config(), rngs=nnx.Rngs(0))
    nothing = jnp.zeros((0, 5, 8))
    for function in (mixer, jax.grad(lambda x: mixer(x).sum())):
        assert jax.eval_shape(function, nothing).shape == nothing.shape
    for shape in SHAPES_OF_NOTHING:
        with pytest.raises(ValueError, match=r"x: got shape .*, expected T to be at least 1"):
            mixer(jnp.zeros((*shape, 8)))


@pytest.mark.parametrize("config", MIXERS, ids=lambda config: config.__name__)
def test_sequence_models(config):
    model = SequenceModel(4, SequenceModelConfig(width=8, mixer=config()), rngs=nnx.Rngs(0))
    assert jax.eval_shape(model, jnp.zeros((0, 5), jnp.int32)).shape == (0, 5, 4)
    for shape in SHAPES_OF_NOTHING:
        with pytest.raises(ValueError, match=r"got shape .*, expected T to be at least 1"):
            model(jnp.zeros(shape, jnp.int32))


def test_a_model_runs_on_no_sequence():
    model = SequenceModel(4, SequenceModelConfig(width=16), rngs=nnx.Rngs(0))
    assert model(jnp.zeros((0, 5), jnp.int32)).shape == (0, 5, 4)


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        (VisionModelConfig(), "corners"),
        (VisionModelConfig(), "mean"),
        (vision_transformer("T"), "cls"),
        (vision_transformer("T"), "mean"),
    ],
    ids=["plstm", "plstm_mean", "transformer", "transformer_mean"],
)
def test_vision_models(config, pooling):
    config = dataclasses.replace(config, num_blocks=2, pooling=pooling)
    model = nnx.eval_shape(lambda: VisionModel(config, output_size=3, rngs=nnx.Rngs(0)))

    def call(*shape):
        return nnx.eval_shape(lambda model, images: model(images), model, jnp.zeros((*shape, 3)))

    def shapes(tree):
        return jax.tree.map(jnp.shape, tree)

    def gradients(images):
        return nnx.eval_shape(nnx.grad(lambda model: model(images).sum()), model)

    assert call(0, 64, 64).shape == (0, 3)
    assert shapes(gradients(jnp.zeros((0, 64, 64, 3)))) == shapes(nnx.state(model, nnx.Param))
    with pytest.raises(ValueError, match="expected X to be at least 1"):
        call(2, 0, 64)


@pytest.mark.parametrize("config", GRAPH_MIXERS, ids=lambda config: config.__name__)
@pytest.mark.parametrize("pooling", typing.get_args(Pooling))
def test_graph_models(config, pooling):
    nothing = {"edge_index": jnp.zeros((2, 0), int), "nodes": 0}
    graph = line_graph(**nothing, graph=[], mode="PD")
    options = GraphModelConfig(width=8, num_blocks=2, mixer=config(), pooling=pooling)
    model = GraphModel(3, config=options, output_size=2, rngs=nnx.Rngs(0))
    for shown in (graph, padded(graph, bucket(sizes_of(graph)))):
        assert model(GraphInputs(shown, jnp.zeros((0, 3)))).shape == (0, 2)
    with pytest.raises(ValueError, match="nodes: got 0, expected at least 1"):
        line_graph(**nothing)
