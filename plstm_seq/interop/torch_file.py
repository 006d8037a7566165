"""Reads the tensors of a PyTorch file without PyTorch and without running code from the file.

`torch.save` writes a zip archive. Its `data.pkl` is a pickle in which every tensor is a call of
`torch._utils._rebuild_tensor_v2` on a storage, and `data/KEY` holds the bytes of a storage. A
pickle is a program: Python's own reader calls the functions that the pickle names, and a pickle
with very deep nesting can make it crash the process. This reader goes through the instructions one
by one, knows only the few that a dictionary of tensors needs, and builds plain records.
"""

import math
import pickle
import pickletools
import struct
import zipfile
import zlib
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

# The errors that reading may raise if the file is damaged.
_DAMAGE = (
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,  # a position before the beginning of the file
    OverflowError,
    RuntimeError,  # the content is nested too deeply, or the archive is encrypted
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    zlib.error,
)


# The tensors of a file may take at most `_TIMES` times the bytes of the file (several tensors may
# share a storage) or `_ALLOWED` bytes, whichever is more.
_TIMES, _ALLOWED = 4, 1 << 24

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = (
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
)
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


class _StorageType(NamedTuple):
    name: str


class _Storage(NamedTuple):
    type: _StorageType
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _dictionary(*items: Any) -> dict[Any, Any]:
    if items:
        raise ValueError(f"an ordered dictionary: got {len(items)} arguments, expected none")
    return {}


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or not all(type(each) is int for each in numbers):
        kinds = ", ".join(type(each).__name__ for each in (storage, *numbers[:8]))
        raise ValueError(f"a tensor: got {kinds}, expected a storage and whole numbers")
    if not 0 <= min(numbers) <= max(numbers) < 1 << 62 or len(shape) != len(strides):
        raise ValueError(f"a tensor of shape {shape} does not lie in its storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


# The functions that a pickle may name, and the functions that are called here in their place.
_FUNCTIONS = {
    ("collections", "OrderedDict"): _dictionary,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


def _named(module_name: str, name: str) -> Any:
    if (module_name, name) in _FUNCTIONS:
        return _FUNCTIONS[module_name, name]
    if module_name == "torch" and name in _TYPES:
        return _StorageType(name)
    raise ValueError(
        f"it names {module_name}.{name}: only tensors are read; save module.state_dict(), not the "
        "module"
    )


def _unpickled(content: bytes) -> Any:
    """Return the content of a pickle of dictionaries, lists, tuples, numbers, texts and tensors."""
    stack: list[Any] = []
    below: list[list[Any]] = []  # the stack as it was at each mark
    memo: dict[int, Any] = {}

    def marked() -> list[Any]:
        nonlocal stack
        items, stack = stack, below.pop()
        return items

    def set_items(pairs: list[Any]) -> None:
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | int):  # hashing a deeply nested key may recurse too deeply
                raise ValueError(f"a name is text, got {type(key).__name__}")
            stack[-1][key] = value

    argument: Any
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name in ("PROTO", "FRAME", "STOP"):
            continue
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name == "TUPLE":
            items = tuple(marked())
            stack.append(items)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "APPEND":
            value = stack.pop()
            stack[-1].append(value)
        elif name == "APPENDS":
            items = marked()
            stack[-1].extend(items)
        elif name == "SETITEM":
            pair = [stack.pop(-2), stack.pop()]
            set_items(pair)
        elif name == "SETITEMS":
            set_items(marked())
        elif name == "GLOBAL":
            stack.append(_named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_named(stack.pop(-2), stack.pop()))
        elif name == "REDUCE":
            function, arguments = stack.pop(-2), stack.pop()
            if not any(function is known for known in _FUNCTIONS.values()):
                raise ValueError("it calls something that is no function")
            stack.append(function(*arguments))
        elif name == "BINPERSID":
            _, kind, key, *_ = stack.pop()
            if not isinstance(kind, _StorageType) or not isinstance(key, str):
                kinds = f"{type(kind).__name__} and {type(key).__name__}"
                raise ValueError(f"a storage: got {kinds}, expected a known type and a name")
            stack.append(_Storage(kind, key))
        elif name == "BUILD":  # the metadata of a state_dict, which is not needed
            stack.pop()
        else:
            raise ValueError(f"a dictionary of tensors has no {name}")
    return stack.pop()


def read_torch(path: str | Path, key: str | None = None) -> dict[str, np.ndarray]:
    """Read the tensors of a file that `torch.save(module.state_dict(), path)` wrote.

    Args:
        path: The file.
        key: The key of the dictionary of tensors, such as "state_dict", if the file holds a
            dictionary of dictionaries. None means that the file holds only tensors.

    Returns:
        The arrays by their names, in the types that they have in the file.

    Raises:
        ValueError: If the file is not such an archive, holds something other than tensors, or is
            damaged or compressed; or if its tensors take more than 16 MiB and also more than four
            times the bytes of the file.
    """
    path = Path(path)
    path.stat()  # raises FileNotFoundError if there is no such file
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path}: no zip archive; files of PyTorch before 1.6 are to be saved again with a "
            "newer one"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members, size = archive.infolist(), path.stat().st_size
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("its members are compressed; torch.save does not compress them")
            if sum(member.file_size for member in members) > size:
                raise ValueError("its members overlap")
            root, content = _content(archive)
            tensors = _tensors(content, key)
            _check_sizes(tensors, size)
            order = _byte_order(archive, root)
            used = {tensor.storage.key for tensor in tensors.values()}
            stored = {key: archive.read(f"{root}data/{key}") for key in used}
            return {
                name: _array(stored[each.storage.key], order, each)
                for name, each in tensors.items()
            }
    except _DAMAGE as error:
        raise ValueError(f"{path}: {str(error)[:300] or type(error).__name__}") from None


def _content(archive: zipfile.ZipFile) -> tuple[str, Any]:
    """Return the root folder of an archive and the content of its pickle."""
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"got {len(pickles)} files data.pkl, expected one")
    return pickles[0].removesuffix("data.pkl"), _unpickled(archive.read(pickles[0]))


def _check_sizes(tensors: Mapping[str, _Tensor], size: int) -> None:
    allowed, total = max(_TIMES * size, _ALLOWED), 0
    for tensor in tensors.values():
        total += math.prod(tensor.shape) * np.dtype(_TYPES[tensor.storage.type.name]).itemsize
        if total > allowed:
            raise ValueError(f"its tensors take more than {allowed} bytes, the file {size}")


def _tensors(content: Any, key: str | None) -> dict[str, _Tensor]:
    if key is not None:
        if not isinstance(content, Mapping) or key not in content:
            raise ValueError(f"there is no {key!r} in it")
        content = content[key]
    if not isinstance(content, Mapping):
        raise ValueError(f"got {type(content).__name__}, expected a dictionary of tensors")
    others = [str(name) for name, value in content.items() if not isinstance(value, _Tensor)]
    if others:
        names = ", ".join(name[:30] for name in others[:5]) + (", ..." if len(others) > 5 else "")
        raise ValueError(
            f"these are no tensors: {names}; where they are dictionaries of tensors, name one with "
            "key="
        )
    return {str(name): tensor for name, tensor in content.items()}


def _byte_order(archive: zipfile.ZipFile, root: str) -> str:
    """Return `<` or `>`; a file that does not record its byte order is little-endian."""
    name = f"{root}byteorder"
    noted = archive.read(name) if name in archive.namelist() else b"little"
    return ">" if noted == b"big" else "<"


def _array(stored: bytes, order: str, tensor: _Tensor) -> np.ndarray:
    storage = tensor.storage
    dtype = np.dtype(_TYPES[storage.type.name])
    data = np.frombuffer(stored, np.uint8)
    last = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, dtype)
    if (last + 1) * dtype.itemsize > data.size:
        raise ValueError(f"a tensor of shape {tensor.shape} does not lie in its storage")
    if order == ">":
        data = data.reshape(-1, dtype.itemsize)[:, ::-1].reshape(-1)
    flat = np.ascontiguousarray(data[: data.size // dtype.itemsize * dtype.itemsize]).view(dtype)
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides).copy()
