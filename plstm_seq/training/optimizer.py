"""AdamW, AMSGrad or LAMB with warm-up and cosine; the rate and weight decay are array leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

# A small model has dozens of small parameters, and each costs an optimizer that works element by
# element kernels of its own: on few long vectors in their place it compiles and steps faster.
Packed = dict[str, Array]
Select = Callable[[PyTree], PyTree]

SELECTED, OTHERS = "selected", "others"

# Of the step; and of the step at which the last stage began, where only training shows that.
Schedule = Callable[..., Float[Array, ""]]
NOT_BEGUN = np.iinfo(np.int32).max

# Parts of a parameter's path whose values are offsets, gains, tables or states rather than
# matrices that multiply an activation: pulling them to zero is a change of the model, not a prior.
UNDECAYED = ("bias", "norm", "scale", "embedding", "initial_state", "initial_C")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101), clipped by the gradient's global norm.

    With `rule="lamb"` (You et al., arXiv 1904.00962), the step of each parameter with weight decay
    is AdamW's step, decay included, times the norm of the parameter over the norm of that step.
    The norms are of whole parameters. Parameters without weight decay take AdamW's step.

    With `rule="amsgrad"` (Reddi et al., arXiv 1904.09237), the step is divided by the largest
    second moments so far instead of the latest. After a long time of small gradients AdamW answers
    one large gradient with a step of up to `1 / sqrt(1 - b2)` times the rate; AMSGrad does not, if
    `clip_norm` limits that gradient to the size that gradients had when training began.

    The learning rate rises linearly from 0 over `warmup_steps`. Then it stays
    (`schedule="constant"`), or it stays for `hold_fraction` of the remaining steps and falls along
    half a cosine to `final_fraction` of its peak at the last step of training. With a curriculum by
    accuracy it falls during the last stage alone, and stays at its peak before.

    Weight decay is decoupled and multiplied by the learning rate. It applies only to parameters
    with two or more axes whose path contains none of the words in `UNDECAYED`: not to biases (also
    those of gates and heads, which have several axes), norms, embeddings and learned initial
    states.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    rule: Literal["adamw", "amsgrad", "lamb"] = "adamw"
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    warmup_steps: int = 100
    schedule: Literal["cosine", "constant"] = "cosine"
    hold_fraction: float = 0.0
    final_fraction: float = 0.1
    clip_norm: float | None = 1.0
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8

    def without_leaves(self) -> OptimizerConfig:
        """What a program is compiled for: the rate and the decay are leaves of its state."""
        return replace(self, learning_rate=1.0, weight_decay=0.0)

    def __post_init__(self):
        rules = ("adamw", "amsgrad", "lamb")
        _check("rule", self.rule, self.rule in rules, "adamw, amsgrad or lamb")
        _check(
            "learning_rate", self.learning_rate, 0 < self.learning_rate < math.inf, "> 0 and finite"
        )
        _check(
            "weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, ">= 0 and finite"
        )
        _check("warmup_steps", self.warmup_steps, self.warmup_steps >= 0, ">= 0")
        _check("schedule", self.schedule, self.schedule in ("cosine", "constant"), "a known name")
        _check("hold_fraction", self.hold_fraction, 0 <= self.hold_fraction < 1, "in [0, 1)")
        _check("final_fraction", self.final_fraction, 0 <= self.final_fraction <= 1, "in [0, 1]")
        if self.clip_norm is not None:
            _check(
                "clip_norm",
                self.clip_norm,
                0 < self.clip_norm < math.inf,
                "> 0 and finite, or None",
            )
        _check("b1", self.b1, 0 <= self.b1 < 1, "in [0, 1)")
        _check("b2", self.b2, 0 <= self.b2 < 1, "in [0, 1)")
        _check("eps", self.eps, 0 < self.eps < math.inf, "> 0 and finite")


class Optimizer(NamedTuple):
    """A gradient transformation and the schedule (peak 1) that multiplies its learning rate."""

    transformation: optax.GradientTransformation
    schedule: Schedule

    def gradient_norm(self, gradients: Any) -> Float[Array, ""]:
        """The gradient's global norm, from the vectors that clipping takes it from."""
        return optax.tree.norm(pack(gradients, is_decayed))

    def learning_rate(
        self, state: optax.OptState, step: Int[Array, ""], **course: ArrayLike
    ) -> Float[Array, ""]:
        """The rate that `step` is taken with, from the leaf in `state`."""
        return optax.tree.get(state, "learning_rate") * self.schedule(step, **course)


def make_schedule(config: OptimizerConfig, steps: int, last_stage: int | None = None) -> Schedule:
    """The learning rate's course over `steps` steps as a multiple of its peak.

    The peak is 1 and the rate itself stays a leaf of the optimizer's state, because a traced rate
    cannot go into optax's own schedules and members of a sweep differ in it.

    Args:
        config: what to build.
        steps: of the training.
        last_stage: steps of its last stage, where only training shows when that begins.

    Returns:
        A function of the step. With `last_stage` also of `last_begun`, the step at which the last
        stage began (`NOT_BEGUN` before it has): the rate falls along the steps of that stage.
    """
    end = max(config.warmup_steps + 1, steps)
    start = config.warmup_steps + config.hold_fraction * (end - config.warmup_steps)

    def schedule(step: ArrayLike, last_begun: ArrayLike | None = None) -> Float[Array, ""]:
        # The first step is taken at 1 / warmup_steps: a step of size 0 would be wasted.
        step = jnp.asarray(step)
        warm = (step + 1) / max(config.warmup_steps, 1)
        if config.schedule == "constant":
            return jnp.minimum(warm, 1.0)
        if last_stage is None:
            progress = (step - start) / (end - start)
        else:
            if last_begun is None:
                raise TypeError("last_begun: got None, expected the step the last stage began at")
            # Where training may not last so long, the rate has fallen when it ends.
            begun = jnp.asarray(last_begun)
            whole = jnp.minimum(last_stage, jnp.maximum(steps - begun, 1))
            held = config.hold_fraction * whole
            progress = (step - begun - held) / (whole - held)
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))
        return jnp.minimum(warm, config.final_fraction + (1 - config.final_fraction) * cosine)

    return schedule


def make_optimizer(config: OptimizerConfig, steps: int, last_stage: int | None = None) -> Optimizer:
    """Build the gradient transformation that a config describes.

    Args:
        config: the rule, its rates and its schedule.
        steps: number of steps of the training; the cosine ends at the last one.
        last_stage: see `make_schedule`; updates then take `last_begun`, too.

    Returns:
        The transformation and its schedule. `learning_rate` and `weight_decay` are scalar arrays
        in the transformation's state (see `with_hyperparameters`), the moments packed vectors.

    Example:
        >>> from plstm_seq.training import OptimizerConfig, make_optimizer
        >>> optimizer = make_optimizer(OptimizerConfig(warmup_steps=10), steps=100)
        >>> [round(float(optimizer.schedule(step)), 2) for step in (0, 9, 100)]
        [0.1, 1.0, 0.1]
    """
    schedule = make_schedule(config, steps, last_stage)
    decay = optax.inject_hyperparams(
        optax.add_decayed_weights, static_args=("mask",), hyperparam_dtype=jnp.float32
    )
    rate = optax.inject_hyperparams(
        optax.scale_by_learning_rate, static_args=("flip_sign",), hyperparam_dtype=jnp.float32
    )
    clip = optax.identity()
    if config.clip_norm is not None:
        clip = optax.clip_by_global_norm(config.clip_norm)
    moments = optax.scale_by_amsgrad if config.rule == "amsgrad" else optax.scale_by_adam
    direction = (
        clip,
        moments(b1=config.b1, b2=config.b2, eps=config.eps),
        decay(weight_decay=config.weight_decay, mask=is_selected),
    )
    step = (
        optax.scale_by_schedule(schedule) if last_stage is None else _scale_by_course(schedule),
        rate(learning_rate=config.learning_rate),
    )
    if config.rule != "lamb":
        return Optimizer(packed(optax.chain(*direction, *step), is_decayed), schedule)
    # Norms of single parameters cannot be read off the packed vectors.
    layers = optax.masked(optax.scale_by_trust_ratio(), is_decayed)
    return Optimizer(
        optax.chain(packed(optax.chain(*direction), is_decayed), layers, *step), schedule
    )


def _scale_by_course(schedule: Schedule) -> optax.GradientTransformationExtraArgs:
    """As `optax.scale_by_schedule`, whose state it has, of a schedule that takes `last_begun`."""

    def init(params: Any) -> optax.ScaleByScheduleState:
        del params
        return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

    def update(
        updates: Any,
        state: optax.ScaleByScheduleState,
        params: Any = None,
        *,
        last_begun: ArrayLike | None = None,
        **others: Any,
    ) -> tuple[Any, optax.ScaleByScheduleState]:
        del params, others
        factor = schedule(state.count, last_begun)
        scaled = jax.tree.map(lambda x: jnp.asarray(factor, x.dtype) * x, updates)
        return scaled, optax.ScaleByScheduleState(count=optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def with_hyperparameters(state: optax.OptState, **values: Float[Array, ""] | float) -> Any:
    """Replace `learning_rate`, `weight_decay` or both in an optimizer's state.

    Args:
        state: state of a transformation built by `make_optimizer`.
        **values: the new values; under `vmap` they may differ between members.

    Returns:
        The new state.

    Raises:
        KeyError: the optimizer has no value of that name.

    Example:
        >>> from plstm_seq.training import OptimizerConfig, make_optimizer, with_hyperparameters
        >>> optimizer = make_optimizer(OptimizerConfig(), steps=100)
        >>> state = optimizer.transformation.init({"kernel": jnp.ones((2, 2))})
        >>> state = with_hyperparameters(state, learning_rate=0.5)
        >>> optax.tree.get(state, "learning_rate").item()
        0.5
    """
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}
    return optax.tree.set(state, **arrays)


def is_decayed(parameters: Any) -> Any:
    """Say of every parameter whether weight decay applies to it (the rule is in `OptimizerConfig`).

    Example:
        >>> from plstm_seq.training import is_decayed
        >>> is_decayed({"bias": jnp.ones(2), "kernel": jnp.ones((2, 2)), "scale": jnp.ones(2)})
        {'bias': False, 'kernel': True, 'scale': False}
    """

    def decide(path: tuple[Any, ...], value: Array) -> bool:
        name = jax.tree_util.keystr(path)
        return value.ndim >= 2 and not any(word in name for word in UNDECAYED)

    return jax.tree_util.tree_map_with_path(decide, parameters)


def _check(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def pack(tree: PyTree, select: Select) -> Packed:
    """The arrays of a tree, laid end to end in one vector per group and dtype.

    Args:
        tree: arrays.
        select: maps the tree to one of bools, which says who goes to the first group.

    Returns:
        Vectors by name (`selected_float32`, `others_float32`, ...), leaves in the tree's order.
    """
    groups: dict[str, list[Array]] = {}
    for leaf, name in zip(jax.tree.leaves(tree), _names(tree, select), strict=True):
        groups.setdefault(name, []).append(leaf.ravel())
    return {name: jnp.concatenate(leaves) for name, leaves in groups.items()}


def unpack(packed: Packed, like: PyTree, select: Select) -> Any:
    """The inverse of `pack` for a tree of the structure and shapes of `like`."""
    offsets = dict.fromkeys(packed, 0)
    leaves = []
    for leaf, name in zip(jax.tree.leaves(like), _names(like, select), strict=True):
        start = offsets[name]
        offsets[name] += leaf.size
        leaves.append(packed[name][start : start + leaf.size].reshape(leaf.shape))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def packed(
    inner: optax.GradientTransformation, select: Select
) -> optax.GradientTransformationExtraArgs:
    """Let an elementwise transformation (or one by global norm) work on `pack`ed trees."""
    inner = optax.with_extra_args_support(inner)

    def init(params: PyTree) -> optax.OptState:
        return inner.init(pack(params, select))

    def update(updates: PyTree, state: optax.OptState, params: PyTree = None, **extra: Any):
        # Gradients select as their parameters do: both trees have the same paths and shapes.
        values = None if params is None else pack(params, select)
        vectors, state = inner.update(pack(updates, select), state, values, **extra)
        return unpack(vectors, updates, select), state  # pyright: ignore[reportArgumentType]

    return optax.GradientTransformationExtraArgs(init, update)


def is_selected(tree: Packed) -> dict[str, bool]:
    """Which vectors of a `pack`ed tree are of the selected group."""
    return {name: name.startswith(SELECTED) for name in tree}


def _names(tree: PyTree, select: Select) -> list[str]:
    chosen = jax.tree.leaves(select(tree))
    return [
        f"{SELECTED if choice else OTHERS}_{leaf.dtype.name}"
        for leaf, choice in zip(jax.tree.leaves(tree), chosen, strict=True)
    ]
