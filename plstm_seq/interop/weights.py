"""Reads and writes files of named arrays, such as the weights of our modules.

`.npz` and `.safetensors` files can be written and read; files of PyTorch can only be read.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from plstm_seq.files import written_beside
from plstm_seq.interop.torch_file import read_torch

# The key of the checksum in the header of a `.safetensors` file, where the metadata is, too.
CHECKSUM = "content_sha256"
_TORCH = (".pt", ".pth", ".bin", ".ckpt")


def named_arrays(module: nnx.Module) -> dict[str, Array]:
    """Return every array of a module by its dotted path, such as `blocks.0.mixer.source.bias`.

    These are the parameters, and the numbers that the module keeps as `Hyperparameter`s.
    """
    return {name: variable.get_value() for name, (_, variable) in _variables(module).items()}


def save_weights(
    module: nnx.Module, path: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write the arrays of a module to a file.

    Args:
        module: Any module.
        path: The file, which ends with `.safetensors` or `.npz`; see `write_arrays`.
        metadata: Texts for the header of a `.safetensors` file, for instance the config.
    """
    write_arrays(path, named_arrays(module), metadata)


def load_weights(module: nnx.Module, source: str | Path | Mapping[str, ArrayLike]) -> None:
    """Fill a module with saved arrays, in place.

    Args:
        module: A module with the same names and shapes as the one that was saved; it may be made
            by `nnx.eval_shape`.
        source: A file that `save_weights` wrote, or its arrays by name. Each array is cast to the
            type of the array that it replaces.

    Raises:
        ValueError: If a name is unknown or missing, or a shape does not fit. The message lists
            every such name, and the module is unchanged.
    """
    arrays = source if isinstance(source, Mapping) else read_arrays(source)
    variables = _variables(module)
    problems = [f"{name}: not in the module" for name in arrays.keys() - variables.keys()]
    filled = []
    for name, (path, variable) in variables.items():
        if name not in arrays:
            problems.append(f"{name}: not among the arrays")
            continue
        array = jnp.asarray(arrays[name], variable.dtype)
        if array.shape != variable.shape:
            problems.append(f"{name}: got shape {array.shape}, expected {variable.shape}")
        filled.append((path, variable.replace(array)))
    if problems:
        raise ValueError("arrays do not fit the module:\n  " + "\n  ".join(sorted(problems)))
    nnx.update(module, nnx.from_flat_state(filled))


def _variables(module: nnx.Module) -> dict[str, tuple[tuple, nnx.Variable]]:
    flat = nnx.to_flat_state(nnx.state(module))
    return {".".join(map(str, path)): (path, variable) for path, variable in flat}


def read_arrays(path: str | Path, key: str | None = None) -> dict[str, np.ndarray]:
    """Read a file of named arrays without executing anything in it.

    Args:
        path: An `.npz` file, a `.safetensors` file (extra `interop`), or a `state_dict` that
            `torch.save` wrote, which ends with `.pt`, `.pth`, `.bin` or `.ckpt`.
        key: The key of the tensors in a file of PyTorch, such as "state_dict"; see `read_torch`.

    Returns:
        The arrays by their names, in the types that they have in the file.

    Raises:
        ValueError: If the file's name has another ending, or the file is damaged or holds
            something other than named arrays.
        ImportError: If the package that reads the file is missing.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix == ".safetensors":
        load_file = _safetensors().load_file
        path.stat()  # raises FileNotFoundError if there is no such file
        try:
            arrays = load_file(path)
        except Exception as error:  # the package raises an exception type of its own
            raise ValueError(f"{path}: {error}") from None
        head = _head(path)
        written = head.pop(CHECKSUM, None)
        if written not in (None, _checksum(arrays, head)):
            raise ValueError(f"{path} is damaged: its content is not what was written")
        return arrays
    if path.suffix in _TORCH:
        return read_torch(path, key)
    endings = ", ".join((".npz", ".safetensors", *_TORCH))
    raise ValueError(f"{path}: the ending is {path.suffix!r}, expected one of {endings}")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array without a name")
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: {error}") from None


def write_arrays(
    path: str | Path,
    arrays: Mapping[str, ArrayLike],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a file of named arrays.

    Args:
        path: The file, which ends with `.npz` or `.safetensors` (extra `interop`).
        arrays: The arrays by their names.
        metadata: Texts for the header of a `.safetensors` file, or None. The header also gets a
            checksum of the arrays and texts (`content_sha256`).

    Raises:
        ValueError: If the file's name has another ending, or if bfloat16 arrays or metadata are
            to be written to `.npz`, which cannot hold them.
        ImportError: If the package that writes the file is missing.
    """
    path = Path(path)
    # The copies are contiguous, because safetensors writes an array's memory without regard to its
    # strides.
    plain = {name: np.array(array, order="C") for name, array in arrays.items()}
    if path.suffix == ".safetensors":
        head = {**(metadata or {}), CHECKSUM: _checksum(plain, metadata or {})}
        with written_beside(path) as temporary:
            _safetensors().save_file(plain, temporary, metadata=head)
        return
    if path.suffix != ".npz":
        raise ValueError(f"{path}: the ending is {path.suffix!r}, expected .npz or .safetensors")
    foreign = [name for name, array in plain.items() if array.dtype.kind == "V"]
    if foreign or metadata is not None:
        what = f"the type of {', '.join(foreign)}" if foreign else "metadata"
        raise ValueError(f"{path}: .npz cannot hold {what}; take .safetensors")
    with written_beside(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **plain)  # pyright: ignore[reportArgumentType]


def _checksum(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of the metadata and of each array's name, type, shape and bytes."""
    total = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the texts in the header of a `.safetensors` file, without the checksum."""
    return {name: text for name, text in _head(path).items() if name != CHECKSUM}


def _head(path: str | Path) -> dict[str, str]:
    with _safetensors().safe_open(path, framework="np") as file:
        return dict(file.metadata() or {})


def _safetensors() -> Any:
    """Import the package; the error says how to install it."""
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            "files of safetensors need the package: pip install 'plstm-seq[interop]'"
        ) from None
    return safetensors.numpy
