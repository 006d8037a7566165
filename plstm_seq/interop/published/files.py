"""Published configurations and parameters from files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from flax import nnx

from plstm_seq.interop.arrays import read_arrays
from plstm_seq.interop.published.config import Arguments, read_config
from plstm_seq.interop.published.defaults import complete
from plstm_seq.interop.published.dialects import flat, to_nnx
from plstm_seq.interop.published.parameters import load_parameters
from plstm_seq.layers.dag import PLSTMDAGLayer


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
