"""Puts published parameters into our modules."""

import re
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from plstm_seq.layers.hyperparameter import fill_hyperparameters

# Published name -> ours; applied in this order.
_RENAMES = (
    (re.compile(r"^block_stack\."), ""),
    (re.compile(r"(^|\.)block(\d+)\."), r"\1blocks.\2."),
    (re.compile(r"(^|\.)interaction_module\."), r"\1mixer."),
    (re.compile(r"(^|\.)value_\."), r"\1value."),
    (re.compile(r"(^|\.)_conv\."), r"\1"),
    (re.compile(r"^lm_head\.kernel$"), "lm_head"),
)


def parameter_name(published: str) -> str:
    """Return the dotted path that a published parameter has in our modules."""
    name = published
    for pattern, ours in _RENAMES:
        name = pattern.sub(ours, name)
    return name


def load_parameters(module: nnx.Module, parameters: Mapping[str, ArrayLike]) -> None:
    """Fill a module with published parameters, in place; also one made by `nnx.eval_shape`.

    Args:
        module: a layer, block or model of ours, of the shape that `read_config` gives.
        parameters: dotted published name -> array. Each is cast to the type of the parameter that
            it fills. The scale and bias [H, F / H] of a norm over heads fill ours of [F].

    Raises:
        ValueError: a name has no counterpart, a parameter is left out, or a shape does not fit;
            every such name is listed, and the module is unchanged.
    """
    flat = nnx.to_flat_state(nnx.state(module, nnx.Param))
    targets = {".".join(map(str, path)): (path, variable) for path, variable in flat}
    problems, filled = [], {}
    for published, array in parameters.items():
        name = parameter_name(published)
        if name not in targets:
            problems.append(f"{published}: no parameter {name!r} in {type(module).__name__}")
            continue
        path, variable = targets[name]
        array = jnp.asarray(array, variable.dtype)
        if array.ndim == 2 and variable.ndim == 1 and path[-2:-1] == ("norm",):
            array = array.reshape(-1)
        if array.shape != variable.shape:
            problems.append(f"{published}: got shape {array.shape}, expected {variable.shape}")
        filled[name] = (path, variable.replace(array))
    problems += [f"{name}: not among the parameters given" for name in targets.keys() - filled]
    if problems:
        raise ValueError("parameters do not fit the module:\n  " + "\n  ".join(sorted(problems)))
    nnx.update(module, nnx.from_flat_state(list(filled.values())))
    fill_hyperparameters(module)
