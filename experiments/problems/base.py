"""What training and evaluation need to know of a task, and the batches that they take."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import jax
from flax import nnx
from jax import Array

from plstm_seq.evaluation import Axis
from plstm_seq.evaluation.size import Draw
from plstm_seq.models import ModelConfig
from plstm_seq.training import HostSample, Sample, TrainingConfig
from plstm_seq.training.loop import Validate
from plstm_seq.training.loss import OF_LABELS, Loss


class ModelBatch(NamedTuple):
    """A batch as a model reads it, for training and evaluation.

    Attributes:
        inputs: what the model reads.
        targets: label ids, `[B]`, `[B, ...]`, or `[N]` for the nodes of graphs; or numbers to
            predict, `[B, A]`.
        mask: which targets are scored: bool in the shape of `targets`, or `[B]` for numbers.
        owner: the graph of each node where nodes are labelled, int `[N]`.
    """

    inputs: Any
    targets: Any
    mask: Any
    owner: Any = None


@dataclass(frozen=True)
class Problem(abc.ABC):
    """A task with what it needs to be learned; a subclass for each kind of task.

    Where a subclass does not say otherwise, any number of examples can be drawn, what is predicted
    are labels, and examples of several sizes are measured.

    Example:
        >>> from experiments.problems import Problem, make_task, problem_of
        >>> problem: Problem = problem_of(make_task("parity"))
        >>> problem.reads, problem.axis, problem.recommended_training().steps
        ('sequences', 'length', 2000)
    """

    task: Any

    config: ClassVar[type]
    """The class of the models' configs."""

    reads: ClassVar[str]
    """What a model of that class reads, in words."""

    @property
    def axis(self) -> Axis:
        """What grows when generalisation is measured: the length, size or depth of examples."""
        return "size"

    @property
    @abc.abstractmethod
    def sample(self) -> Sample | HostSample:
        """Draws a batch for training."""

    @property
    def draw(self) -> Draw:
        """Draws a batch of one size for evaluation.

        If it is `InOrder`, evaluation goes through the examples in their order.
        """
        return cast(Draw, self.sample)

    @property
    def examples(self) -> int | None:
        """Number of examples that there are to evaluate on; None: any number can be drawn."""
        return None

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The losses that suit what is predicted; the first is the default."""
        return OF_LABELS

    def validate(self, batch: int, size: int) -> Validate | None:  # noqa: ARG002
        """What measures a model while it trains; None: nothing does.

        Examples that are drawn are new at every step, so that training measures itself on them.

        Args:
            batch: number of examples in a batch.
            size: the size of the examples, the largest of training.
        """
        return None

    def release(self) -> None:  # noqa: B027 (most have nothing to let go of)
        """Frees what was read ahead, once no more batches are needed."""

    def check_model(self, config: Any) -> None:
        """Refuses the config of a model that does not suit the task.

        Raises:
            ValueError: the model reads or predicts something else.
        """
        if not isinstance(config, self.config):
            kind = getattr(self.config, "kind", "")
            raise ValueError(
                f"model: kind {config.kind!r} does not read {self.reads}; model={kind} does"
            )

    def make_model(self, config: Any, rngs: nnx.Rngs, dtype: str | None = None) -> nnx.Module:
        """The model that a config describes, for this task's inputs and labels.

        It computes in `dtype`; None: in the type of its parameters.

        Raises:
            ValueError: as `check_model`, or sizes do not fit each other.
        """
        self.check_model(config)
        return self._model(config, output_size=self._outputs, dtype=dtype, rngs=rngs)

    @abc.abstractmethod
    def _model(self, config: Any, **options: Any) -> nnx.Module:
        """The model, given what all kinds of models take."""

    @property
    def _outputs(self) -> int:
        """How many numbers the model gives for each label."""
        return len(self.task.labels)

    @abc.abstractmethod
    def recommended_model(self) -> ModelConfig:
        """The model that a run has by default."""

    @abc.abstractmethod
    def recommended_training(self) -> TrainingConfig:
        """The training that a run has by default."""

    @abc.abstractmethod
    def recommended_sizes(self) -> tuple[int, ...]:
        """The lengths, sizes or depths that are measured by default."""


def check_pooling(config: Any, task: Any, each: str, others: str, *, labels_each: bool) -> None:
    """Refuses a model that pools where every cell or node has a label, or the reverse.

    Args:
        config: of the model.
        task: that the model is for.
        each: the pooling that gives every cell or node a label.
        others: those that give one label to all of them.
        labels_each: whether the task labels every cell or node.

    Raises:
        ValueError: it is one.
    """
    if (config.pooling == each) != labels_each:
        expected = each if labels_each else others
        raise ValueError(
            f"model.pooling: got {config.pooling!r}, expected {expected} for {task.name}"
        )


def shapes_of(problem: Problem, batch: int, size: int) -> Any:
    """Shapes and types of a batch; nothing is computed where the device draws it."""

    def draw(seed: int) -> Any:
        drawn = problem.draw(jax.random.key(seed), batch, size)
        return ModelBatch(drawn.inputs, drawn.targets, drawn.mask)

    if isinstance(problem.sample, HostSample):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), draw(0))
    return jax.eval_shape(draw, 0)


@jax.jit(static_argnums=0)
def outputs_of(graphdef: Any, state: Any, inputs: Any) -> Array:
    """What a model, split into its definition and its state, gives for some inputs."""
    return nnx.merge(graphdef, state)(inputs)
