"""Published parameters and configurations through files, and back in the published names."""

import copy
import json
from collections import OrderedDict

import numpy as np
import pytest
import yaml
from every_layer import CASES
from fake_torch import FakeTorch
from flax import nnx
from golden import Golden, golden_files, load

from plstm_seq.interop.published import read_config
from plstm_seq.interop.published.dialects import from_nnx, to_nnx
from plstm_seq.interop.published.files import complete, load_published, read_config_file
from plstm_seq.interop.published.writing import published_parameters
from plstm_seq.interop.weights import read_arrays, write_arrays
from plstm_seq.layers import PLSTM1DConfig

FILES = golden_files(
    "layer1d_", "block_", "lm_", "layer2d_", "layer2dfused_", "transformer_block_", "vision_"
)
GRAPHS = golden_files("graphlayer_")
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def empty(golden: Golden) -> nnx.Module:
    """Our module, of types alone."""
    arguments = read_config(golden.meta["config"])
    return nnx.eval_shape(lambda: arguments.build(rngs=nnx.Rngs(0)))


def assert_equal(ours, published):
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in published.items()}
    for name, array in published.items():
        np.testing.assert_array_equal(ours[name], array)


@every_file
def test_files_of_every_framework_are_read_and_written_back(path, tmp_path, monkeypatch):
    golden = load(path)
    torch = FakeTorch()
    tensors = {
        name: torch.tensor(array) for name, array in from_nnx(golden.params, "torch").items()
    }
    torch.save(tmp_path / "torch.pt", OrderedDict(tensors), monkeypatch)
    write_arrays(tmp_path / "nnx.safetensors", golden.params)
    write_arrays(tmp_path / "linen.npz", from_nnx(golden.params, "linen"))
    assert_equal(to_nnx(read_arrays(tmp_path / "nnx.safetensors")), golden.params)
    assert_equal(to_nnx(read_arrays(tmp_path / "linen.npz")), golden.params)

    module = empty(golden)
    load_published(module, tmp_path / "torch.pt")
    assert_equal(published_parameters(module), golden.params)


@pytest.mark.parametrize(
    "path", golden_files("graphlayer_node_", "graphlayer_edge_"), ids=lambda path: path.stem
)
def test_graph_layers_are_read_from_torch_and_written_back(path, tmp_path, monkeypatch):
    golden = load(path)
    torch = FakeTorch()
    tensors = {name: torch.tensor(array) for name, array in golden.params.items()}
    torch.save(tmp_path / "torch.pt", OrderedDict(tensors), monkeypatch)
    layer = empty(golden)
    load_published(layer, tmp_path / "torch.pt")
    assert_equal(published_parameters(layer, "torch"), golden.params)
    with pytest.raises(ValueError, match="got 'nnx' and"):
        published_parameters(layer)


def golden(name):
    return load(golden_files(name)[0])


def test_names_and_axes_of_torch():
    torch = {
        k: v.shape for k, v in from_nnx(golden("lm_post_up_anylength").params, "torch").items()
    }
    block = "block_stack.blocks.1"
    assert torch["token_embedding.weight"] == torch["lm_head.weight"] == (13, 16)
    assert torch[f"{block}.upproj.weight"] == (64, 16)
    assert torch[f"{block}.norm2.scale"] == (16,)
    assert torch[f"{block}.interaction_module.conv._conv.weight"] == (16, 1, 4)
    assert torch[f"{block}.interaction_module.mhnorm.scale"] == (2, 8)
    assert torch[f"{block}.interaction_module.value_.weight"] == (1, 2, 4, 2, 8)


def test_attention_of_torch_is_packed():
    params = {
        f"multiheadattention.{part}.{end}": np.random.default_rng(n).normal(size=shape)
        for n, part in enumerate(("query", "key", "value"))
        for end, shape in (("kernel", (4, 2, 3)), ("bias", (2, 3)))
    }
    packed = from_nnx(params, "torch")
    x = np.arange(4.0)
    query, _, value = np.split(packed["qkv.weight"] @ x + packed["qkv.bias"], 3)
    for part, got in (("query", query), ("value", value)):
        kernel, bias = (params[f"multiheadattention.{part}.{end}"] for end in ("kernel", "bias"))
        np.testing.assert_allclose(got, (np.tensordot(x, kernel, 1) + bias).reshape(-1))


def test_biases_of_torch_norms():
    """Those of layer norms are in the norm that nnx wraps, those of RMS norms beside it."""
    bias = np.zeros((2, 4))
    assert to_nnx({"mhnorm.bias": bias}, layer_norms=True)["mhnorm.norm.bias"].shape == (2, 4)
    assert to_nnx({"mhnorm.bias": bias})["mhnorm.bias"].shape == (8,)
    for ours, theirs in (("", ""), ("block_stack.block0.", "block_stack.blocks.0.")):
        norm = {f"{ours}mhnorm.norm.scale": bias, f"{ours}mhnorm.bias": bias.reshape(-1)}
        assert from_nnx(norm, "torch")[f"{theirs}mhnorm.bias"].shape == (2, 4)


def test_nested_variables_of_linen():
    variables = {"params": {"block_stack": {"blocks_0": {"upproj": {"bias": np.zeros(2)}}}}}
    assert list(to_nnx(variables)) == ["block_stack.block0.upproj.bias"]
    with pytest.raises(ValueError, match="dialect: got 'keras'"):
        from_nnx({}, "keras")


@pytest.mark.parametrize(
    ("name", "message"),
    [("mixer_lstm", "no CellMixer"), ("plstm_1d", "learned_initial_state")],
)
def test_what_was_never_published_is_not_written(name, message):
    if name == "plstm_1d":
        config = PLSTM1DConfig(num_heads=2, learned_initial_state=True)
        case = CASES[name]._replace(args=(8, config))
    else:
        case = CASES[name]
    module = nnx.Dict(mixer=case.make())
    with pytest.raises(ValueError, match=message):
        published_parameters(module)


def test_a_table_of_transitions_is_not_written():
    with pytest.raises(ValueError, match="no table of transitions by token"):
        published_parameters(CASES["table_model"].make())


# What a configuration names beyond the defaults.
SHORT = {
    "layer1d_default": {"class_name": "pLSTM1DLayer", "input_dim": 16, "num_heads": 2},
    "lm_post_up_anylength": {
        "class_name": "pLSTMLMModel",
        "vocab_size": 13,
        "embedding_dim": 16,
        "num_blocks": 2,
        "block_type": "post_up",
        "block_stack": {
            "block": {
                "interaction_module": {
                    "class_name": "pLSTM1DLayer",
                    "input_dim": 16,
                    "num_heads": 2,
                    "additional_passthrough": False,
                }
            }
        },
    },
    "block_pre_up": {"class_name": "PreUpProjectionBlock", "input_dim": 16},
    "layer2d_P_4x6_onepow2": {"class_name": "pLSTM2DLayer", "input_dim": 8, "num_heads": 2},
    "layer2dfused_P_JT2": {
        "class_name": "pLSTM2DLayerFused",
        "input_dim": 8,
        "num_heads": 2,
        "JT": 2,
        "JV": 2,
        "JO": 2,
    },
    "transformer_block_noskip_nobias_1d": {
        "class_name": "TransformerBlock",
        "input_dim": 16,
        "num_heads": 2,
        "skip": False,
        "bias": False,
    },
    "graphlayer_node_rand2_P": {
        "class_name": "pLSTMGraphLayer",
        "input_dim": 8,
        "num_heads": 2,
        "max_edges": 3,
        "bias": True,
    },
    "graphlayer_edge_rand2_D": {
        "class_name": "pLSTMGraphEdgeLayer",
        "mode": "D",
        "input_dim": 8,
        "num_heads": 2,
        "edge_input_dim": 3,
    },
    "vision_center_PD": {
        "class_name": "pLSTMVisionModel",
        "dim": 16,
        "num_heads": 2,
        "patch_size": 4,
        "num_blocks": 1,
        "output_shape": [5],
        "resolution": [16, 16],
        "pooling": "center",
    },
}


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("write", [yaml.safe_dump, json.dumps], ids=["yaml", "json"])
def test_fields_left_out_take_the_published_defaults(name, write, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(write(SHORT[name]))
    assert read_config_file(file) == read_config(golden(name).meta["config"])


@pytest.mark.parametrize("mixer", ["pLSTM1D", "pLSTM2D", "pLSTM2DFused"])
@pytest.mark.parametrize(("kind", "sub_heads"), [("PreUp", 16), ("PostUp", 4)])
def test_blocks_take_the_default_mixer_of_the_name_they_give(kind, sub_heads, mixer):
    class_name = f"{kind}ProjectionBlockConfig"
    config = {"class_name": class_name, "input_dim": 24, "interaction_module_name": mixer}
    block = read_config(complete(config))
    assert (block.mixer.num_heads, block.mixer.sub_heads) == (4, sub_heads)
    assert getattr(block, "mode", None) == (None if mixer == "pLSTM1D" else "D")


@pytest.mark.parametrize("path", [*FILES, *GRAPHS], ids=lambda path: path.stem)
def test_a_whole_configuration_is_complete(path):
    config = load(path).meta["config"]
    before = copy.deepcopy(config)
    assert read_config(complete(config)) == read_config(config)
    assert config == before


def test_a_file_of_something_else_is_refused(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("- 1")
    with pytest.raises(ValueError, match="got list, expected a mapping"):
        read_config_file(file)
    file.write_text(yaml.safe_dump({**SHORT["layer1d_default"], "mystery": 3}))
    with pytest.raises(ValueError, match="mystery = 3"):
        read_config_file(file)
    file.write_text("class_name: pLSTM1DLayer")
    with pytest.raises(KeyError, match="input_dim"):
        read_config_file(file)
