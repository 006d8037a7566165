"""Exports runs to formats that other programs read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax.numpy as jnp
from jax import ShapeDtypeStruct, export

from experiments import scalars
from experiments.config import ConfigError, to_document
from experiments.problems.base import shapes_of
from experiments.run import Run, RunError, as_run
from plstm_seq.graphs import sizes_of
from plstm_seq.interop.export import export_program, save_program, symbolic_input
from plstm_seq.interop.export_graph import export_graph_program
from plstm_seq.interop.weights import save_weights
from plstm_seq.models import GraphModelConfig, VisionModelConfig
from tasks.graphs import TUTask

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

Format = Literal["safetensors", "stablehlo"]
Weights = Literal["last", "average"]


def export_run(
    run: Run | str | Path,
    path: str | Path,
    *,
    form: str | None = None,
    size: int | None = None,
    graphs: int | None = None,
    platforms: Sequence[str] | None = None,
    weights: str = "last",
) -> Path:
    """Writes a trained model for use without this library.

    A safetensors file holds every array by its path in the model. Its metadata hold the config, the
    symbols and the labels, and, for a model that predicts attributes, the scaling that turns
    outputs into their units.

    A StableHLO file holds a program of `jax.export`. It maps a batch of any number of tokens
    [batch, length] or grids [batch, size, size] to logits. For a graph model it maps a fixed number
    of graphs, padded to sizes that hold most batches, to logits or attributes (see
    `plstm_seq.interop.export_graph`).

    Args:
        run: a run, or its folder or name.
        path: the file to write.
        form: "safetensors" or "stablehlo"; None: the path's ending.
        size: the length, the side of images and grids, or the size or depth of graphs that the
            program takes; None: any length of sequences, otherwise the largest size in training.
        graphs: the number of graphs that the program takes; None: the batch size of training.
        platforms: the platforms that the program is to run on, such as "cpu" and "cuda"; None:
            the one that this process runs on.
        weights: "last", or "average" for the averaged parameters (`training.average`).

    Raises:
        ConfigError: the format or the weights are unknown, or an option does not suit the format
            or the run.
        RunError: the run has no checkpoint or no such weights, or its model cannot be exported
            like this.
        ImportError: a package is missing.
    """
    run, path = as_run(run), Path(path)
    form = path.suffix.removeprefix(".") if form is None else form
    if form not in get_args(Format):
        raise ConfigError(f"format: got {form!r}, expected one of {', '.join(get_args(Format))}")
    if form == "safetensors" and any(option is not None for option in (size, graphs, platforms)):
        raise ConfigError("sizes and platforms are for programs, not for safetensors")
    if graphs is not None and not isinstance(run.config.model, GraphModelConfig):
        raise ConfigError("a number of graphs is for graph models; this one takes any batch")
    if size is not None and isinstance(run.task, TUTask):
        raise ConfigError("a size is for graphs that are drawn; those of files have their own")
    for platform in platforms or ():
        if platform not in _PLATFORMS:
            raise ConfigError(
                f"platform: got {platform!r}, expected one of {', '.join(_PLATFORMS)}"
            )
    if weights not in get_args(Weights):
        known = ", ".join(get_args(Weights))
        raise ConfigError(f"weights: got {weights!r}, expected one of {known}")
    model = run.model if weights == "last" else run.averaged_model
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "safetensors":
        save_weights(model, path, _metadata(run) | {"weights": weights})
        return path
    try:
        program = _program(run, model, size, graphs, platforms)
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
        "checkpoint": {**run.checkpoint._asdict(), "passed_over": [*run.checkpoint.passed_over]},
    }
    if not run.has_accuracy:
        texts["attributes"] = {name: x.tolist() for name, x in run.task.scaling._asdict().items()}
    return {name: scalars.dump(value) for name, value in texts.items()}


def _program(
    run: Run, model: Any, size: int | None, graphs: int | None, platforms: Sequence[str] | None
) -> export.Exported:
    if not isinstance(run.config.model, GraphModelConfig):
        return export_program(model, _inputs(run, size), platforms=platforms)
    training = run.config.training
    size = training.curriculum.longest if size is None else size
    drawn = shapes_of(run.problem, training.batch_size if graphs is None else graphs, size)
    mean, std = (0.0, 1.0) if run.has_accuracy else run.task.scaling
    return export_graph_program(
        model, sizes_of(drawn.inputs.graph), factor=std, offset=mean, platforms=platforms
    )


def _inputs(run: Run, size: int | None) -> ShapeDtypeStruct:
    """Returns the shape and type of the sequences, images or grids that the program reads."""
    if not isinstance(run.config.model, VisionModelConfig):
        return symbolic_input(f"batch, {'length' if size is None else size}", jnp.int32)
    side = run.config.training.curriculum.longest if size is None else size
    if hasattr(run.task, "vocabulary"):
        return symbolic_input(f"batch, {side}, {side}", jnp.int32)
    return symbolic_input(f"batch, {side}, {side}, 3", jnp.uint8)
