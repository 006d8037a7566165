"""Directed acyclic graphs: the graph model, depths or sizes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import nnx
from jax import Array

import tasks
from experiments.presets import recommended_graph_model, recommended_graph_training
from experiments.problems.base import Drawn, check_kind
from experiments.problems.labelled import Labelled
from plstm_seq.evaluation import Axis
from plstm_seq.graphs import LineGraph, Sizes, bucket, line_graph, padded, sizes_of
from plstm_seq.models import GraphInputs, GraphModel, GraphModelConfig, ModelConfig
from plstm_seq.training import TrainingConfig

# Batches that are drawn to see how large they usually are, and by how much larger arrays are made
# where a batch does not fit: each such step is another program.
_TRIED, _STEP = 32, 1.25


@dataclass(frozen=True)
class GraphSample:
    """Draws graphs of one size on the host, padded so that few programs are compiled."""

    task: tasks.GraphTask

    def on_host(self, seed: Sequence[int], step: int, batch: int, size: int) -> Labelled:
        """The batch of a training step."""
        return self._labelled(self.task.draw([*seed, step], batch, size), batch, size)

    def __call__(self, key: Array, batch: int, size: int) -> Labelled:
        """A batch for evaluation."""
        return self._labelled(self.task.draw(key, batch, size), batch, size)

    def _labelled(self, drawn: tasks.GraphBatch, batch: int, size: int) -> Labelled:
        return labelled(drawn, usual_sizes(self, batch, size), per_node=self.task.per_node)


@functools.lru_cache(maxsize=256)
def usual_sizes(sample: GraphSample, batch: int, size: int) -> Sizes:
    """Sizes that hold most batches."""
    drawn = [sample.task.draw([number], batch, size) for number in range(_TRIED)]
    return common_sizes(drawn)


def common_sizes(batches: Sequence[tasks.GraphBatch]) -> Sizes:
    """Sizes that hold each of some batches, and those that are a little larger."""
    width = max(sizes_of(_line_graph(batch)).width for batch in batches)
    each = [sizes_of(_line_graph(batch, width)) for batch in batches]
    return _larger(Sizes(*map(max, zip(*each, strict=True))), 1.05)


def _larger(sizes: Sizes, factor: float) -> Sizes:
    """Nodes, edges, lines and steps times a factor, and rounded up."""
    nodes, edges, lines, steps = (math.ceil(factor * size) + 1 for size in sizes[1:5])
    grown = bucket(Sizes(sizes.graphs, nodes, edges, lines, steps, sizes.width))
    return grown._replace(graphs=sizes.graphs)


def _holding(least: Sizes, have: Sizes) -> Sizes:
    """The first of a ladder of sizes that is large enough."""
    while any(size < own for size, own in zip(least, have, strict=True)):
        least = _larger(least, _STEP)._replace(graphs=max(least.graphs, have.graphs))
    return least


def labelled(batch: tasks.GraphBatch, least: Sizes, *, per_node: bool) -> Labelled:
    """A batch as the model reads it.

    Args:
        batch: graphs side by side.
        least: sizes to pad to; a batch that is larger is padded to the next of a few more.
        per_node: whether nodes are labelled, and not graphs.
    """
    graph = _line_graph(batch, least.width)
    graph = padded(graph, _holding(least, sizes_of(graph)))
    nodes, edges = len(graph.graph), len(graph.tail)
    features = None if batch.edges is None else _filled(batch.edges, edges)
    inputs = GraphInputs(graph, _filled(batch.nodes, nodes), features)
    rows = nodes if per_node else len(graph.sizes)
    return Labelled(
        inputs,
        _filled(batch.targets, rows),
        _filled(batch.mask, rows),
        _filled(batch.graph, nodes) if per_node else None,
    )


def _line_graph(batch: tasks.GraphBatch, width: int | None = None) -> LineGraph:
    nodes = len(batch.nodes)
    return line_graph(batch.edge_index, nodes, mode="PD", graph=batch.graph, width=width)


def _filled(array: np.ndarray, rows: int) -> Any:
    """Lengthened by zeros."""
    return np.pad(array, [(0, rows - len(array)), *[(0, 0)] * (array.ndim - 1)])


@dataclass(frozen=True)
class GraphProblem(Drawn):
    """A task of `tasks.get_graph`."""

    task: tasks.GraphTask

    @property
    def axis(self) -> Axis:
        """What the task says."""
        return "depth" if self.task.axis == "depth" else "size"

    @property
    def sample(self) -> GraphSample:
        """Graphs of one size."""
        return GraphSample(self.task)

    @property
    def draw(self) -> GraphSample:
        """Graphs of one size."""
        return self.sample

    def check_model(self, config: Any) -> None:
        """Refuses also a model that pools where every node has a label, or the reverse."""
        check_kind(config, GraphModelConfig, "graphs")
        if (config.pooling == "node") != self.task.per_node:
            expected = "node" if self.task.per_node else "sum, mean or max"
            raise ValueError(
                f"model.pooling: got {config.pooling!r}, expected {expected} for {self.task.name}"
            )

    def make_model(self, config: Any, rngs: nnx.Rngs, dtype: str | None = None) -> nnx.Module:
        """A `GraphModel` over nodes that are symbols."""
        self.check_model(config)
        return GraphModel(
            vocab_size=len(self.task.vocabulary),
            config=config,
            output_size=len(self.task.labels),
            dtype=dtype,
            rngs=rngs,
        )

    def recommended_model(self) -> ModelConfig:
        """See `experiments.presets`."""
        return recommended_graph_model(per_node=self.task.per_node)

    def recommended_training(self) -> TrainingConfig:
        """See `experiments.presets`."""
        return recommended_graph_training(depth=self.axis == "depth")

    def recommended_sizes(self) -> tuple[int, ...]:
        """Up to four times those of training."""
        return (2, 4, 6, 8, 12, 16) if self.axis == "depth" else (8, 16, 32, 64, 128)
