"""The defaults of the published configurations, for those that name only what differs."""

from collections.abc import Callable
from typing import Any

from plstm_seq.interop.published.default_layers import (
    SMALL,
    ZEROS,
    Config,
    Given,
    below,
    filled,
    layer_1d,
    layer_2d,
    layer_graph,
    norm,
    scale,
)


def complete(config: Given) -> Config:
    """Return a published configuration with every field, those left out with their defaults.

    Args:
        config: of a layer, a block or a model.

    Raises:
        KeyError: a field without a default is missing.
    """
    class_name = str(config.get("class_name", "")).removesuffix("Config")
    named = {class_name, config.get("_shortname"), config.get("_short_name")}
    if named & {"pLSTMLMModel", "pLSTMLM"}:
        return _language_model(config)
    if "pLSTMVisionModel" in named:
        return _vision_model(config)
    return _module({**config, "class_name": class_name})


def _module(config: Given) -> Config:
    completed = _MODULES.get(config["class_name"])
    return dict(config) if completed is None else completed(config)


def _block(given: Given, mixer: Config, **defaults: Any) -> Config:
    config = filled(
        given,
        upproj_weight_init=SMALL,
        downproj_weight_init=SMALL,
        upproj_bias_init=ZEROS,
        downproj_bias_init=ZEROS,
        bias=True,
        skip=True,
        projection_round=64,
        interaction_module_name="pLSTM1D",
        **defaults,
    )
    kinds = {"pLSTM1D": {}, "pLSTM2D": {"mode": "D"}, "pLSTM2DFused": {"mode": "D"}}
    name, width = config["interaction_module_name"], config["input_dim"]
    class_name = name.replace("D", "DLayer", 1)
    inside = below(config, "interaction_module") or mixer | kinds.get(name, {})
    return config | {
        "output_dim": width,
        "norm": norm(below(config, "norm"), width),
        "interaction_module": _module(filled(inside, class_name=class_name)),
    }


def _pre_up(given: Given) -> Config:
    scaling, unit = given.get("projection_scaling", 2.0), given.get("projection_round", 64)
    inner = int((scaling * given["input_dim"] - 1) // unit + 1) * unit
    mixer = {"input_dim": inner, "num_heads": 4, "sub_heads": inner // 4, "outprojection": False}
    options = {"projection_scaling": 2.0, "gated": True, "gating_function": "silu"}
    return _block(given, mixer, **options)


_POST_UP = {
    "projection_scaling": 4,
    "gated": False,
    "gating_function": "gelu",
    "drop_path_rate": 0.0,
}


def _post_up(given: Given) -> Config:
    mixer = {"input_dim": given["input_dim"], "num_heads": 4}
    config = _block(given, mixer, use_scale=False, **_POST_UP)
    if config["use_scale"]:
        config["scale"] = _scale(config)
    return config


def _scale(config: Config) -> Config:
    return scale(below(config, "scale"), config["input_dim"], class_name="ScaleLayer", scale=1.0)


def _transformer(given: Given) -> Config:
    config = filled(
        given,
        num_heads=1,
        projection_round=64,
        bias=True,
        skip=True,
        decode=False,
        upproj_weight_init=SMALL,
        downproj_weight_init=SMALL,
        upproj_bias_init=ZEROS,
        downproj_bias_init=ZEROS,
        attn_weight_init=SMALL,
        out_weight_init=SMALL,
        **_POST_UP,
    )
    width = config["input_dim"]
    sizes = {"output_dim": width, "norm": norm(below(config, "norm"), width)}
    return config | sizes | {"scale": _scale(config)}


def _vision_block(given: Given) -> Config:
    config = filled(given, num_heads=8, block_mode="PD", drop_path_rate=0.0)
    width = config["input_dim"]
    for name, mode in zip(("block0", "block1"), config["block_mode"], strict=True):
        mixer = {"mode": mode, "input_dim": width, "num_heads": config["num_heads"]}
        block = filled(
            below(config, name),
            class_name="PostUpProjectionBlock",
            input_dim=width,
            interaction_module_name="pLSTM2DFused",
            interaction_module={"class_name": "pLSTM2DLayerFused", **mixer},
        )
        config[name] = _module(block)
    return config


def _stack(given: Given, width: int, num_blocks: int, **block: Any) -> Config:
    config = filled(
        given,
        class_name="BlockStack",
        input_dim=width,
        output_dim=width,
        scan_blocks=False,
        num_blocks=num_blocks,
    )
    inside = filled(below(config, "block"), input_dim=width, **block)
    return config | {"block": _module(inside)}


def _language_model(given: Given) -> Config:
    config = filled(
        given,
        _shortname="pLSTMLM",
        context_length=-1,
        num_blocks=1,
        tie_weights=False,
        block_type="pre_up",
        embed_init=SMALL,
        head_init=SMALL,
        logit_soft_cap={"class_name": "SoftCapFunctionLayer", "scale": 10.0},
    )
    width = config["embedding_dim"]
    kinds = {"pre_up": "PreUpProjectionBlock", "post_up": "PostUpProjectionBlock"}
    stack = below(config, "block_stack")
    return config | {
        "class_name": "",
        "input_dim": width,
        "output_dim": width,
        "post_blocks_norm": norm(below(config, "post_blocks_norm"), width),
        "block_stack": _stack(
            stack, width, config["num_blocks"], class_name=kinds[config["block_type"]]
        ),
    }


def _vision_model(given: Given) -> Config:
    config = filled(
        given,
        _short_name="pLSTMVisionModel",
        dim=128,
        num_channels=3,
        patch_size=16,
        num_blocks=12,
        output_shape=(1000,),
        mode="classifier",
        pooling="corners",
        num_heads=8,
        resolution=(224, 224),
        channels_first=False,
        use_pos_embed=True,
        head_weight_init=SMALL,
        head_bias_init=ZEROS,
    )
    width = config["dim"]
    shared = {
        name: config[name]
        for name in ("dim", "num_channels", "resolution", "channels_first", "patch_size")
    }
    grid = [side // config["patch_size"] for side in config["resolution"]]
    position = {"dim": width, "seqlens": grid, "allow_interpolation": True, "learnable": True}
    patches = filled(below(config, "patch_embed"), weight_init=SMALL, bias_init=ZEROS, **shared)
    block = {"class_name": "pLSTMVisionBlock1", "num_heads": config["num_heads"]}
    return config | {
        "class_name": "",
        "norm": norm(below(config, "norm"), width),
        "patch_embed": patches,
        "pos_embed": filled(below(config, "pos_embed"), embed_init=SMALL, **position),
        "block_stack": _stack(below(config, "block_stack"), width, config["num_blocks"], **block),
    }


_MODULES: dict[str, Callable[[Given], Config]] = {
    "pLSTM1DLayer": layer_1d,
    "pLSTM2DLayer": layer_2d,
    "pLSTM2DLayerFused": layer_2d,
    "pLSTMGraphLayer": layer_graph,
    "pLSTMGraphEdgeLayer": layer_graph,
    "PreUpProjectionBlock": _pre_up,
    "PostUpProjectionBlock": _post_up,
    "TransformerBlock": _transformer,
    "pLSTMVisionBlock1": _vision_block,
}
