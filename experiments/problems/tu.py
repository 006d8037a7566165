"""Data sets of labelled graphs from files, parted for cross validation."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array

from experiments.presets import recommended_graph_model, recommended_tu_training
from experiments.problems.base import check_kind
from experiments.problems.graphs import common_sizes, labelled
from experiments.problems.labelled import Labelled
from plstm_seq.evaluation import Axis
from plstm_seq.graphs import Sizes
from plstm_seq.models import GraphModel, GraphModelConfig, ModelConfig
from plstm_seq.training import TrainingConfig
from plstm_seq.training.loop import Validate
from tasks.base import check_at_least
from tasks.graphs import Fold, TUData, folds, read_tu


@functools.lru_cache(maxsize=4)
def _read(folder: str) -> TUData:
    return read_tu(folder)


@functools.lru_cache(maxsize=4)
def _folds(folder: str, num_folds: int, seed: int) -> list[Fold]:
    data = _read(folder)
    if data.graph_labels is None:
        raise ValueError(f"the graphs of {data.name} have no class")
    return folds(data.graph_labels, num_folds, seed)


@dataclass(frozen=True)
class TUTask:
    """Classes of graphs, learned on one part of a data set and tested on another.

    *Rule.* What the files say: a class for each graph.

    *Cross validation.* The graphs are dealt to folds as published; fold k is the test set, and of
    the others one part in `num_folds - 1` chooses the epoch.

    *Source.* The format of TUDataset, https://chrsmrrs.github.io/datasets; Pöppel et al., pLSTM,
    arXiv 2506.11997, table 3.

    Args:
        data: the folder that holds the files `NAME_A.txt`, `NAME_graph_indicator.txt`, ...
        fold: which fold is tested, from 0.
        num_folds: how many there are.
        fold_seed: of the dealing.
    """

    data: str = ""
    fold: int = 0
    num_folds: int = 10
    fold_seed: int = 42

    name = "tu"

    def __post_init__(self) -> None:
        if not isinstance(self.data, str) or not self.data:
            raise TypeError(f"data must be the folder of a data set, data=PATH; got {self.data!r}")
        check_at_least("num_folds", self.num_folds, 3)
        check_at_least("fold", self.fold, 0)
        if self.fold >= self.num_folds:
            raise ValueError(f"fold must be below num_folds={self.num_folds}, got {self.fold}")

    @property
    def graphs(self) -> TUData:
        """The data set; read once."""
        return _read(self.data)

    @property
    def part(self) -> Fold:
        """The graphs to train on, to choose by and to test."""
        return _folds(self.data, self.num_folds, self.fold_seed)[self.fold]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes."""
        return self.graphs.labels

    @property
    def chance(self) -> float:
        """The share of the most frequent class."""
        return self.graphs.chance


@dataclass(frozen=True)
class TUSample:
    """Goes through the training graphs in a new order every epoch; the last batch may be short."""

    task: TUTask

    def on_host(self, seed: Sequence[int], step: int, batch: int, size: int) -> Labelled:
        """The batch of a training step."""
        del size
        graphs = self.task.part.train
        epoch, number = divmod(step, -(-len(graphs) // batch))
        order = np.random.default_rng([*seed, epoch]).permutation(graphs)
        return self.some(order[number * batch :][:batch], min(batch, len(graphs)))

    def some(self, graphs: np.ndarray, batch: int) -> Labelled:
        """Given graphs, padded to a batch of a usual size."""
        least = _usual_sizes(self.task, batch)
        return labelled(self.task.graphs.batch(graphs), least, per_node=False)


@functools.lru_cache(maxsize=64)
def _usual_sizes(task: TUTask, batch: int) -> Sizes:
    graphs = np.arange(len(task.graphs))
    random = np.random.default_rng(0)
    tried = [random.choice(graphs, min(batch, len(graphs)), replace=False) for _ in range(8)]
    return common_sizes([task.graphs.batch(chosen) for chosen in tried])


@dataclass(frozen=True)
class TUProblem:
    """One fold of a data set."""

    task: TUTask

    @property
    def axis(self) -> Axis:
        """The test set has one size; there is nothing to grow."""
        return "size"

    @property
    def sample(self) -> TUSample:
        """The training graphs."""
        return TUSample(self.task)

    def draw(self, key: Array, batch: int, size: int) -> Labelled:
        """Test graphs, drawn without one coming twice where there are enough."""
        del size
        tested = self.task.part.test
        seed = np.asarray(jax.random.key_data(key)).ravel()
        random = np.random.default_rng(seed)
        chosen = random.choice(tested, batch, replace=batch > len(tested))
        return self.sample.some(chosen, batch)

    @property
    def examples(self) -> int:
        """The test graphs."""
        return len(self.task.part.test)

    def check_model(self, config: Any) -> None:
        """Refuses also a model that labels nodes."""
        check_kind(config, GraphModelConfig, "graphs")
        if config.pooling == "node":
            raise ValueError("model.pooling: got 'node', expected sum, mean or max for tu")

    def make_model(self, config: Any, rngs: nnx.Rngs, dtype: str | None = None) -> nnx.Module:
        """A `GraphModel` over the features of nodes and edges."""
        self.check_model(config)
        data = self.task.graphs
        edges = 0 if data.edge_features is None else data.edge_features.shape[1]
        return GraphModel(
            node_features=data.node_features.shape[1],
            edge_features=edges,
            config=config,
            output_size=len(data.labels),
            dtype=dtype,
            rngs=rngs,
        )

    def recommended_model(self) -> ModelConfig:
        """See `experiments.presets`."""
        return recommended_graph_model(per_node=False)

    def recommended_training(self) -> TrainingConfig:
        """The published protocol: 100 epochs."""
        return recommended_tu_training(len(self.task.part.train))

    def recommended_sizes(self) -> tuple[int, ...]:
        """One, of no meaning."""
        return (1,)

    def release(self) -> None:
        """The whole data set is in memory."""

    def validate(self, batch: int, size: int) -> Validate:
        """Measures a model on the graphs that choose the epoch, and on those of the test."""
        del size
        part = self.task.part

        def measure(model: Any) -> Mapping[str, float]:
            graphdef, state = nnx.split(model)
            parts = {"accuracy": part.validation, "test_accuracy": part.test}
            return {
                name: self._accuracy(graphdef, state, graphs, batch)
                for name, graphs in parts.items()
            }

        return measure

    def _accuracy(self, graphdef: Any, state: Any, graphs: np.ndarray, batch: int) -> float:
        right = 0
        for start in range(0, len(graphs), batch):
            chosen = graphs[start : start + batch]
            given = self.sample.some(chosen, min(batch, len(self.task.part.train)))
            predicted = np.asarray(_predicted(graphdef, state, given.inputs))
            right += int(((predicted == given.targets) & given.mask).sum())
        return right / len(graphs)


@jax.jit(static_argnums=0)
def _predicted(graphdef: Any, state: Any, inputs: Any) -> Array:
    return nnx.merge(graphdef, state)(inputs).argmax(-1)
