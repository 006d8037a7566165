"""Directed acyclic graphs, drawn or read from files; the graph model learns them."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array

import tasks
from experiments.problems.base import ModelBatch, Problem, by_epochs, check_pooling, outputs_of
from plstm_seq import training
from plstm_seq.evaluation import Axis
from plstm_seq.graphs import LineGraph, Sizes, bucket, line_graph, padded, sizes_of
from plstm_seq.models import GraphInputs, GraphModel, GraphModelConfig, ModelConfig
from plstm_seq.training import HostSample, OptimizerConfig, TrainingConfig
from plstm_seq.training.loop import Validate
from plstm_seq.training.loss import OF_LABELS, OF_NUMBERS, Loss
from tasks.graphs import TUData, TUTask

# The number of batches drawn to see how large they usually are, and the factor by which arrays
# grow if a batch does not fit. Each such growth compiles another program.
_TRIED, _STEP = 32, 1.25


@dataclass(frozen=True)
class GraphSample:
    """Draws graphs of one size on the host, padded so that few programs are compiled."""

    task: tasks.GraphTask

    def on_host(self, seed: Sequence[int], step: int, batch: int, size: int) -> ModelBatch:
        """Returns the batch of a training step."""
        return self._labelled(self.task.draw([*seed, step], batch, size), batch, size)

    def __call__(self, key: Array, batch: int, size: int) -> ModelBatch:
        """Draws a batch for evaluation."""
        return self._labelled(self.task.draw(key, batch, size), batch, size)

    def _labelled(self, drawn: tasks.GraphBatch, batch: int, size: int) -> ModelBatch:
        return labelled(drawn, usual_sizes(self, batch, size), per_node=self.task.per_node)


@functools.lru_cache(maxsize=256)
def usual_sizes(sample: GraphSample, batch: int, size: int) -> Sizes:
    """Returns sizes that hold most batches."""
    return common_sizes([sample.task.draw([n], batch, size) for n in range(_TRIED)])


def common_sizes(batches: Sequence[tasks.GraphBatch]) -> Sizes:
    """Returns sizes that hold each of some batches, and slightly larger batches."""
    width = max(sizes_of(_line_graph(batch)).width for batch in batches)
    each = [sizes_of(_line_graph(batch, width)) for batch in batches]
    return _larger(Sizes(*map(max, zip(*each, strict=True))), 1.05)


def _larger(sizes: Sizes, factor: float) -> Sizes:
    """Multiplies nodes, edges, lines and steps by a factor, and rounds them up."""
    nodes, edges, lines, steps = (math.ceil(factor * size) + 1 for size in sizes[1:5])
    grown = bucket(Sizes(sizes.graphs, nodes, edges, lines, steps, sizes.width))
    return grown._replace(graphs=sizes.graphs)


def _holding(least: Sizes, have: Sizes) -> Sizes:
    """Enlarges sizes step by step until they hold a batch of the sizes `have`."""
    while any(size < own for size, own in zip(least, have, strict=True)):
        least = _larger(least, _STEP)._replace(graphs=max(least.graphs, have.graphs))
    return least


def labelled(batch: tasks.GraphBatch, least: Sizes, *, per_node: bool) -> ModelBatch:
    """Returns a batch as the model reads it.

    Args:
        batch: graphs side by side.
        least: sizes to pad to. A larger batch is padded to the next of a few larger sizes.
        per_node: whether nodes are labelled, instead of graphs.
    """
    graph = _line_graph(batch, least.width)
    graph = padded(graph, _holding(least, sizes_of(graph)))
    nodes, edges = len(graph.graph), len(graph.tail)
    features = None if batch.edges is None else _filled(batch.edges, edges)
    inputs = GraphInputs(graph, _filled(batch.nodes, nodes), features)
    rows = nodes if per_node else len(graph.sizes)
    return ModelBatch(
        inputs,
        _filled(batch.targets, rows),
        _filled(batch.mask, rows),
        _filled(batch.graph, nodes) if per_node else None,
    )


def _line_graph(batch: tasks.GraphBatch, width: int | None = None) -> LineGraph:
    nodes = len(batch.nodes)
    return line_graph(batch.edge_index, nodes, mode="PD", graph=batch.graph, width=width)


def _filled(array: np.ndarray, rows: int) -> Any:
    """Appends zeros up to a number of rows."""
    return np.pad(array, [(0, rows - len(array)), *[(0, 0)] * (array.ndim - 1)])


@dataclass(frozen=True)
class GraphProblem(Problem):
    """A task of `tasks.get_graph`."""

    config = GraphModelConfig
    reads = "graphs"

    @property
    def axis(self) -> Axis:
        """What grows from training to evaluation, as the task says: size or depth."""
        return "depth" if getattr(self.task, "axis", "size") == "depth" else "size"

    @property
    def sample(self) -> HostSample:
        """Draws graphs of one size."""
        return GraphSample(self.task)

    def check_model(self, config: Any) -> None:
        """Also raises an error if the pooling does not suit the labels: of nodes or of graphs.

        Raises:
            ValueError: the model does not suit the task.
        """
        super().check_model(config)
        each = self.task.per_node
        check_pooling(config, self.task, "node", "sum, mean or max", labels_each=each)

    def _model(self, config: Any, **options: Any) -> nnx.Module:
        return GraphModel(vocab_size=len(self.task.vocabulary), config=config, **options)

    def recommended_model(self) -> ModelConfig:
        """Returns a small model of the published kind; it reads every node if nodes have labels."""
        return GraphModelConfig(pooling="node" if self.task.per_node else "mean")

    def recommended_training(self) -> TrainingConfig:
        """Returns a training on graphs of depth 2, then 4; or of 8, then 16 nodes."""
        stages = ((2, 500), (4, 1500)) if self.axis == "depth" else ((8, 500), (16, 1500))
        return TrainingConfig(
            steps=2000,
            optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100),
            curriculum=training.Sizes(stages),
        )

    def recommended_sizes(self) -> tuple[int, ...]:
        """Returns sizes up to four times those of training."""
        return (2, 4, 6, 8, 12, 16) if self.axis == "depth" else (8, 16, 32, 64, 128)


@dataclass(frozen=True)
class TUSample:
    """Goes through the training graphs in a new order every epoch; the last batch may be short."""

    task: TUTask

    def on_host(self, seed: Sequence[int], step: int, batch: int, size: int) -> ModelBatch:
        """Returns the batch of a training step."""
        del size
        graphs = self.task.part.train
        epoch, number = divmod(step, -(-len(graphs) // batch))
        order = np.random.default_rng([*seed, epoch]).permutation(graphs)
        return self.some(order[number * batch :][:batch], min(batch, len(graphs)))

    def __call__(self, key: Array, batch: int, size: int) -> ModelBatch:
        """Draws test graphs, each at most once if there are enough of them."""
        del size
        tested = self.task.part.test
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
        return self.some(random.choice(tested, batch, replace=batch > len(tested)), batch)

    def some(self, graphs: np.ndarray, batch: int) -> ModelBatch:
        """Returns given graphs, padded to a batch of a usual size."""
        data = self.task.graphs
        chosen = data.batch(graphs, self.task.learned)
        return labelled(chosen, _usual_sizes(data, batch), per_node=False)


@functools.lru_cache(maxsize=64)
def _usual_sizes(data: TUData, batch: int) -> Sizes:
    graphs, targets = np.arange(len(data)), np.zeros(len(data), np.float32)
    random = np.random.default_rng(0)
    batch = min(batch, len(graphs))
    # Small batches differ more in their sizes, so more of them are tried.
    count = max(8, 256 // batch)
    tried = [random.choice(graphs, batch, replace=False) for _ in range(count)]
    return common_sizes([data.batch(chosen, targets) for chosen in tried])


@dataclass(frozen=True)
class TUProblem(GraphProblem):
    """A fold of a data set of graphs, with parts for training, validation and test.

    The graphs are evaluated as they are; there is no size that grows.
    """

    task: TUTask

    @property
    def sample(self) -> TUSample:
        """The training graphs; called with a key, it draws test graphs."""
        return TUSample(self.task)

    @property
    def examples(self) -> int:
        """The number of test graphs."""
        return len(self.task.part.test)

    def _model(self, config: Any, **options: Any) -> nnx.Module:
        data = self.task.graphs
        edges = 0 if data.edge_features is None else data.edge_features.shape[1]
        return GraphModel(
            node_features=data.node_features.shape[1],
            edge_features=edges,
            config=config,
            **options,
        )

    @property
    def _outputs(self) -> int:
        return self.task.outputs

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The losses that training may use: those for classes, or those for numbers."""
        return OF_LABELS if self.task.target == "class" else OF_NUMBERS

    def recommended_training(self) -> TrainingConfig:
        """Returns the published training on a TU data set (arXiv 2506.11997, table 3).

        It has 100 epochs in batches of 64; AdamW starts at 1e-3 after a warm-up of 5 epochs, and
        the learning rate follows a cosine.
        """
        optimizer = OptimizerConfig(learning_rate=1e-3)
        graphs = len(self.task.part.train)
        config = by_epochs(graphs, 1, epochs=100, batch_size=64, optimizer=optimizer)
        return dataclasses.replace(config, loss=self.losses[0])

    def recommended_sizes(self) -> tuple[int, ...]:
        """Returns (1,): graphs of a data set are evaluated as they are, at no chosen size."""
        return (1,)

    def validate(self, batch: int, size: int) -> Validate:
        """Returns a function that evaluates a model on the graphs of validation and test."""
        del size
        part = self.task.part

        def measure(model: Any) -> Mapping[str, float]:
            graphdef, state = nnx.split(model)
            return {
                prefix + name: value
                for prefix, graphs in (("", part.validation), ("test_", part.test))
                for name, value in self._measured(graphdef, state, graphs, batch).items()
            }

        return measure

    def _measured(
        self, graphdef: Any, state: Any, graphs: np.ndarray, batch: int
    ) -> dict[str, float]:
        outputs = []
        for start in range(0, len(graphs), batch):
            chosen = graphs[start : start + batch]
            given = self.sample.some(chosen, min(batch, len(self.task.part.train)))
            outputs.append(np.asarray(outputs_of(graphdef, state, given.inputs))[: len(chosen)])
        return self.task.measured(graphs, np.concatenate(outputs))
