"""The tensors of a PyTorch file, read without PyTorch and without running what the file says.

`torch.save` writes a zip archive. Its `data.pkl` is a pickle in which every tensor is a call of
`torch._utils._rebuild_tensor_v2` on a storage, and `data/KEY` holds the bytes of a storage. A
pickle may name any function to be called: only the few below are known here, and what stands for
them makes plain records.
"""

import io
import math
import pickle
import pickletools
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

_TYPES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}

# What reading may end with where bytes are wrong.
_DAMAGE = (
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RuntimeError,  # too deeply nested, or an encrypted archive
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)


# How deeply tuples and lists may be put into each other, and numbers of a tensor that repeats its
# storage.
_DEEPEST, _EXPANDED = 100, 1 << 24


class _StorageType(NamedTuple):
    name: str


class _Storage(NamedTuple):
    type: _StorageType
    key: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Knows dictionaries, numbers, strings and tensors; refuses every other name."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        # Functions are made anew for every file: a pickle may set attributes of what it names.
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module_name, global_name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(
                storage, offset, shape, strides
            )
        if (module_name, global_name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module_name == "torch" and global_name in _TYPES:
            return _StorageType(global_name)
        raise ValueError(
            f"it names {module_name}.{global_name}: only tensors are read; save "
            "module.state_dict(), not the module"
        )

    def persistent_load(self, pid: Any, /) -> Any:
        _, kind, key, _, size = pid
        return _Storage(kind, key, size)


def read_torch(path: str | Path, key: str | None = None) -> dict[str, np.ndarray]:
    """Read the tensors of a file that `torch.save(module.state_dict(), path)` wrote.

    Args:
        path: the file.
        key: where the tensors are, if the file holds a dictionary of dictionaries, such as
            "state_dict"; None: the file holds tensors alone.

    Returns:
        Name -> array, in the types of the file.

    Raises:
        ValueError: the file is not such an archive, holds something other than tensors, or is
            damaged.
    """
    path = Path(path)
    path.stat()  # a file that is not there says so itself
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path}: no zip archive; files of PyTorch before 1.6 are to be saved again with a "
            "newer one"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            root, content = _content(archive)
            tensors = _tensors(content, key)
            order = _byte_order(archive, root)
            return {name: _array(archive, root, order, each) for name, each in tensors.items()}
    except _DAMAGE as error:
        raise ValueError(f"{path}: {str(error) or type(error).__name__}") from None


def _content(archive: zipfile.ZipFile) -> tuple[str, Any]:
    """The archive's root folder, and what its pickle holds."""
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("an archive with one data.pkl is expected")
    content = archive.read(pickles[0])
    _check_depth(content)
    return pickles[0].removesuffix("data.pkl"), _Unpickler(io.BytesIO(content)).load()


def _check_depth(content: bytes) -> None:
    """Refuses things put into each other more deeply than a dictionary of tensors is.

    Such are hashed and freed by recursion in C, which ends the process.
    """
    run = 0
    for opcode, _, _ in pickletools.genops(content):
        run = run + 1 if opcode.name.startswith(("TUPLE", "EMPTY_TUPLE", "LIST")) else 0
        if run > _DEEPEST:
            raise ValueError("its contents are nested too deeply")


def _tensors(content: Any, key: str | None) -> dict[str, _Tensor]:
    if key is not None:
        if not isinstance(content, Mapping) or key not in content:
            raise ValueError(f"there is no {key!r} in it")
        content = content[key]
    if not isinstance(content, Mapping):
        raise ValueError(f"a dictionary of tensors is expected, got {type(content).__name__}")
    others = [str(name) for name, value in content.items() if not isinstance(value, _Tensor)]
    if others:
        raise ValueError(
            f"these are no tensors: {', '.join(others)}; where they are dictionaries of tensors, "
            "name one with key="
        )
    return {str(name): tensor for name, tensor in content.items()}


def _byte_order(archive: zipfile.ZipFile, root: str) -> str:
    """`<` or `>`; files without a note of it are of little-endian machines."""
    name = f"{root}byteorder"
    noted = archive.read(name) if name in archive.namelist() else b"little"
    return ">" if noted == b"big" else "<"


def _array(archive: zipfile.ZipFile, root: str, order: str, tensor: _Tensor) -> np.ndarray:
    storage = tensor.storage
    dtype = np.dtype(_TYPES[storage.type.name])
    data = np.frombuffer(archive.read(f"{root}data/{storage.key}"), np.uint8)
    last = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    inside = min((tensor.offset, *tensor.shape, *tensor.strides)) >= 0
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, dtype)
    # What shares memory with itself (`expand`) may hold more than its storage, but not anything.
    many = math.prod(tensor.shape) > max(data.size, _EXPANDED)
    if not inside or (last + 1) * dtype.itemsize > data.size or many:
        raise ValueError(f"a tensor of shape {tensor.shape} does not lie in its storage")
    if order == ">":
        data = data.reshape(-1, dtype.itemsize)[:, ::-1].reshape(-1)
    flat = np.ascontiguousarray(data[: data.size // dtype.itemsize * dtype.itemsize]).view(dtype)
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides).copy()
