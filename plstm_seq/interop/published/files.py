"""Reads published configurations and parameters from files, and fills in the published defaults."""

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
        path: A file that holds one configuration, with `class_name`. Fields that are left out get
            the published defaults.

    Returns:
        The arguments of our module, whose method `build` builds it.

    Raises:
        ValueError: If the file does not hold a mapping, or if fields or values have no
            counterpart. The message lists all of them.
        KeyError: If a field without a default is missing.
    """
    with Path(path).open(encoding="utf-8") as file:
        document = yaml.safe_load(file)
    if not isinstance(document, Mapping):
        raise ValueError(f"{path}: got {type(document).__name__}, expected a mapping")
    return read_config(complete(document))


def load_published(
    module: nnx.Module, source: str | Path | Mapping[str, Any], key: str | None = None
) -> None:
    """Fill a module, in place, with parameters of the published nnx, linen or torch code.

    Args:
        module: A module of the shape that the published configuration gives; it may be made by
            `nnx.eval_shape`.
        source: A file that `read_arrays` reads, such as a `state_dict` of torch, or its arrays by
            name. Variables of linen may be nested.
        key: The key of the parameters in a file of torch, such as "state_dict".

    Raises:
        ValueError: If the file is damaged, or parameters do not fit. The message lists all of
            them, and the module is unchanged.
    """
    parameters = source if isinstance(source, Mapping) else read_arrays(source, key)
    if isinstance(module, PLSTMDAGLayer):  # published only in torch; loaded by its torch names
        load_parameters(module, flat(parameters))
        return
    layer_norms = any(isinstance(part, nnx.LayerNorm) for _, part in nnx.iter_modules(module))
    load_parameters(module, to_nnx(parameters, layer_norms))


def complete(config: Mapping[str, Any]) -> Config:
    """Return a published configuration with all its fields, adding the defaults of absent ones.

    The defaults are in `defaults.yaml`. A field that has a default, and that is None, -1 or empty,
    counts as absent.

    Args:
        config: The configuration of a layer, a block or a model.

    Raises:
        KeyError: If a field without a default is missing.
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
    """A configuration whose defaults are computed when their fields are asked for.

    Args:
        given: The fields that are given. None, -1 and {} count as left out if there is a default.
        defaults: The defaults of the fields that are left out.
        around: The configuration that contains this one; its fields can be asked for, too.
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
        """Return a default in which each name that begins with `$` is replaced by its value."""
        if isinstance(default, str) and default.startswith("$"):
            name = default.removeprefix("$")
            return _COMPUTED[name](self) if name in _COMPUTED else self[name]
        if isinstance(default, dict):
            values = {name: self.value(inside) for name, inside in default.items()}
            return {name: value for name, value in values.items() if value is not None}
        return default


def _filled(given: Mapping[str, Any], defaults: Config, around: _Scope | None = None) -> Config:
    """Fill a configuration with the defaults given, and then with the defaults of its class."""
    if given.get("class_name") == "Identity":  # a norm that does nothing has no fields
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
    if of_class is not None and of_class is not defaults:  # fill it again, with those of its class
        return _filled(config, of_class, around)
    initializers = _defaults()["initializers"]
    for name, value in config.items():
        if isinstance(value, Mapping):
            config[name] = initializers.get(value.get("class_name", ""), {}) | dict(value)
    return config


def _inner_features(scope: _Scope) -> int:
    """Return the number of features inside a pre-up-projection block, rounded up to its unit."""
    unit = scope["projection_round"]
    return int((scope["projection_scaling"] * scope["input_dim"] - 1) // unit + 1) * unit


def _modes(scope: _Scope) -> tuple[str, str]:
    first, second = scope["block_mode"]
    return first, second


_BLOCKS = {"pre_up": "PreUpProjectionBlock", "post_up": "PostUpProjectionBlock"}
# The values of those `$name`s in the defaults that are computed rather than read from a field.
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
