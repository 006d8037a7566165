"""Published configurations and parameters from files, and the defaults of what is left out."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from flax import nnx

from plstm_seq.interop.published.config import Arguments, read_config
from plstm_seq.interop.published.dialects import flat, to_nnx
from plstm_seq.interop.published.parameters import load_parameters
from plstm_seq.interop.weights import read_arrays
from plstm_seq.layers.dag import PLSTMDAGLayer

Config = dict[str, Any]


def read_config_file(path: str | Path) -> Arguments:
    """Read a published configuration from YAML or JSON, as its experiments keep them.

    Args:
        path: a file that holds one configuration, with `class_name`; fields left out take the
            published defaults.

    Returns:
        The arguments of our module, which `build` builds.

    Raises:
        ValueError: the file holds no mapping, or fields or values without a counterpart; all of
            them are listed.
        KeyError: a field without a default is missing.
    """
    with Path(path).open(encoding="utf-8") as file:
        document = yaml.safe_load(file)
    if not isinstance(document, Mapping):
        raise ValueError(f"{path}: got {type(document).__name__}, expected a mapping")
    return read_config(complete(document))


def load_published(
    module: nnx.Module, source: str | Path | Mapping[str, Any], key: str | None = None
) -> None:
    """Fill a module with published parameters of any of its frameworks, in place.

    Args:
        module: of the shape that the published configuration gives; also one made by
            `nnx.eval_shape`.
        source: a file that `read_arrays` reads, such as a `state_dict` of torch, or its content;
            linen's variables may be nested.
        key: where in a file of torch the parameters are, such as "state_dict".

    Raises:
        ValueError: the file is damaged, or parameters do not fit; all of them are listed, and the
            module is unchanged.
    """
    parameters = source if isinstance(source, Mapping) else read_arrays(source, key)
    if isinstance(module, PLSTMDAGLayer):  # of torch alone, whose names are the ones to load
        load_parameters(module, flat(parameters))
        return
    layer_norms = any(isinstance(part, nnx.LayerNorm) for _, part in nnx.iter_modules(module))
    load_parameters(module, to_nnx(parameters, layer_norms))


def complete(config: Mapping[str, Any]) -> Config:
    """Return a published configuration with every field, those left out with their defaults.

    The defaults are in `defaults.yaml`. A field that is None, -1 or empty counts as left out.

    Args:
        config: of a layer, a block or a model.

    Raises:
        KeyError: a field without a default is missing.
    """
    class_name = str(config.get("class_name", "")).removesuffix("Config")
    for name in (class_name, config.get("_shortname"), config.get("_short_name")):
        if name in _defaults()["classes"]:
            return _filled({**config, "class_name": name}, {})
    return dict(config)


@cache
def _defaults() -> dict[str, dict[str, Config]]:
    file = Path(__file__).with_name("defaults.yaml")
    return yaml.safe_load(file.read_text(encoding="utf-8"))


class _Scope:
    """A configuration whose fields are filled as they are asked for.

    Args:
        given: the fields that are given; None, -1 and {} count as left out if there is a default.
        defaults: of the fields left out.
        around: the configuration that this one is in.
    """

    def __init__(self, given: Mapping[str, Any], defaults: Config, around: "_Scope | None"):
        self.left_out = {k: v for k, v in defaults.items() if given.get(k) in (None, -1, {})}
        self.fields = {k: v for k, v in given.items() if k not in self.left_out}
        self._around = around

    def __getitem__(self, name: str) -> Any:
        if name in self.left_out:
            self.fields[name] = self.value(self.left_out.pop(name))
        if name in self.fields:
            return self.fields[name]
        if self._around is None:
            raise KeyError(name)
        return self._around[name]

    def value(self, default: Any) -> Any:
        """Return a default, with the values of the names in it that begin with `$`."""
        if isinstance(default, str) and default.startswith("$"):
            name = default.removeprefix("$")
            return _COMPUTED[name](self) if name in _COMPUTED else self[name]
        if isinstance(default, dict):
            values = {name: self.value(inside) for name, inside in default.items()}
            return {name: value for name, value in values.items() if value is not None}
        return default


def _filled(given: Mapping[str, Any], defaults: Config, around: _Scope | None = None) -> Config:
    """Return a configuration filled with defaults of its own, and then with those of its class."""
    if given.get("class_name") == "Identity":  # a norm that is none
        return dict(given)
    parts = defaults.get("parts", {})
    own = {name: value for name, value in defaults.items() if name not in ("parts", "when")}
    scope = _Scope(given, own, around)
    config = scope.fields
    for name in own:
        config[name] = scope[name]
    for name, part in parts.items():
        if config.get(name) or scope.value(part.get("when", True)):
            config[name] = _filled(config.get(name) or {}, part, scope)
    of_class = _defaults()["classes"].get(config.get("class_name", ""))
    if of_class is not None and of_class is not defaults:  # once more, for its class
        return _filled(config, of_class, around)
    initializers = _defaults()["initializers"]
    for name, value in config.items():
        if isinstance(value, Mapping):
            config[name] = initializers.get(value.get("class_name", ""), {}) | dict(value)
    return config


def _inner_features(scope: _Scope) -> int:
    """Return the features inside a pre-up-projection block, a multiple of its unit."""
    unit = scope["projection_round"]
    return int((scope["projection_scaling"] * scope["input_dim"] - 1) // unit + 1) * unit


def _modes(scope: _Scope) -> tuple[str, str]:
    first, second = scope["block_mode"]
    return first, second


_BLOCKS = {"pre_up": "PreUpProjectionBlock", "post_up": "PostUpProjectionBlock"}
# What else `$name` stands for in the defaults.
_COMPUTED: dict[str, Callable[[_Scope], Any]] = {
    "block_class": lambda scope: _BLOCKS[scope["block_type"]],
    "first_mode": lambda scope: _modes(scope)[0],
    "second_mode": lambda scope: _modes(scope)[1],
    "gates": lambda scope: len(scope["orientation_combinations"]) * scope["num_heads"],
    "grid": lambda scope: [side // scope["patch_size"] for side in scope["resolution"]],
    "head_features": lambda scope: scope["input_dim"] // scope["num_heads"],
    "inner_features": _inner_features,
    "inner_sub_heads": lambda scope: _inner_features(scope) // 4,
    "key_apart": lambda scope: not scope["tie_query_key"],
    "key_features": lambda scope: scope["input_dim"] // scope["JK"] // scope["num_heads"],
    "mixer_class": lambda scope: scope["interaction_module_name"].replace("D", "DLayer", 1),
    "mixer_mode": lambda scope: "D" if "2D" in scope["interaction_module_name"] else None,
    "value_features": lambda scope: scope["input_dim"] // scope["JV"] // scope["num_heads"],
}
