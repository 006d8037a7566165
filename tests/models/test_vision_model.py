"""The vision model: what it reads, how it pools, which sizes it takes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from golden import relative_error
from random_parameters import randomised
from tolerances import AGREEMENT

from plstm_seq.layers.grid import GridAttention, GridAttentionConfig, PLSTM2DLayer
from plstm_seq.layers.initializers import Constant
from plstm_seq.models import PostUpConfig, PreUpConfig
from plstm_seq.models.patches import IMAGENET_MEAN, IMAGENET_STD
from plstm_seq.models.vision import (
    VisionModel,
    VisionModelConfig,
    pooled,
    published_mixer,
    vision_plstm,
    vision_transformer,
)

SMALL = VisionModelConfig(
    width=8,
    num_blocks=1,
    block=PostUpConfig(projection_round=8),
    mixer=dataclasses.replace(published_mixer(2), implementation="recurrent"),
    patch_size=2,
    position_grid=(2, 3),
)
VIT = dataclasses.replace(SMALL, mixer=GridAttentionConfig(num_heads=2), num_blocks=2)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8)
run = fast_jit(lambda model, x: model(x))
train = fast_jit(lambda model, x, key: model(x, dropout_key=key))


def make(config=SMALL, *, output_size=5, seed=0, dtype=jnp.float64, **options):
    types = {"dtype": dtype, "param_dtype": dtype}
    return randomised(
        lambda: VisionModel(config, output_size=output_size, **types, **options, rngs=nnx.Rngs(0)),
        seed,
    )


def with_pooling(pooling, config=VIT):
    return dataclasses.replace(config, pooling=pooling)


def test_the_default_is_the_model_of_the_protocol():
    model = nnx.eval_shape(lambda: VisionModel(output_size=2, rngs=nnx.Rngs(0)))
    modes = [block.mixer.mode for block in model.blocks]
    assert modes == ["P", "D"] * 6
    assert model.blocks[0].mixer.sizes[:3] == (6, 32, 32)
    assert not model.uses_dropout


@pytest.mark.parametrize(
    ("make_config", "size", "millions"), [(vision_plstm, "S", 23), (vision_transformer, "T", 6)]
)
def test_published_sizes(make_config, size, millions):
    model = nnx.eval_shape(
        lambda: VisionModel(make_config(size), output_size=1000, rngs=nnx.Rngs(0))
    )
    count = sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert round(count / 1e6) == millions


@pytest.mark.parametrize("block", [PostUpConfig, PreUpConfig])
def test_images_of_other_sizes(block):
    """Also grids that aren't square, and larger than that of the position embedding."""
    config = dataclasses.replace(SMALL, block=block(projection_round=8))
    model = make(config)
    assert run(model, IMAGES).shape == (3, 5)
    assert run(model, np.zeros((1, 10, 4, 3), np.uint8)).shape == (1, 5)


def test_uint8_is_divided_by_255_and_floats_are_taken_as_they_are():
    model = make(VIT)
    assert relative_error(run(model, IMAGES), run(model, IMAGES / 255)) < AGREEMENT["float64"]
    normal = make(dataclasses.replace(VIT, pixels="imagenet"))
    ready = (IMAGES / 255 - IMAGENET_MEAN) / IMAGENET_STD
    assert relative_error(run(normal, IMAGES), run(normal, ready)) < 1e-6  # float32 constants


def test_patches_are_those_of_a_convolution():
    embedding = make(VIT).embedding
    kernel = embedding.kernel[...].reshape(2, 2, 3, 8)
    expected = jax.lax.conv_general_dilated(
        IMAGES / 255, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    expected += embedding.bias[...]
    assert relative_error(embedding(jnp.asarray(IMAGES)), expected) < AGREEMENT["float64"]


def test_symbols_are_cells_with_logits_of_their_own():
    """Each cell in its place: without blocks' mixing the logits follow the symbol alone."""
    config = dataclasses.replace(with_pooling("cells"), position="none")
    model = make(config, vocab_size=4)
    symbols = np.random.default_rng(1).integers(0, 4, (2, 3, 5), np.int32)
    logits = run(model, symbols)
    assert logits.shape == (2, 3, 5, 5)
    same = np.argwhere(symbols[0] == symbols[0, 0, 0])
    for x, y in same:
        np.testing.assert_allclose(logits[0, x, y], logits[0, 0, 0], rtol=1e-9)


def test_logits_of_a_cell_depend_on_the_cells_that_the_orientation_reads():
    mixer = dataclasses.replace(SMALL.mixer, orientations=(0,))
    model = make(dataclasses.replace(SMALL, mixer=mixer, pooling="cells"), vocab_size=4)
    symbols = np.zeros((1, 3, 4), np.int32)
    changed = symbols.copy()
    changed[0, 1, 2] = 1
    reached = jnp.any(run(model, symbols) != run(model, changed), axis=(0, 3))
    rows, columns = np.indices((3, 4))
    np.testing.assert_array_equal(reached, (rows >= 1) & (columns >= 2))


def test_poolings():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 5, 3)))
    corners = jnp.concatenate([x[:, 0, 0], x[:, 3, 0], x[:, 0, 4], x[:, 3, 4]], -1)
    np.testing.assert_array_equal(pooled(x, "corners"), corners)
    np.testing.assert_allclose(pooled(x, "mean"), pooled(x, "sum") / 20)
    np.testing.assert_array_equal(pooled(x, "center"), x[:, 2, 2])
    np.testing.assert_array_equal(pooled(x, "features"), x)
    np.testing.assert_array_equal(pooled(x.reshape(2, 20, 3), "cls"), x[:, 0, 0])


@pytest.mark.parametrize(("pooling", "shape"), [("cls", (3, 5)), ("features", (3, 2, 3, 8))])
def test_transformer(pooling, shape):
    output_size = None if pooling == "features" else 5
    model = make(with_pooling(pooling), output_size=output_size)
    assert isinstance(model.blocks[0].mixer, GridAttention)
    assert run(model, IMAGES).shape == shape


def test_modes_are_repeated_over_the_blocks():
    config = dataclasses.replace(SMALL, mode="PDD", num_blocks=4)
    mixers = [block.mixer for block in make(config).blocks]
    assert [mixer.mode for mixer in mixers if isinstance(mixer, PLSTM2DLayer)] == list("PDDP")


def test_drop_path_leaves_out_whole_images():
    """With a rate near 1 an image goes through blocks unchanged."""
    block = PostUpConfig(projection_round=8, drop_path=0.999)
    config = dataclasses.replace(with_pooling("features"), block=block, norm=None)
    model = make(config, output_size=None)
    assert model.uses_dropout
    embedded = model.position(model.embedding(jnp.asarray(IMAGES)))
    dropped = train(model, IMAGES, jax.random.key(0))
    assert relative_error(dropped, embedded) < AGREEMENT["float64"]
    assert relative_error(run(model, IMAGES), embedded) > 0.1
    rate = nnx.state(model, lambda path, _: path[-1] == "drop_path")
    nnx.update(model, jax.tree.map(jnp.zeros_like, rate))  # another rate, the same program
    kept = train(model, IMAGES, jax.random.key(0))
    assert relative_error(kept, run(model, IMAGES)) < AGREEMENT["float64"]


def test_layer_scale_starts_where_it_is_told():
    block = PostUpConfig(projection_round=8, use_scale=True, scale_init=Constant(1e-4))
    model = VisionModel(dataclasses.replace(VIT, block=block), output_size=2, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(model.blocks[1].scale2.scale[...], 1e-4)


def test_many_models_in_one_program():
    models = [make(VIT, seed=seed) for seed in range(2)]
    graph = nnx.split(models[0])[0]
    states = jax.tree.map(lambda *x: jnp.stack(x), *(nnx.split(model)[1] for model in models))
    together = jax.vmap(lambda state: nnx.merge(graph, state)(IMAGES))(states)
    for model, logits in zip(models, together, strict=True):
        assert relative_error(logits, run(model, IMAGES)) < AGREEMENT["float64"]


def test_bfloat16_gives_logits_in_float32():
    logits = run(make(VIT, dtype=jnp.bfloat16), IMAGES)
    assert logits.dtype == jnp.float32
    exact = run(make(VIT, dtype=jnp.float32), IMAGES)
    assert relative_error(logits, exact) < 5 * AGREEMENT["bfloat16"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "PQ"}, "mode: got 'PQ'"),
        ({"mode": ""}, "mode: got ''"),
        ({"pooling": "max"}, "pooling: got 'max'"),
        ({"pooling": "cls"}, "pooling: got 'cls', expected another one"),
        ({"pixels": "raw"}, "pixels: got 'raw'"),
        ({"position": "sine"}, "position: got 'sine'"),
        ({"position_grid": (0, 3)}, r"position_grid\[0\]: got 0"),
        ({"patch_size": 0}, "patch_size: got 0"),
        ({"logit_soft_cap": 0.0}, "logit_soft_cap: got 0.0"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, dict) else None,
)
def test_refuses_options(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_refuses_inputs():
    model = make(VIT)
    with pytest.raises(ValueError, match="expected multiples of patch_size = 2"):
        model(IMAGES[:, :3])
    with pytest.raises(ValueError, match=r"images: got shape \(3, 4, 6, 1\)"):
        model(IMAGES[..., :1])
    with pytest.raises(TypeError, match="images: got int32"):
        model(IMAGES.astype(np.int32))
    with pytest.raises(TypeError, match="symbols: got float"):
        make(VIT, vocab_size=4)(np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match="expected 3 with pixels = 'imagenet'"):
        make(dataclasses.replace(VIT, pixels="imagenet"), channels=1)
    with pytest.raises(ValueError, match="output_size: got None"):
        make(VIT, output_size=None)
    with pytest.raises(ValueError, match="output_size: got 5"):
        make(with_pooling("features"))
