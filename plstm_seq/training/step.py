"""One training step and many steps in one program, as pure functions of a state.

Nothing here holds state or talks to the host, so that members of a sweep can be trained by `vmap`
over `TrainState`: whatever differs between them (parameters, key, learning rate, weight decay) is
a leaf of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PyTree

from plstm_seq.training.curriculum import Draw, Limit, draw_lengths
from plstm_seq.training.leaves import is_key
from plstm_seq.training.loss import Loss, StepMetrics, consistency_term, own_products, score
from plstm_seq.training.optimizer import Optimizer

# Folded into a step's key for what dropout and the consistency term draw; lengths and batch draw
# from its `split`.
_DROPOUT = 0xD509
_CONSISTENCY = 0xC0715


class Examples(Protocol):
    """A batch of labelled examples; `mask` is true at the positions that are scored.

    Inputs are what the model is called with. Labels are `[B, T]` for sequences, `[B]` for images or
    graphs and `[B, X, Y]` for grids. Mixed labels are floating-point, with one more axis that holds
    the share of every label. A model that predicts numbers has these as its targets.
    """

    @property
    def inputs(self) -> Any: ...  # noqa: D102
    @property
    def targets(self) -> Int[Array, "B ..."] | Float[Array, "B ... V"]: ...  # noqa: D102
    @property
    def mask(self) -> Bool[Array, "B ..."]: ...  # noqa: D102


class Sample(Protocol):
    """Draws a batch on the device: `batch` and `length` are static, `lengths` is traced.

    Example:
        >>> import tasks
        >>> from plstm_seq.training import Examples, Sample
        >>> sample: Sample = tasks.get("parity").sample
        >>> batch: Examples = sample(jax.random.key(0), 2, 5)
        >>> batch.inputs.shape, batch.targets.shape, batch.mask.shape
        ((2, 5), (2, 5), (2, 5))
    """

    def __call__(
        self, key: Array, batch: int, length: int, *, lengths: Int[Array, " B"] | None = None
    ) -> Examples:
        """Draw `batch` sequences padded to `length`, of the real lengths `lengths`.

        For images and grids `length` is the size, and all `lengths` are equal to it.
        """
        ...


@runtime_checkable
class HostSample(Protocol):
    """Makes batches on the host, for instance from files or of graphs.

    Example:
        >>> import numpy as np
        >>> import tasks
        >>> from plstm_seq.training import HostSample, Sizes, TrainingConfig, fit
        >>> class Copies:
        ...     def on_host(self, seed, step, batch, size):
        ...         tokens = np.random.default_rng((*seed, step)).integers(2, size=(batch, size))
        ...         return tasks.Batch(tokens, tokens, np.ones((batch, size), bool))
        >>> source: HostSample = Copies()
        >>> config = TrainingConfig(4, curriculum=Sizes(((8, 4),)))
        >>> fit(nnx.Embed(2, 2, rngs=nnx.Rngs(0)), source, config, key=jax.random.key(0)).status
        'finished'
    """

    def on_host(self, seed: Sequence[int], step: int, batch: int, size: int) -> Examples:
        """The batch of a training step as numpy arrays, a pure function of the arguments.

        Args:
            seed: the seed of the training, the same for all steps.
            step: number of the step, counted from 0.
            batch: number of examples.
            size: the size that the curriculum asks for.
        """
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """All that a training step reads and writes.

    Attributes:
        step: number of steps taken so far, int32 [].
        key: typed key; step n draws from `fold_in(key, n)`, so the key never changes.
        parameters: the variables that are trained (`nnx.Param`).
        rest: the model's other variables.
        optimizer: state of the gradient transformation.
        average: moving average of the parameters; None: there is none.
    """

    step: Int[Array, ""]
    key: Array
    parameters: nnx.State
    rest: nnx.State
    optimizer: optax.OptState
    average: nnx.State | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LengthRange:
    """Which lengths a step draws, and where in its schedule the learning rate is.

    The arrays are int32 []; for many members in one program they are [members].

    Attributes:
        minimum: the shortest length to draw.
        maximum: the longest length to draw.
        last_begun: the step at which the last stage of the curriculum began, or `NOT_BEGUN`; None
            where the steps of all stages are known beforehand.
    """

    minimum: Limit
    maximum: Limit
    last_begun: Limit | None = None


TrainStep = Callable[[TrainState, LengthRange], tuple[TrainState, StepMetrics]]
HostStep = Callable[[TrainState, Examples], tuple[TrainState, StepMetrics]]
Dispatch = Callable[[TrainState, LengthRange, Int[Array, ""]], tuple[TrainState, StepMetrics]]


def init_state(
    model: nnx.Module, optimizer: Optimizer, key: Array, *, average: bool = False
) -> tuple[nnx.GraphDef[Any], TrainState]:
    """Split a model into its structure and a fresh training state.

    Args:
        model: any nnx module.
        optimizer: from `make_optimizer`.
        key: typed key for everything that training draws.
        average: whether a moving average of the parameters is kept.

    Returns:
        The graph definition and the state. The state holds copies of the model's arrays, so it can
        be donated to a program.

    Example:
        >>> from plstm_seq.training import OptimizerConfig, make_optimizer
        >>> optimizer = make_optimizer(OptimizerConfig(), steps=100)
        >>> model = nnx.Embed(2, 2, rngs=nnx.Rngs(0))
        >>> graphdef, state = init_state(model, optimizer, jax.random.key(0))
        >>> isinstance(state, TrainState), state.step.item(), state.parameters["embedding"].shape
        (True, 0, (2, 2))
    """
    graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        parameters=parameters,
        rest=rest,
        optimizer=optimizer.transformation.init(parameters),
        average=parameters if average else None,
    )
    return graphdef, jax.tree.map(_own, state)


def _own(leaf: Array) -> Array:
    if is_key(leaf):
        return jnp.copy(leaf)
    # Naming the type also takes weak types away, which would not survive a checkpoint.
    return jnp.array(leaf, dtype=leaf.dtype, copy=True)


def make_train_step(
    graphdef: nnx.GraphDef[Any],
    optimizer: Optimizer,
    sample: Sample,
    *,
    batch_size: int,
    bucket: int,
    draw: Draw = "sequence",
    label_smoothing: float = 0.0,
    loss: Loss = "cross_entropy",
    average: float | None = None,
    consistency: float = 0.0,
    batch_sharding: jax.sharding.Sharding | None = None,
) -> TrainStep:
    """Build one training step.

    Args:
        graphdef: structure of the model, from `init_state`.
        optimizer: from `make_optimizer`.
        sample: draws a batch inside the program.
        batch_size: number of sequences in a batch.
        bucket: padded length of the batch.
        draw: whether each sequence or each batch has its own random length.
        label_smoothing: see `TrainingConfig`.
        loss: see `score`.
        average: see `TrainingConfig`.
        consistency: see `TrainingConfig`.
        batch_sharding: how the batch is split over several devices; None: there is one device.

    Returns:
        A pure function (state, lengths) -> (state, metrics). Metrics are scalars: the loss
        (without the consistency term), the counts of `score`, `tokens` (symbols of sequences
        without padding, or else the scored positions), `gradient_norm` (before clipping) and
        `learning_rate`; with a consistency term also those of `consistency_term`.

    Example:
        >>> import tasks
        >>> from plstm_seq.training import OptimizerConfig, make_optimizer
        >>> sample, optimizer = tasks.get("parity").sample, make_optimizer(OptimizerConfig(), 100)
        >>> model = nnx.Embed(2, 2, rngs=nnx.Rngs(0))
        >>> graphdef, state = init_state(model, optimizer, jax.random.key(0))
        >>> train_step = make_train_step(graphdef, optimizer, sample, batch_size=4, bucket=8)
        >>> state, metrics = jax.jit(train_step)(state, LengthRange(jnp.int32(8), jnp.int32(8)))
        >>> state.step.item(), metrics["tokens"].item()
        (1, 32)
    """
    learn = _make_learn(
        graphdef, optimizer, label_smoothing, loss, average, consistency, batch_sharding
    )

    def train_step(state: TrainState, lengths: LengthRange) -> tuple[TrainState, StepMetrics]:
        step_key = jax.random.fold_in(state.key, state.step)
        length_key, batch_key = jax.random.split(step_key)
        drawn = draw_lengths(length_key, batch_size, lengths.minimum, lengths.maximum, draw)
        batch = sample(batch_key, batch_size, bucket, lengths=drawn)
        state, metrics = learn(state, batch, step_key, lengths.last_begun)
        if batch.mask.ndim == 2:
            metrics["tokens"] = drawn.sum(dtype=jnp.int32)
        return state, metrics

    return train_step


def make_host_step(
    graphdef: nnx.GraphDef[Any],
    optimizer: Optimizer,
    *,
    label_smoothing: float = 0.0,
    loss: Loss = "cross_entropy",
    average: float | None = None,
    consistency: float = 0.0,
    batch_sharding: jax.sharding.Sharding | None = None,
) -> HostStep:
    """Build one training step on a batch that is handed in; arguments as of `make_train_step`.

    Returns:
        A pure function (state, batch) -> (state, metrics), the metrics those of `make_train_step`.
    """
    learn = _make_learn(
        graphdef, optimizer, label_smoothing, loss, average, consistency, batch_sharding
    )

    def host_step(state: TrainState, batch: Examples) -> tuple[TrainState, StepMetrics]:
        return learn(state, batch, jax.random.fold_in(state.key, state.step), None)

    return host_step


def _make_learn(
    graphdef: nnx.GraphDef[Any],
    optimizer: Optimizer,
    label_smoothing: float,
    loss: Loss,
    average: float | None,
    consistency: float,
    batch_sharding: jax.sharding.Sharding | None,
) -> Callable[[TrainState, Examples, Array, Limit | None], tuple[TrainState, StepMetrics]]:
    """What a step does once it has its batch."""

    def learn(
        state: TrainState, batch: Examples, step_key: Array, last_begun: Limit | None
    ) -> tuple[TrainState, StepMetrics]:
        course = {} if last_begun is None else {"last_begun": last_begun}
        if batch_sharding is not None:
            batch = jax.lax.with_sharding_constraint(batch, batch_sharding)
        own = None
        if consistency:
            asked: Any = nnx.merge(graphdef, state.parameters, state.rest, copy=True)
            own = own_products(asked, jax.random.fold_in(step_key, _CONSISTENCY))

        def loss_of(parameters: nnx.State):
            # Copied, so that a model may write to its own variables under differentiation.
            model: Any = nnx.merge(graphdef, parameters, state.rest, copy=True)
            uses_dropout = getattr(model, "uses_dropout", False)
            options = (
                {"dropout_key": jax.random.fold_in(step_key, _DROPOUT)} if uses_dropout else {}
            )
            logits = model(batch.inputs, **options)
            mean, counts = score(logits, batch.targets, batch.mask, label_smoothing, loss)
            whole = mean
            if own is not None:
                term, more = consistency_term(model.transitions_by_token(), own)
                whole, counts = mean + consistency * term, counts | more
            return whole, (mean, counts, nnx.split(model, nnx.Param, ...)[2])

        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (_, (mean, counts, rest)), gradients = gradient(state.parameters)
        updates, optimizer_state = optimizer.transformation.update(
            gradients, state.optimizer, state.parameters, **course
        )
        metrics = {
            "loss": mean,
            **counts,
            "tokens": counts["scored_tokens"],
            "gradient_norm": optimizer.gradient_norm(gradients),
            "learning_rate": optimizer.learning_rate(state.optimizer, state.step, **course),
        }
        parameters: Any = optax.apply_updates(state.parameters, updates)  # pyright: ignore[reportArgumentType]
        averaged = state.average
        if average is not None:
            averaged = _moved(averaged, parameters, state.step, average)
        new_state = TrainState(
            step=state.step + 1,
            key=state.key,
            parameters=parameters,
            rest=rest,
            optimizer=optimizer_state,
            average=averaged,
        )
        return new_state, metrics

    return learn


def _moved(average: Any, parameters: Any, step: Int[Array, ""], decay: float) -> Any:
    """The moving average after a step, counted from 0, has made these parameters."""

    def move(old: Array, new: Array) -> Array:
        # 1 - (1 + step) / (10 + step), without its cancellation.
        share = jnp.maximum(1 - decay, 9 / (10 + step).astype(old.dtype))
        return old + share * (new - old)

    return jax.tree.map(move, average, parameters)


def make_dispatch(train_step: TrainStep, capacity: int) -> Dispatch:
    """Build a function that takes up to `capacity` training steps.

    The number of steps is traced, so that one program serves all numbers. That saves compile time
    and keeps resumed runs bit-identical: their steps fall into other groups, and XLA would compile
    a short loop of known length into other operations.

    Args:
        train_step: from `make_train_step`.
        capacity: the largest number of steps.

    Returns:
        A pure function (state, lengths, count) -> (state, metrics), where each metric is an array
        [capacity] whose first `count` entries are filled.

    Example:
        >>> import tasks
        >>> from plstm_seq.training import OptimizerConfig, make_optimizer
        >>> sample, optimizer = tasks.get("parity").sample, make_optimizer(OptimizerConfig(), 100)
        >>> model = nnx.Embed(2, 2, rngs=nnx.Rngs(0))
        >>> graphdef, state = init_state(model, optimizer, jax.random.key(0))
        >>> train_step = make_train_step(graphdef, optimizer, sample, batch_size=4, bucket=8)
        >>> dispatch = jax.jit(make_dispatch(train_step, capacity=5))
        >>> lengths = LengthRange(jnp.int32(1), jnp.int32(8))
        >>> state, metrics = dispatch(state, lengths, jnp.int32(3))
        >>> state.step.item(), metrics["loss"].shape
        (3, (5,))
    """

    def dispatch(
        state: TrainState, lengths: LengthRange, count: Int[Array, ""]
    ) -> tuple[TrainState, StepMetrics]:
        def body(index: Int[Array, ""], carry: tuple[TrainState, StepMetrics]):
            current, collected = carry
            current, metrics = train_step(current, lengths)
            return current, jax.tree.map(
                lambda all_, one: all_.at[index].set(one), collected, metrics
            )

        shapes: PyTree = jax.eval_shape(train_step, state, lengths)[1]
        empty = jax.tree.map(lambda one: jnp.zeros((capacity,), one.dtype), shapes)
        return jax.lax.fori_loop(jnp.zeros_like(count), count, body, (state, empty))

    return dispatch
