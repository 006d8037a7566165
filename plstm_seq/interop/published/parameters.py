"""Puts published parameters into our modules."""

import re
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from plstm_seq.interop.published.graph import graph_parameters
from plstm_seq.layers.configured import fill_hyperparameters
from plstm_seq.layers.dag import PLSTMDAGLayer


def _one_of_a_pair(match: re.Match[str]) -> str:
    """A published vision block is a pair of ours."""
    return f"blocks.{2 * int(match[1]) + int(match[2])}."


# Published name -> ours; applied in this order.
_RENAMES = (
    (re.compile(r"^block_stack\."), ""),
    (re.compile(r"^block(\d+)\.block([01])\."), _one_of_a_pair),
    (re.compile(r"(^|\.)block(\d+)\."), r"\1blocks.\2."),
    (re.compile(r"(^|\.)multiheadattention\.out\."), r"\1mixer.outprojection."),
    (re.compile(r"(^|\.)multiheadattention\."), r"\1mixer."),
    (re.compile(r"(^|\.)interaction_module\."), r"\1mixer."),
    (re.compile(r"(^|\.)value_\."), r"\1value."),
    (re.compile(r"(^|\.)_conv\."), r"\1"),
    (re.compile(r"^lm_head\.kernel$"), "lm_head"),
    (re.compile(r"(^|\.)scale\.scale$"), r"\1scale1.scale"),
    (re.compile(r"(^|\.)(source|transition)_r\."), r"\1\2_right."),
    (re.compile(r"(^|\.)(source|transition)_d\."), r"\1\2_down."),
    (re.compile(r"(^|\.)transition_rd\."), r"\1transition_turn."),
    (re.compile(r"(^|\.)mark_l\."), r"\1mark_left."),
    (re.compile(r"(^|\.)mark_u\."), r"\1mark_up."),
    (re.compile(r"(^|\.)orientation_(bias|weight)$"), r"\1orientation.\2"),
    (re.compile(r"^patch_embed\.proj\."), "embedding."),
    (re.compile(r"^pos_embed\.embed$"), "position.embedding"),
    (re.compile(r"^head\.kernel$"), "head"),
    (re.compile(r"^head\.bias$"), "head_bias"),
)

# Ours of these merge neighbouring axes, or leave out those of size 1.
_MERGED = re.compile(
    r"(^|\.)norm\.\w+$|^embedding\.kernel$|^position\.embedding$|^cls_token$"
    r"|mixer\.(query|key|value|outprojection)\.(kernel|bias)$"
)


def parameter_name(published: str) -> str:
    """Return the dotted path that a published parameter has in our modules.

    Example:
        >>> from plstm_seq.interop.published import parameter_name
        >>> parameter_name("block_stack.block0.interaction_module.value_.weight")
        'blocks.0.mixer.value.weight'
    """
    name = published
    for pattern, ours in _RENAMES:
        name = pattern.sub(ours, name)
    return name


def load_parameters(module: nnx.Module, parameters: Mapping[str, ArrayLike]) -> None:
    """Fill a module with published parameters, in place.

    Args:
        module: a layer, block or model of ours, built from what `read_config` returns. It may also
            be made by `nnx.eval_shape`, without parameters of its own.
        parameters: dotted published name -> array. Each is cast to the type of the parameter that
            it fills. Where ours has fewer axes (norms over heads [H, F / H], heads of attention,
            patches) they are merged.

    Raises:
        ValueError: a name has no counterpart, a parameter is left out, or a shape does not fit;
            every such name is listed, and the module is unchanged.

    Example:
        >>> from plstm_seq.interop.published import load_parameters
        >>> from plstm_seq.interop.published.writing import published_parameters
        >>> from plstm_seq.layers import PLSTM1DConfig, PLSTM1DLayer
        >>> config = PLSTM1DConfig(num_heads=2, DK=4, DV=4)
        >>> layer, other = (PLSTM1DLayer(16, config, rngs=nnx.Rngs(seed)) for seed in (0, 1))
        >>> load_parameters(other, published_parameters(layer))  # or those of a published file
        >>> bool((other.query.weight[...] == layer.query.weight[...]).all())
        True
    """
    if isinstance(module, PLSTMDAGLayer):
        parameters = graph_parameters(module, parameters)
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
        merged = array.ndim > variable.ndim and array.size == variable.size
        if merged and _MERGED.search(name):
            array = array.reshape(variable.shape)
        if array.shape != variable.shape:
            problems.append(f"{published}: got shape {array.shape}, expected {variable.shape}")
        filled[name] = (path, variable.replace(array))
    problems += [f"{name}: not among the parameters given" for name in targets.keys() - filled]
    if problems:
        raise ValueError("parameters do not fit the module:\n  " + "\n  ".join(sorted(problems)))
    nnx.update(module, nnx.from_flat_state(list(filled.values())))
    fill_hyperparameters(module)
