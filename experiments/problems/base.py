"""What training and evaluation need to know about a task, and the batches that they use."""

from __future__ import annotations

import abc
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import jax
from flax import nnx
from jax import Array

from plstm_seq.evaluation import Axis
from plstm_seq.evaluation.size import Draw
from plstm_seq.training import HostSample, OptimizerConfig, Sample, Sizes, TrainingConfig
from plstm_seq.training.loop import Validate
from plstm_seq.training.loss import OF_LABELS, Loss

if TYPE_CHECKING:
    from plstm_seq.models import ModelConfig


class ModelBatch(NamedTuple):
    """A batch as a model reads it, for training and evaluation.

    Attributes:
        inputs: what the model reads.
        targets: label ids, `[B]`, `[B, ...]`, or `[N]` for the nodes of graphs; or numbers to
            predict, `[B, A]`.
        mask: which targets are scored: bool in the shape of `targets`, or `[B]` for numbers.
        owner: the graph of each node, int `[N]`, if nodes are labelled.
    """

    inputs: Any
    targets: Any
    mask: Any
    owner: Any = None


@dataclass(frozen=True)
class Problem(abc.ABC):
    """A task with what is needed to learn it; there is a subclass for each kind of task.

    Unless a subclass overrides it, any number of examples can be drawn, labels are predicted, and
    examples of several sizes are evaluated.

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
    """What such a model reads, as a word for messages."""

    @property
    def axis(self) -> Axis:
        """What grows when generalisation is evaluated: the length, size or depth of examples."""
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
        """The number of examples to evaluate on; None: any number can be drawn."""
        return None

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The losses that suit the targets; the first one is the default."""
        return OF_LABELS

    def validate(self, batch: int, size: int) -> Validate | None:  # noqa: ARG002
        """Returns a function that evaluates a model during training, or None if there is none.

        Tasks whose examples are drawn have none: every training batch is new, so that its accuracy
        already is an evaluation.

        Args:
            batch: the number of examples in a batch.
            size: the size of the examples, the largest one in training.
        """
        return None

    def release(self) -> None:  # noqa: B027 (most have nothing to let go of)
        """Frees what was read ahead, when no more batches are needed."""

    def check_model(self, config: Any) -> None:
        """Raises an error for the config of a model that does not suit the task.

        Raises:
            ValueError: the model reads or predicts something else.
        """
        if not isinstance(config, self.config):
            kind = getattr(self.config, "kind", "")
            raise ValueError(
                f"model: kind {config.kind!r} does not read {self.reads}; model={kind} does"
            )

    def make_model(self, config: Any, rngs: nnx.Rngs, dtype: str | None = None) -> nnx.Module:
        """Makes the model that a config describes, for this task's inputs and labels.

        It computes in `dtype`; None: in the type of its parameters.

        Raises:
            ValueError: see `check_model`, or sizes do not fit each other.
        """
        self.check_model(config)
        return self._model(config, output_size=self._outputs, dtype=dtype, rngs=rngs)

    @abc.abstractmethod
    def _model(self, config: Any, **options: Any) -> nnx.Module:
        """Makes the model, with the options that all kinds of models have."""

    @property
    def _outputs(self) -> int:
        """The number of outputs of the model for each target."""
        return len(self.task.labels)

    @abc.abstractmethod
    def recommended_model(self) -> ModelConfig:
        """Returns the model that a run has by default."""

    @abc.abstractmethod
    def recommended_training(self) -> TrainingConfig:
        """Returns the training that a run has by default."""

    @abc.abstractmethod
    def recommended_sizes(self) -> tuple[int, ...]:
        """Returns the lengths, sizes or depths that are evaluated by default."""


def check_pooling(config: Any, task: Any, each: str, others: str, *, labels_each: bool) -> None:
    """Raises an error for a model that pools where every cell or node has a label, or the reverse.

    Args:
        config: the config of the model.
        task: the task of the model.
        each: the pooling that gives a label to every cell or node.
        others: the poolings that give one label to all of them, as the error names them.
        labels_each: whether the task labels every cell or node.

    Raises:
        ValueError: the pooling does not suit the task.
    """
    if (config.pooling == each) != labels_each:
        expected = each if labels_each else others
        raise ValueError(
            f"model.pooling: got {config.pooling!r}, expected {expected} for {task.name}"
        )


# The least number of steps between checkpoints: epochs of small data sets have only a few steps.
_LEAST_APART = 500


def by_epochs(
    examples: int, size: int, *, epochs: int, batch_size: int, optimizer: OptimizerConfig
) -> TrainingConfig:
    """Returns a training of some epochs: five warm up, and each ends with an evaluation.

    Args:
        examples: the number of training examples.
        size: the size of each example.
        epochs: the number of epochs.
        batch_size: the number of examples per step.
        optimizer: the optimizer, whose warm-up is replaced.
    """
    epoch = -(-examples // batch_size)
    steps = epochs * epoch
    return TrainingConfig(
        steps=steps,
        batch_size=batch_size,
        validate_every=epoch,
        checkpoint_every=max(epoch, _LEAST_APART),
        optimizer=replace(optimizer, warmup_steps=5 * epoch),
        curriculum=Sizes(((size, steps),)),
        solved=None,
    )


def shapes_of(problem: Problem, batch: int, size: int) -> Any:
    """Returns shapes and types of a batch; nothing is computed if the device draws batches."""

    def draw(seed: int) -> Any:
        drawn = problem.draw(jax.random.key(seed), batch, size)
        return ModelBatch(drawn.inputs, drawn.targets, drawn.mask)

    if isinstance(problem.sample, HostSample):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), draw(0))
    return jax.eval_shape(draw, 0)


@jax.jit(static_argnums=0)
def outputs_of(graphdef: Any, state: Any, inputs: Any) -> Array:
    """Computes the outputs of a model, which is split into its definition and its state."""
    return nnx.merge(graphdef, state)(inputs)
