"""What training and evaluation ask of any kind of task, and the batches that they take."""

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
        targets: label ids, `[B]`, `[B, ...]`, or `[N]` of the nodes of graphs; or numbers to
            predict, `[B, A]`.
        mask: bool like `targets`, what is scored; `[B]` of numbers.
        owner: int `[N]`, the graph of each node, where nodes are labelled.
    """

    inputs: Any
    targets: Any
    mask: Any
    owner: Any = None


@dataclass(frozen=True)
class Problem(abc.ABC):
    """A task with what goes with its kind: sequences, grids or graphs.

    Unless a subclass says otherwise, any number of examples can be drawn, the examples have labels,
    and generalisation is measured along their size.

    Example:
        What a run asks of its task, whatever its kind.

        >>> from experiments.problems import Problem, make_task, problem_of
        >>> problem: Problem = problem_of(make_task("grid_parity"))
        >>> problem.axis, problem.recommended_model().kind
        ('size', 'vision')
    """

    task: Any

    config: ClassVar[type]
    """The class of the models' configs."""

    reads: ClassVar[str]
    """What such a model reads, in words."""

    @property
    def axis(self) -> Axis:
        """What grows when generalisation is measured."""
        return "size"

    @property
    @abc.abstractmethod
    def sample(self) -> Sample | HostSample:
        """Draws a batch for training."""

    @property
    def draw(self) -> Draw:
        """Draws a batch of one size for evaluation; if it is `InOrder`, that is used there."""
        return cast(Draw, self.sample)

    @property
    def examples(self) -> int | None:
        """How many examples there are to evaluate on; None: as many as one draws."""
        return None

    @property
    def losses(self) -> tuple[Loss, ...]:
        """Those that fit what is predicted, the first where nothing else is said."""
        return OF_LABELS

    def validate(self, batch: int, size: int) -> Validate | None:  # noqa: ARG002
        """Measures a model while it trains, in batches of so many; None: nothing is measured.

        What has sizes is measured at `size`, the largest of training. Examples that are drawn
        validate themselves: all are new.
        """
        return None

    def release(self) -> None:  # noqa: B027 (most have nothing to let go of)
        """Lets go of what was read ahead, once nothing more is asked for."""

    def check_model(self, config: Any) -> None:
        """Refuses the config of a model that reads or answers something else.

        Raises:
            ValueError: it is one.
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
        """The model where nothing else is said."""

    @abc.abstractmethod
    def recommended_training(self) -> TrainingConfig:
        """The training where nothing else is said."""

    @abc.abstractmethod
    def recommended_sizes(self) -> tuple[int, ...]:
        """Where to evaluate where nothing else is said."""


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


# Steps between checkpoints at least: epochs of small data sets are a few.
_LEAST_APART = 500


def by_epochs(
    examples: int, size: int, *, epochs: int, batch_size: int, optimizer: OptimizerConfig
) -> TrainingConfig:
    """Epochs of a data set as steps; five warm up, and each ends with a measurement.

    Args:
        examples: how many there are to train on.
        size: of each.
        epochs: of the training.
        batch_size: examples a step.
        optimizer: without its warm-up.
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
