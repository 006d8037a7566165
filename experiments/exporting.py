"""Runs in formats that others read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import jax.numpy as jnp
import yaml
from jax import ShapeDtypeStruct

from experiments.config import ConfigError, to_document
from experiments.run import Run, RunError
from plstm_seq.interop.export import export_program, save_program, symbolic_input
from plstm_seq.interop.weights import save_weights
from plstm_seq.models import SequenceModelConfig, VisionModelConfig

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

Format = Literal["safetensors", "stablehlo"]


def export_run(
    run: Run,
    path: str | Path,
    *,
    form: str | None = None,
    size: int | None = None,
    platforms: Sequence[str] | None = None,
) -> Path:
    """Writes a trained model for use without this library.

    safetensors: every array by its path in the model; config, symbols and labels stand in the
    file's metadata. StableHLO: a program of `jax.export`, tokens [batch, length] or grids [batch,
    size, size] to logits, that takes any batch.

    Args:
        run: what is exported.
        path: the file.
        form: "safetensors" or "stablehlo"; None: the path's ending.
        size: the length, or the side of images and grids, of the program; None: any length, and
            the largest side in training.
        platforms: what the program is to run on, such as "cpu" and "cuda"; None: what this
            process runs on.

    Raises:
        ConfigError: the format is unknown, or an option is not for it.
        RunError: the run has no checkpoint, or its model cannot be exported like this.
        ImportError: a package is missing.
    """
    path = Path(path)
    form = path.suffix.removeprefix(".") if form is None else form
    if form not in get_args(Format):
        raise ConfigError(f"format {form!r}: expected one of {', '.join(get_args(Format))}")
    if form == "safetensors" and not (size is None and platforms is None):
        raise ConfigError("a size and platforms are for programs, not for safetensors")
    for platform in platforms or ():
        if platform not in _PLATFORMS:
            raise ConfigError(f"platform {platform!r}: one of {', '.join(_PLATFORMS)} is expected")
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "safetensors":
        save_weights(run.model, path, _metadata(run))
        return path
    try:
        program = export_program(run.model, _inputs(run, size), platforms=platforms)
    except NotImplementedError as error:
        raise RunError(f"{error}; try it with --size, a number") from None
    save_program(program, path)
    return path


def _metadata(run: Run) -> dict[str, str]:
    symbols = getattr(run.task, "vocabulary", None)
    texts = {
        "config": to_document(run.config),
        "labels": list(run.task.labels),
        **({} if symbols is None else {"vocabulary": list(symbols)}),
    }
    return {name: yaml.safe_dump(value, sort_keys=False) for name, value in texts.items()}


def _inputs(run: Run, size: int | None) -> ShapeDtypeStruct:
    """What the program reads."""
    model = run.config.model
    if isinstance(model, SequenceModelConfig):
        return symbolic_input(f"batch, {'length' if size is None else size}", jnp.int32)
    if not isinstance(model, VisionModelConfig):
        raise RunError("programs of graphs are not exported; take safetensors")
    side = run.config.training.curriculum.longest if size is None else size
    if hasattr(run.task, "vocabulary"):
        return symbolic_input(f"batch, {side}, {side}", jnp.int32)
    return symbolic_input(f"batch, {side}, {side}, 3", jnp.uint8)
