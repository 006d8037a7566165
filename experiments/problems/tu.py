"""Data sets of graphs with classes or numbers from files, parted for cross validation."""

from __future__ import annotations

import dataclasses
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
from experiments.problems.tu_task import TUTask
from plstm_seq.evaluation import Axis
from plstm_seq.graphs import Sizes
from plstm_seq.models import GraphModel, GraphModelConfig, ModelConfig
from plstm_seq.training import TrainingConfig
from plstm_seq.training.loop import Validate
from plstm_seq.training.step import OF_LABELS, OF_NUMBERS, Loss
from tasks.graphs import TUData


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
        data = self.task.graphs
        chosen = data.batch(graphs, self.task.learned)
        return labelled(chosen, _usual_sizes(data, batch), per_node=False)


@functools.lru_cache(maxsize=64)
def _usual_sizes(data: TUData, batch: int) -> Sizes:
    graphs, targets = np.arange(len(data)), np.zeros(len(data), np.float32)
    random = np.random.default_rng(0)
    batch = min(batch, len(graphs))
    # The fewer graphs a batch has, the more batches differ.
    count = max(8, 256 // batch)
    tried = [random.choice(graphs, batch, replace=False) for _ in range(count)]
    return common_sizes([data.batch(chosen, targets) for chosen in tried])


@dataclass(frozen=True)
class TUProblem:
    """A fold of a data set of graphs: what is trained on, validated and tested."""

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
            output_size=self.task.outputs,
            dtype=dtype,
            rngs=rngs,
        )

    def recommended_model(self) -> ModelConfig:
        """See `experiments.presets`."""
        return recommended_graph_model(per_node=False)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The losses that training may use: those of classes, or those of numbers."""
        return OF_LABELS if self.task.target == "class" else OF_NUMBERS

    def recommended_training(self) -> TrainingConfig:
        """The published protocol: 100 epochs."""
        training = recommended_tu_training(len(self.task.part.train))
        return dataclasses.replace(training, loss=self.losses[0])

    def recommended_sizes(self) -> tuple[int, ...]:
        """Return (1,): the graphs of a data set are evaluated as they are, at no size of choice."""
        return (1,)

    def release(self) -> None:
        """The whole data set is in memory."""

    def validate(self, batch: int, size: int) -> Validate:
        """Measures a model on the graphs that choose the epoch, and on those of the test."""
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
            outputs.append(np.asarray(_outputs(graphdef, state, given.inputs))[: len(chosen)])
        return self.task.measured(graphs, np.concatenate(outputs))


@jax.jit(static_argnums=0)
def _outputs(graphdef: Any, state: Any, inputs: Any) -> Array:
    return nnx.merge(graphdef, state)(inputs)
