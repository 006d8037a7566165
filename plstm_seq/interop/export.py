"""A module as a StableHLO program that runs without this library; see `jax.export`.

Writing and reading a program needs flatbuffers (extra `interop`).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from jax import export
from jax.typing import DTypeLike

from plstm_seq.files import written_beside
from plstm_seq.ops.device import as_on_cpu


def symbolic_input(shape: str, dtype: DTypeLike) -> jax.ShapeDtypeStruct:
    """Return an input some of whose axes may have any size.

    Args:
        shape: sizes and names of axes, such as "batch, length, 64". With several inputs of one
            program, build them together: `jax.export.symbolic_args_specs`.
        dtype: its type.
    """
    return jax.ShapeDtypeStruct(export.symbolic_shape(shape), dtype)


def export_program(
    module: nnx.Module, *inputs: Any, platforms: Sequence[str] | None = None
) -> export.Exported:
    """Export the call of a module, its arrays inside the program.

    The batch axis may be a symbol with every module, the length with those that go along it step by
    step: pLSTM (with `implementation=None` it then takes the recurrence), recurrent cells, SLiCE.

    Args:
        module: a layer, block or model.
        *inputs: what it is called with: arrays, `jax.ShapeDtypeStruct`s or `symbolic_input`s.
        platforms: what the program is to run on, "cpu", "cuda", "rocm" or "tpu"; None: what this
            process runs on.

    Returns:
        The program: `program.call(*inputs)` runs it, `program.mlir_module()` shows it.

    Raises:
        NotImplementedError: an axis has to be a number with this module.
    """
    graph, state = nnx.split(module)

    def call(*inputs: Any) -> Any:
        return nnx.merge(graph, state)(*inputs)

    try:
        # Kernels for one kind of device are in no program that other machines may run: the forms
        # are chosen as on a CPU.
        with as_on_cpu():
            return export.export(jax.jit(call), platforms=platforms)(*inputs)
    except jax.errors.InconclusiveDimensionOperation as error:
        reason = str(error).splitlines()[0]
        raise NotImplementedError(
            f"an axis has to be a number with this module: {reason}"
        ) from None


def save_program(program: export.Exported, path: str | Path) -> None:
    """Write a program to a file that `jax.export.deserialize` reads, and its checksum beside it.

    The checksum goes to the file's name with `.sha256` behind it, in the form of `sha256sum`.

    Raises:
        ImportError: flatbuffers is missing.
    """
    path, data = Path(path), bytes(program.serialize())
    line = f"{hashlib.sha256(data).hexdigest()}  {path.name}\n"
    for target, content in ((path, data), (checksum_path(path), line.encode())):
        with written_beside(target) as temporary:
            temporary.write_bytes(content)


def checksum_path(path: Path) -> Path:
    """The file beside a program that has its checksum."""
    return path.with_name(f"{path.name}.sha256")


def load_program(path: str | Path) -> export.Exported:
    """Read a program; `program.call(*inputs)` runs it.

    A damaged program can end the process that reads it, so its checksum, where it lies beside the
    file, is compared first.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not what was written, or no program.
        ImportError: flatbuffers is missing.
    """
    path = Path(path)
    data, beside = path.read_bytes(), checksum_path(path)
    if beside.exists():
        written = beside.read_text(encoding="utf-8", errors="replace").split(maxsplit=1)[:1]
        if written != [hashlib.sha256(data).hexdigest()]:
            raise ValueError(f"{path} is damaged: its checksum is not that of {beside.name}")
    try:
        return export.deserialize(bytearray(data))
    except ImportError:
        raise
    except Exception as error:  # of any type that the reader of flatbuffers has
        raise ValueError(f"{path} is no program of jax.export, or damaged: {error}") from None
