"""Exports a graph model as a StableHLO program that takes a dictionary of arrays of fixed sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, export
from jax.typing import ArrayLike

from plstm_seq.graphs import LineGraph, Sizes, padded
from plstm_seq.graphs.combine import AXES
from plstm_seq.interop.export import export_program
from plstm_seq.models import GraphInputs, GraphModel


class _OfArrays(nnx.Module):
    """A graph model that takes a dictionary of arrays, and scales and shifts its outputs."""

    def __init__(self, model: GraphModel, factor: ArrayLike, offset: ArrayLike):
        self.model = model
        self.factor = nnx.Variable(jnp.asarray(factor, jnp.float32))
        self.offset = nnx.Variable(jnp.asarray(offset, jnp.float32))

    def __call__(self, arrays: Mapping[str, Array]) -> Array:
        index = {name: arrays.get(name) for name in LineGraph._fields}
        graph: Any = LineGraph(**index)  # pyright: ignore[reportArgumentType]
        outputs = self.model(GraphInputs(graph, arrays["nodes"], arrays.get("edges")))
        return self.factor[...] * outputs + self.offset[...]


def export_graph_program(
    model: GraphModel,
    sizes: Sizes,
    *,
    factor: ArrayLike = 1.0,
    offset: ArrayLike = 0.0,
    platforms: Sequence[str] | None = None,
) -> export.Exported:
    """Export a graph model for graphs that are padded to fixed sizes.

    Args:
        model: The model.
        sizes: The total sizes of the graphs of one call after padding, as `graphs.padded` takes
            them.
        factor: The factor by which the outputs are multiplied, a number or an array [V].
        offset: The number or array [V] that is added after the multiplication.
        platforms: See `export_program`.

    Returns:
        The program. It takes one dictionary (see `graph_arrays`) and returns the outputs [G, V], or
        [N, V] with the pooling "node". The outputs of padding are meaningless.
    """
    arrays = {name: _int32(*shape) for name, shape in _index_shapes(sizes).items()}
    if not any(mode == "D" for mode, _ in model.config.ways):
        del arrays["multitree"]
    if model.node_features is None:
        arrays["nodes"] = _int32(sizes.nodes)
    else:
        arrays["nodes"] = jax.ShapeDtypeStruct((sizes.nodes, model.node_features), jnp.float32)
    if model.edge_features:
        arrays["edges"] = jax.ShapeDtypeStruct((sizes.edges, model.edge_features), jnp.float32)
    return export_program(_OfArrays(model, factor, offset), arrays, platforms=platforms)


def graph_arrays(program: export.Exported, inputs: GraphInputs) -> dict[str, np.ndarray]:
    """Pad graphs to the sizes of a program, and return the dictionary that the program takes.

    Args:
        program: A program made by `export_graph_program`.
        inputs: Graphs without padding, in numpy or jax arrays.

    Returns:
        The index arrays of `LineGraph` by their names, int32 (`multitree` only if a layer is in
        D-mode), `nodes` [N, F] or [N], and `edges` [E, J] if the model reads edge features.

    Raises:
        ValueError: If the graphs do not fit the sizes, are padded already, lack their multitree
            or lack edge features that the program reads.
        TypeError: If the features have a type that the program does not read.
    """
    (shapes,), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    own: Any = inputs.graph
    N, E, P, G = (shapes[name].shape[0] for name in ("graph", "tail", "before", "sizes"))
    graph = padded(own, Sizes(G, N, E, P, *shapes["blocks"].shape))
    arrays = {
        **graph._asdict(),
        "nodes": _filled("nodes", inputs.nodes, len(own.graph), N),
        "edges": _filled("edges", inputs.edges, len(own.tail), E),
    }
    for name, shape in shapes.items():
        got = None if arrays[name] is None else arrays[name].shape
        if got != shape.shape:
            raise ValueError(f"{name}: got {got}, expected {shape.shape} after padding")
    return {
        name: arrays[name].astype(shape.dtype, casting="same_kind")
        for name, shape in shapes.items()
    }


def _filled(name: str, features: Any, rows: int, size: int) -> np.ndarray | None:
    """Pad the features of nodes or edges with rows of zeros."""
    if features is None:
        return None
    array = np.asarray(features)
    if len(array) != rows:
        raise ValueError(f"{name}: got {len(array)} rows, expected {rows}, those of the graph")
    return np.pad(array, [(0, size - rows), *[(0, 0)] * (array.ndim - 1)])


def _int32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def _index_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays of a `LineGraph` of these sizes."""
    shapes = {name: (getattr(sizes, axis.length),) for name, axis in AXES.items()}
    return {**shapes, "blocks": (sizes.steps, sizes.width)}
