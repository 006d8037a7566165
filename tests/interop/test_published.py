"""What the reader of published configurations and the loader of parameters refuse."""

import copy

import jax.numpy as jnp
import pytest
from flax import nnx
from golden import golden_files, load

from plstm_seq.interop.published import load_parameters, read_config
from plstm_seq.layers import NormConfig


def golden(name):
    (path,) = golden_files(name)
    return load(path)


def changed(config: dict, path: str, value) -> dict:
    config = copy.deepcopy(config)
    *parents, name = path.split(".")
    inner = config
    for parent in parents:
        inner = inner[parent]
    inner[name] = value
    return config


def test_reads_names_for_letters():
    config = golden("layer1d_conv_only_QK").meta["config"]
    assert read_config(config).config.convolution_inputs == ("query", "key")
    default = changed(config, "convolution_inputs", "STMDQKstP")
    assert "value" not in read_config(default).config.convolution_inputs


def test_reads_no_norm():
    config = changed(golden("layer1d_JT1").meta["config"], "mhnorm", {"class_name": "Identity"})
    assert read_config(config).config.norm is None
    assert read_config(golden("layer1d_JT1").meta["config"]).config.norm == NormConfig()


def test_reads_drop_path():
    config = golden("block_post_up_gated_silu_scale").meta["config"]
    assert read_config(config).config.drop_path is None
    assert read_config(changed(config, "drop_path_rate", 0.1)).config.drop_path == 0.1


def test_reads_orientations_that_the_published_layer_flips():
    config = golden("layer2d_P_4x6_onepow2").meta["config"]
    assert read_config(config).config.orientations == (0, 1, 0, 1)
    config = changed(config, "orientation_combinations", [0, 1, 4, 5])
    assert read_config(config).config.orientations == (0, 1, 2, 3)


def test_reads_pairs_of_vision_blocks():
    model = read_config(golden("vision_center_PD").meta["config"]).config
    assert (model.num_blocks, model.mode, model.position_grid) == (2, "PD", (4, 4))
    assert model.mixer.gate_order == "head"


def test_lists_every_field_without_counterpart():
    config = golden("lm_pre_up_anylength").meta["config"]
    config = changed(config, "mystery", 1)
    config = changed(config, "block_stack.scan_blocks", True)
    config = changed(config, "block_stack.block.interaction_module.source.gain", 2.0)
    with pytest.raises(ValueError, match="fields with no counterpart") as error:
        read_config(config)
    message = str(error.value)
    assert "mystery = 1" in message
    assert "block_stack.scan_blocks = True (only False)" in message
    assert "block_stack.block.interaction_module.source.gain = 2.0" in message


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        ("layer1d_JT1", "class_name", "pLSTM3DLayer", "got class_name 'pLSTM3DLayer'"),
        ("layer1d_JT1", "mark.JT", 7, r"mark.JT = 7 \(only 1\)"),
        ("layer1d_JT1", "convolution.causal", False, "convolution.causal = False"),
        ("layer1d_JT1", "convolution_inputs", "QX", r"unknown \['X'\]"),
        ("layer1d_JT1", "mhnorm.class_name", "RMSNorm", "norm: got 'RMSNorm'"),
        ("layer1d_JT1", "source.bias_init.class_name", "EyeInit", "bias_init: got 'EyeInit'"),
        ("block_post_up_gated_silu_scale", "interaction_module_name", "X", "only 'pLSTM1D'"),
        ("layer2dfused_P_JT2", "convolution_inputs", "QX", r"unknown \['X'\]"),
        ("vision_center_PD", "block_stack.block.drop_path_rate", 0.1, "drop_path_rate = 0.1"),
        ("vision_center_PD", "block_stack.block.block1.skip", False, "block0 and block1"),
        ("vision_center_PD", "patch_embed.stride", 2, "stride = 2"),
        ("lm_pre_up_anylength", "context_length", 512, "context_length = 512"),
    ],
)
def test_refuses(name, path, value, message):
    with pytest.raises(ValueError, match=message):
        read_config(changed(golden(name).meta["config"], path, value))


def test_missing_field():
    config = copy.deepcopy(golden("layer1d_JT1").meta["config"])
    del config["num_heads"]
    with pytest.raises(KeyError, match="num_heads"):
        read_config(config)


def test_parameters_that_do_not_fit_are_listed_and_nothing_changes():
    file = golden("layer1d_JT1")
    layer = nnx.eval_shape(lambda: read_config(file.meta["config"]).build(rngs=nnx.Rngs(0)))
    parameters = dict(file.params)
    parameters["gate.bias"] = parameters.pop("mark.bias")
    parameters["source.bias"] = parameters["source.bias"][:1]
    with pytest.raises(ValueError, match="parameters do not fit the module") as error:
        load_parameters(layer, parameters)
    message = str(error.value)
    assert "gate.bias: no parameter 'gate.bias' in PLSTM1DLayer" in message
    assert "mark.bias: not among the parameters given" in message
    assert "source.bias: got shape (1, 1, 1, 1), expected (2, 1, 1, 1)" in message
    assert not isinstance(layer.query.weight.get_value(), jnp.ndarray)


def test_parameters_take_the_type_of_ours():
    file = golden("layer1d_JT1")
    layer = nnx.eval_shape(
        lambda: read_config(file.meta["config"]).build(param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    )
    load_parameters(layer, file.params)
    assert layer.query.weight.dtype == jnp.bfloat16
    assert layer.query.weight[...].shape == file.params["query.weight"].shape
