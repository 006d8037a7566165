"""Counts what a model costs before it is trained: parameters, state, and operations per token.

The operations are those of the recurrence, which is one `step` of the model. Every mixer can
compute it, so the count depends on the model alone, and not on an implementation, a chunk size or
a device. For a model without steps, operations are counted on one example of the longest training
size, and divided by the number of its labels. This uses the implementation that is chosen on a CPU,
because XLA cannot count inside kernels.

XLA counts the operations of the program as written, before it optimises. It counts the body of a
loop once. Loops of known length (`scan`) are therefore counted here, as length times body. Loops
that end by a condition, such as the squarings of a matrix exponential, count once.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from experiments.config import ExperimentConfig
from experiments.problems import problem_of
from experiments.problems.base import shapes_of
from experiments.run import new_model
from plstm_seq.models import SequenceModelConfig
from plstm_seq.ops.device import as_on_cpu
from plstm_seq.training import TrainingConfig

# Operations are divided by this many tokens. What is computed once for all sequences (gates without
# weights) then hardly adds to the cost of a token.
TOKENS = 256


class Costs(NamedTuple):
    """The costs of a model.

    Attributes:
        parameters: number of trained numbers.
        state_size: number of numbers that are carried from token to token for one sequence: the
            state C and the convolution's history of all blocks, but not the position. 0 for models
            that do not read token by token.
        flops_per_token: number of floating point operations to read a token; exponentials and the
            like are not counted.
    """

    parameters: int
    state_size: int
    flops_per_token: float


def costs_of(config: ExperimentConfig) -> Costs:
    """Counts what a config's model costs; nothing is allocated, compiled or trained.

    Raises:
        ValueError: the sizes of the model do not fit each other.

    Example:
        >>> from experiments import default_config
        >>> from experiments.results import Costs, costs_of
        >>> costs: Costs = costs_of(default_config("parity"))
        >>> costs.state_size, costs.flops_per_token > costs.parameters > 0
        (192, True)
    """
    return Costs(parameters(config), state_size(config), flops_per_token(config))


def parameters(config: ExperimentConfig) -> int:
    """Counts the parameters of a config's model, see `Costs`."""
    return _parameters(model_key(config))


def state_size(config: ExperimentConfig) -> int:
    """Counts the numbers in the state of a config's model, see `Costs`."""
    return _state_size(model_key(config))


def flops_per_token(config: ExperimentConfig) -> float:
    """Counts the operations with which a config's model reads a token, see `Costs`."""
    return _flops_per_token(model_key(config))


def flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Counts a function's floating point operations as XLA does, but scans at their full length.

    Args:
        function: a function that jax can trace.
        *arguments: arrays, or their shapes and types (`jax.ShapeDtypeStruct`).
    """
    # On a GPU or TPU, XLA counts operations only of compiled programs.
    with as_on_cpu():
        return _flops(jax.make_jaxpr(function)(*arguments))


def model_key(config: ExperimentConfig) -> ExperimentConfig:
    """Returns a config that is the same for all configs with the same costs.

    It holds the task and the model, without the mixer's implementation. Where the costs depend on
    the size of the inputs, it also holds the sizes in training.
    """
    model: Any = config.model
    if hasattr(model.mixer, "implementation"):
        default = type(model.mixer)().implementation
        model = replace(model, mixer=replace(model.mixer, implementation=default))
    training = TrainingConfig()
    if not isinstance(model, SequenceModelConfig):
        whole = config.training
        training = replace(training, steps=whole.steps, curriculum=whole.curriculum)
    return ExperimentConfig(config.task, model, training)


@functools.lru_cache(maxsize=1024)
def _shapes(key: ExperimentConfig) -> Any:
    """Returns the model with the shapes of its arrays in the place of the arrays."""
    return nnx.eval_shape(lambda: new_model(key))


@functools.cache
def _parameters(key: ExperimentConfig) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(_shapes(key), nnx.Param)))


@functools.cache
def _state_size(key: ExperimentConfig) -> int:
    if not hasattr(_shapes(key), "step"):
        return 0
    leaves = jax.tree.leaves(_state(key, 1))
    return sum(leaf.size for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating))


@functools.cache
def _flops_per_token(key: ExperimentConfig) -> float:
    model = _shapes(key)
    graphdef, variables = nnx.split(model)
    if not hasattr(model, "step"):
        inputs, labels = _example(key)
        return flops(lambda v, x: nnx.merge(graphdef, v)(x), variables, inputs) / labels

    def step(variables: Any, tokens: jax.Array, state: Any) -> Any:
        return nnx.merge(graphdef, variables).step(tokens, state)

    tokens = jax.ShapeDtypeStruct((TOKENS,), jnp.int32)
    return flops(step, variables, tokens, _state(key, TOKENS)) / TOKENS


def _example(key: ExperimentConfig) -> tuple[Any, int]:
    """Returns the shapes of one example of the longest training size, and its number of labels."""
    problem = problem_of(key.task.make())
    batch = shapes_of(problem, 1, key.training.curriculum.longest)
    return batch.inputs, batch.targets.size


def _state(key: ExperimentConfig, batch: int) -> Any:
    """Returns the shapes of the state of `batch` sequences."""
    graphdef, variables = nnx.split(_shapes(key))
    return jax.eval_shape(lambda leaves: nnx.merge(graphdef, leaves).init_state(batch), variables)


def _flops(program: ClosedJaxpr) -> float:
    scans = _scans(program.jaxpr)
    missing = sum(length * _flops(body) - _counted(body) for length, body in scans)
    return _counted(program) + missing


def _counted(program: ClosedJaxpr) -> float:
    """Counts operations as XLA does, with the body of each loop once."""
    lowered = jax.jit(jaxpr_as_fun(program)).lower(*program.in_avals)
    analysis: Any = lowered.cost_analysis() or lowered.compile().cost_analysis()
    return float(analysis.get("flops", 0.0))


def _scans(jaxpr: Jaxpr) -> Iterator[tuple[int, ClosedJaxpr]]:
    """Yields the length and the body of each scan that is not inside another scan."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation.params["length"], equation.params["jaxpr"]
            continue
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if isinstance(inner, ClosedJaxpr):
                    yield from _scans(inner.jaxpr)
                elif isinstance(inner, Jaxpr):
                    yield from _scans(inner)
