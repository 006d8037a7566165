"""Exports a module as a StableHLO program that runs without this library; see `jax.export`.

Writing or reading the file of a program needs flatbuffers (extra `interop`).
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
    """Return the specification of an input in which named axes may have any size.

    Args:
        shape: Sizes and names of the axes, such as "batch, length, 64". If a program has several
            inputs, build them together with `jax.export.symbolic_args_specs`.
        dtype: The type of the input.
    """
    return jax.ShapeDtypeStruct(export.symbolic_shape(shape), dtype)


def export_program(
    module: nnx.Module, *inputs: Any, platforms: Sequence[str] | None = None
) -> export.Exported:
    """Export the call of a module as a program that contains the module's arrays.

    The batch axis may be a symbol for every module. The length may be a symbol for modules that go
    through the sequence step by step: pLSTM (which then uses the recurrence if its
    `implementation` is None), recurrent cells and SLiCE.

    Args:
        module: A layer, block or model.
        *inputs: The inputs of the call: arrays, `jax.ShapeDtypeStruct`s or `symbolic_input`s.
        platforms: The platforms that the program is to run on: "cpu", "cuda", "rocm" or "tpu".
            None means the platform of this process.

    Returns:
        The program: `program.call(*inputs)` runs it, `program.mlir_module()` shows it.

    Raises:
        NotImplementedError: If the module needs a number for an axis that is a symbol.
    """
    graph, state = nnx.split(module)

    def call(*inputs: Any) -> Any:
        return nnx.merge(graph, state)(*inputs)

    try:
        # The program may run on other machines, so it must not contain kernels for one kind of
        # device: implementations are chosen as on a CPU.
        with as_on_cpu():
            return export.export(jax.jit(call), platforms=platforms)(*inputs)
    except jax.errors.InconclusiveDimensionOperation as error:
        reason = str(error).splitlines()[0]
        raise NotImplementedError(
            f"an axis has to be a number with this module: {reason}"
        ) from None


def save_program(program: export.Exported, path: str | Path) -> None:
    """Write a program to a file that `jax.export.deserialize` reads, and its checksum to another.

    The checksum file has the same name with `.sha256` added, and the format of `sha256sum`.

    Raises:
        ImportError: If flatbuffers is missing.
    """
    path, data = Path(path), bytes(program.serialize())
    line = f"{hashlib.sha256(data).hexdigest()}  {path.name}\n"
    for target, content in ((path, data), (checksum_path(path), line.encode())):
        with written_beside(target) as temporary:
            temporary.write_bytes(content)


def checksum_path(path: Path) -> Path:
    """Return the path of the file that holds the checksum of a program."""
    return path.with_name(f"{path.name}.sha256")


def load_program(path: str | Path) -> export.Exported:
    """Read a program; `program.call(*inputs)` runs it.

    A damaged program can end the process that reads it. If there is a checksum file, the checksum
    is therefore compared before the program is read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file's checksum is wrong, or the file is not a program.
        ImportError: If flatbuffers is missing.
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
    except Exception as error:  # the reader of flatbuffers raises errors of various types
        raise ValueError(f"{path} is no program of jax.export, or damaged: {error}") from None
