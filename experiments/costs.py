"""What a config costs before anything is trained: parameters, state, operations a token.

Operations are those of the recurrence: one `step` of the model, which every mixer computes whatever
implementation trains it, so that the count depends on the model alone and not on chunk sizes or a
device. A model without steps reads an example of the longest training size; a token is then one of
its labels, in the form that is chosen on a CPU: XLA does not look into kernels. XLA counts them in
the program as written, before it optimises. It counts the body of a
loop once; the loops whose length is known (`scan`) are therefore counted here, body by body. Left
at once are loops that end by what they compute: the squarings of a matrix exponential.
"""

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from experiments.config import ExperimentConfig, from_document, to_document
from experiments.problems import problem_of
from experiments.problems.base import shapes_of
from experiments.run import new_model
from plstm_seq.ops.device import as_on_cpu

# What is computed once for all sequences (gates without weights) should not weigh on a token.
TOKENS = 256


class Costs(NamedTuple):
    """What a model costs.

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
    """See `Costs`."""
    return _parameters(model_key(config))


def state_size(config: ExperimentConfig) -> int:
    """See `Costs`."""
    return _state_size(model_key(config))


def flops_per_token(config: ExperimentConfig) -> float:
    """See `Costs`."""
    return _flops_per_token(model_key(config))


def flops(function: Callable[..., Any], *arguments: Any) -> float:
    """The operations of a function by XLA's count, scans counted at their full length.

    Args:
        function: traceable.
        *arguments: arrays, or their shapes and types (`jax.ShapeDtypeStruct`).
    """
    # The client of a GPU or TPU counts compiled programs alone.
    with as_on_cpu():
        return _flops(jax.make_jaxpr(function)(*arguments))


def model_key(config: ExperimentConfig) -> str:
    """A text that is the same for configs of the same task and model, hence of the same costs.

    Where the size of what is read matters, that of training is in it, too. How a mixer is computed
    is left out.
    """
    document = to_document(config)
    parts = {"task": document["task"], "model": dict(document["model"])}
    if "mixer" in parts["model"]:
        mixer = parts["model"]["mixer"].items()
        parts["model"]["mixer"] = {key: x for key, x in mixer if key != "implementation"}
    if document["model"]["kind"] != "sequence":
        training = document["training"]
        parts["training"] = {name: training[name] for name in ("steps", "curriculum")}
    return json.dumps(parts, sort_keys=True)


@functools.lru_cache(maxsize=1024)
def _shapes(key: str) -> Any:
    """The model without numbers."""
    config = from_document(json.loads(key))
    return nnx.eval_shape(lambda: new_model(config))


@functools.cache
def _parameters(key: str) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(_shapes(key), nnx.Param)))


@functools.cache
def _state_size(key: str) -> int:
    if not hasattr(_shapes(key), "step"):
        return 0
    leaves = jax.tree.leaves(_state(key, 1))
    return sum(leaf.size for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating))


@functools.cache
def _flops_per_token(key: str) -> float:
    model = _shapes(key)
    graphdef, variables = nnx.split(model)
    if not hasattr(model, "step"):
        inputs, labels = _example(key)
        return flops(lambda v, x: nnx.merge(graphdef, v)(x), variables, inputs) / labels

    def step(variables: Any, tokens: jax.Array, state: Any) -> Any:
        return nnx.merge(graphdef, variables).step(tokens, state)

    tokens = jax.ShapeDtypeStruct((TOKENS,), jnp.int32)
    return flops(step, variables, tokens, _state(key, TOKENS)) / TOKENS


def _example(key: str) -> tuple[Any, int]:
    """Shapes of one example of the longest training size, and how many labels it has."""
    config = from_document(json.loads(key))
    problem = problem_of(config.task.make())
    batch = shapes_of(problem, 1, config.training.curriculum.longest)
    return batch.inputs, batch.targets.size


def _state(key: str, batch: int) -> Any:
    """Shapes of the state of that many sequences."""
    graphdef, variables = nnx.split(_shapes(key))
    return jax.eval_shape(lambda leaves: nnx.merge(graphdef, leaves).init_state(batch), variables)


def _flops(program: ClosedJaxpr) -> float:
    scans = _scans(program.jaxpr)
    missing = sum(length * _flops(body) - _counted(body) for length, body in scans)
    return _counted(program) + missing


def _counted(program: ClosedJaxpr) -> float:
    """XLA's count, in which the body of a loop counts once."""
    lowered = jax.jit(jaxpr_as_fun(program)).lower(*program.in_avals)
    analysis: Any = lowered.cost_analysis() or lowered.compile().cost_analysis()
    return float(analysis.get("flops", 0.0))


def _scans(jaxpr: Jaxpr) -> Iterator[tuple[int, ClosedJaxpr]]:
    """Length and body of the scans of a program that are not inside another scan."""
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
