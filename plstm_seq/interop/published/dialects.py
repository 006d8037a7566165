"""Translates parameter names between the frameworks of the published code: nnx, linen and torch.

`load_parameters` takes the names of nnx. According to the published conversion functions, the names
and axes differ as follows:

| nnx | linen | torch |
| --- | --- | --- |
| `block_stack.block0` | `block_stack.blocks_0` | `block_stack.blocks.0` |
| `norm.norm.scale` | the same | `norm.scale` |
| `upproj.kernel` [in, out] | the same | `upproj.weight` [out, in] |
| `conv._conv.kernel` [K, 1, I] | the same | `conv._conv.weight` [I, 1, K] |
| `token_embedding.embedding` | the same | `token_embedding.weight` |
| `multiheadattention.query.kernel`, ... | the same | `qkv.weight`, `outproj.weight` |
| `cls_token` [1, 1, D] | [D, 1] | [D, 1] |

The published graph layers exist only in torch, and `load_parameters` takes their torch names.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from jax.typing import ArrayLike

Dialect = Literal["nnx", "linen", "torch"]

# The name of a block in a stack, in any framework, and the form that each framework uses.
_BLOCK = re.compile(r"(^|\.)block_stack\.(?:blocks[._]|block)(\d+)\.")
_BLOCK_NAMES = {"nnx": "block", "linen": "blocks_", "torch": "blocks."}
# The parameters of a norm. In nnx a layer wraps the actual norm, which adds `.norm` to the path.
_TORCH_NORM = re.compile(r"((?:^|\.)(?:\w*norm\d?))\.(scale|bias)$")
_NNX_NORM = re.compile(r"((?:^|\.)(?:\w*norm\d?))\.norm\.(scale|bias)$")
_ATTENTION = re.compile(r"(^|\.)multiheadattention\.(query|key|value|out)\.(kernel|bias)$")
_PACKED = re.compile(r"(^|\.)(qkv|outproj)\.(weight|bias)$")
# The parts that torch packs into one array, in this order.
_QKV = ("query", "key", "value")
# How to permute the axes of a torch weight into those of an nnx kernel, and back, by the number of
# axes: 2 for matrices, 3 for filters in 1D, 4 for filters in 2D.
_TO_KERNEL = {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0)}
_TO_WEIGHT = {2: (1, 0), 3: (2, 1, 0), 4: (3, 2, 0, 1)}


def flat(variables: Mapping[str, Any]) -> dict[str, ArrayLike]:
    """Flatten nested variables, such as linen's `{"params": {...}}`, to arrays by dotted path.

    The paths leave out the collection's name `params`, and have a dot for each `/` between names.
    """
    named: dict[str, ArrayLike] = {}
    for name, value in variables.items():
        path = str(name).replace("/", ".").removeprefix("params.")
        if isinstance(value, Mapping):
            below = flat(value)
            named |= below if name == "params" else {f"{path}.{k}": v for k, v in below.items()}
        else:
            named[path] = value
    return named


def to_nnx(parameters: Mapping[str, Any], layer_norms: bool = False) -> dict[str, np.ndarray]:
    """Return published parameters of any of the three frameworks by their names in nnx.

    Args:
        parameters: The arrays by their names, or nested variables of linen.
        layer_norms: Whether the norms with biases are layer norms. It matters for parameters of
            torch: in nnx the bias of a layer norm is named `norm.norm.bias`, and that of an RMS
            norm `norm.bias`.

    Returns:
        The arrays by their names in nnx. Attention kernels from torch have the shape
        [in, features of all heads], because torch's arrays do not show the number of heads.
    """
    named: dict[str, np.ndarray] = {}
    for name, array in flat(parameters).items():
        name, array = _with_blocks(name, "nnx"), np.asarray(array)
        if _PACKED.search(name):
            named |= _unpacked(name, array)
        elif name.endswith("token_embedding.weight"):
            named[f"{name.removesuffix('weight')}embedding"] = array
        elif name.endswith(".weight") and array.ndim in _TO_KERNEL:
            kernel = array.transpose(_TO_KERNEL[array.ndim])
            named[f"{name.removesuffix('weight')}kernel"] = kernel
        elif (norm := _TORCH_NORM.search(name)) and not _NNX_NORM.search(name):
            below = norm[2] == "scale" or layer_norms
            if below:
                named[_TORCH_NORM.sub(r"\1.norm.\2", name)] = array
            else:
                named[name] = array.reshape(-1)
        else:
            named[name] = array.reshape(1, 1, -1) if name == "cls_token" else array
    return named


def from_nnx(parameters: Mapping[str, ArrayLike], dialect: Dialect) -> dict[str, np.ndarray]:
    """Return published parameters with the names and the order of axes of a framework.

    Args:
        parameters: The arrays by their names in nnx.
        dialect: The framework. Names for linen are dotted paths.

    Raises:
        ValueError: If the dialect is unknown.
    """
    if dialect not in get_args(Dialect):
        raise ValueError(f"dialect: got {dialect!r}, expected one of {get_args(Dialect)}")
    arrays = {name: np.asarray(array) for name, array in parameters.items()}
    if dialect == "nnx":
        return arrays
    if "cls_token" in arrays:
        arrays["cls_token"] = arrays["cls_token"].reshape(-1, 1)
    if dialect == "linen":
        return {_with_blocks(name, dialect): array for name, array in arrays.items()}
    named: dict[str, np.ndarray] = {}
    attention: dict[str, np.ndarray] = {}
    for nnx_name, array in arrays.items():
        name = _with_blocks(nnx_name, dialect)
        if _ATTENTION.search(name):
            attention[name] = array
        elif name.endswith(".kernel"):
            named[f"{name.removesuffix('kernel')}weight"] = array.transpose(_TO_WEIGHT[array.ndim])
        elif name.endswith("token_embedding.embedding"):
            named[f"{name.removesuffix('embedding')}weight"] = array
        else:
            # In torch the biases of RMS norms over heads have the shape of their scales.
            scale = arrays.get(f"{nnx_name.removesuffix('bias')}norm.scale")
            shape = array.shape if scale is None else scale.shape
            named[_NNX_NORM.sub(r"\1.\2", name)] = array.reshape(shape)
    return named | _packed(attention)


def _with_blocks(name: str, dialect: Dialect) -> str:
    """Replace the blocks of stacks in a name by the form that a framework uses."""
    return _BLOCK.sub(rf"\1block_stack.{_BLOCK_NAMES[dialect]}\2.", name)


def _unpacked(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """Split torch's `qkv` or `outproj` array into the parts of an attention layer in nnx."""
    *above, packed, kind = name.split(".")
    parts = ("out",) if packed == "outproj" else _QKV
    pieces = np.split(array, len(parts))
    end = "kernel" if kind == "weight" else "bias"
    names = (".".join((*above, "multiheadattention", part, end)) for part in parts)
    return {name: piece.T for name, piece in zip(names, pieces, strict=True)}


def _packed(attention: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Pack the parts of attention layers into torch's `qkv` and `outproj` arrays."""
    named: dict[str, np.ndarray] = {}
    for name, array in attention.items():
        *above, below, part, end = name.split(".")
        kind = "weight" if end == "kernel" else "bias"
        if part == "out":
            rows = array.reshape(-1, array.shape[-1]).T if end == "kernel" else array
            named[".".join((*above, "outproj", kind))] = rows
        elif part == "query":
            parts = [attention[".".join((*above, below, each, end))] for each in _QKV]
            shape = (len(array), -1) if end == "kernel" else (-1,)
            named[".".join((*above, "qkv", kind))] = np.concatenate(
                [each.reshape(shape).T for each in parts]
            )
    return named
