"""Translates names and shapes of published parameters, and loads them into our modules."""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from plstm_seq.layers import Norm
from plstm_seq.layers.configured import fill_hyperparameters
from plstm_seq.layers.dag import PLSTMDAGLayer
from plstm_seq.layers.grid import GridAttention
from plstm_seq.models import VisionModel
from plstm_seq.models.patches import PatchEmbedding, PositionEmbedding

Path = tuple[Any, ...]
Shape = tuple[int, ...]
Pairs = tuple[tuple[str, str], ...]

# Pairs of a published name and ours. Each is one or more whole parts of a dotted path.
_NAMES = (
    ("interaction_module", "mixer"),
    ("value_", "value"),
    ("conv._conv", "conv"),
    ("convolution._conv", "convolution"),
    ("source_r", "source_right"),
    ("source_d", "source_down"),
    ("transition_r", "transition_right"),
    ("transition_d", "transition_down"),
    ("transition_rd", "transition_turn"),
    ("mark_l", "mark_left"),
    ("mark_u", "mark_up"),
    ("orientation_bias", "orientation.bias"),
    ("orientation_weight", "orientation.weight"),
    ("patch_embed.proj.kernel", "embedding.kernel"),
    ("patch_embed.proj.bias", "embedding.bias"),
    ("pos_embed.embed", "position.embedding"),
    ("lm_head.kernel", "lm_head"),
    ("head.kernel", "head"),
    ("head.bias", "head_bias"),
)
# The pairs for blocks with attention, which are replaced before the others, in this order.
_ATTENTION_NAMES = (
    ("multiheadattention.out", "mixer.outprojection"),
    ("multiheadattention", "mixer"),
    ("scale.scale", "scale1.scale"),
)
# The pairs for graph layers, which are used instead of the others.
_GRAPH_NAMES = (("transition", "share"), ("out", "outprojection"), ("value_", "value"))


def parameter_name(published: str) -> str:
    """Return the dotted path that a published parameter has in our modules.

    Example:
        >>> from plstm_seq.interop.published import parameter_name
        >>> parameter_name("block_stack.block0.interaction_module.value_.weight")
        'blocks.0.mixer.value.weight'
    """
    name = published.removeprefix("block_stack.").removeprefix("_conv.")
    # A published vision block is a pair of our blocks.
    name = re.sub(
        r"^block(\d+)\.block([01])\.",
        lambda match: f"blocks.{2 * int(match[1]) + int(match[2])}.",
        name,
    )
    name = re.sub(r"(^|\.)block(\d+)\.", r"\1blocks.\2.", name)
    return _renamed(name, (*_ATTENTION_NAMES, *_NAMES))


def published_name(parts: Mapping[Path, Any], path: Path) -> str:
    """Return the published name of one of our parameters.

    Args:
        parts: The modules inside the module, by path.
        path: The path of the parameter.

    Raises:
        ValueError: If the published code has no such parameter.
    """
    attention = any(isinstance(part, GridAttention) for part in parts.values())
    ours = name = ".".join(map(str, path))
    if path[0] == "blocks":
        number = int(path[1])
        pairs = isinstance(parts[()], VisionModel) and not attention
        block = f"block{number // 2}.block{number % 2}" if pairs else f"block{number}"
        name = name.replace(f"blocks.{number}", f"block_stack.{block}", 1)
    if attention:
        name = _renamed(name, _backwards(_ATTENTION_NAMES))
    if "multiheadattention" not in name:
        name = _renamed(name, _backwards(_NAMES))
    if parameter_name(name) != ours:
        raise ValueError(f"{ours}: the published code has no such parameter")
    return name


def _backwards(pairs: Pairs) -> Pairs:
    return tuple((ours, published) for published, ours in pairs)


def _renamed(name: str, pairs: Pairs) -> str:
    """Replace whole parts of a dotted name, pair by pair in the order given."""
    for old, new in pairs:
        name = re.sub(rf"(?<![^.]){re.escape(old)}(?![^.])", new, name)
    return name


def published_shape(parts: Mapping[Path, Any], path: Path, shape: Shape) -> Shape:
    """Return the published shape of one of our parameters.

    Our shapes merge neighbouring axes of the published shape (norms over heads, heads of
    attention, patches), or leave out axes of size 1.

    Args:
        parts: The modules inside the module, by path.
        path: The path of the parameter.
        shape: The shape of the parameter in our module.
    """
    *above, name = path
    owner, parent = parts.get(tuple(above)), parts.get(tuple(above[:-1]))
    if isinstance(parent, Norm):
        return parent.axes
    if isinstance(parent, GridAttention):
        heads = parent.config.num_heads
        if above[-1] == "outprojection":
            return (heads, shape[0] // heads, shape[-1]) if name == "kernel" else shape
        return (*shape[:-1], heads, shape[-1] // heads)
    if isinstance(owner, PatchEmbedding) and name == "kernel":
        size = owner.patch_size
        return (size, size, shape[0] // size**2, shape[1])
    if isinstance(owner, PositionEmbedding) or name == "cls_token":
        return (1, *shape)
    return shape


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
        parameters = _graph_parameters(module, parameters)
    parts: dict[Path, Any] = dict(nnx.iter_modules(module))
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
        if array.shape == published_shape(parts, path, variable.shape):
            array = array.reshape(variable.shape)
        if array.shape != variable.shape:
            problems.append(f"{published}: got shape {array.shape}, expected {variable.shape}")
        filled[name] = (path, variable.replace(array))
    problems += [f"{name}: not among the parameters given" for name in targets.keys() - filled]
    if problems:
        raise ValueError("parameters do not fit the module:\n  " + "\n  ".join(sorted(problems)))
    nnx.update(module, nnx.from_flat_state(list(filled.values())))
    fill_hyperparameters(module)


def _graph_pieces(layer: PLSTMDAGLayer) -> dict[str, list[tuple[str, Any]]]:
    """Return our parameters that make up each published parameter, in the published order.

    A published gate has one kernel [out, in] for node and edge features; our gates have one weight
    for each. In the gates of edges, the columns for the node come first; in the gates of lines,
    those for the two edges come first.

    Returns:
        For each published name, pairs of our name and our parameter.
    """
    pieces: dict[str, list[tuple[str, Any]]] = {}
    for path, variable in nnx.to_flat_state(nnx.state(layer, nnx.Param)):
        part, *_, name = map(str, path)
        published = _renamed(part, _backwards(_GRAPH_NAMES))
        published = f"{published}.{'weight' if name == 'kernel' else name}"
        pieces.setdefault(published, []).append((".".join(map(str, path)), variable))
    for published, named in pieces.items():  # "edges" or "nodes"
        named.sort(key=lambda piece: piece[0], reverse=not published.startswith("transition"))
    return pieces


def _graph_parameters(
    layer: PLSTMDAGLayer, parameters: Mapping[str, ArrayLike]
) -> dict[str, np.ndarray]:
    """Return published torch parameters of a graph layer with our names and shapes."""
    pieces, ours = _graph_pieces(layer), {}
    for published, given in parameters.items():
        array = np.asarray(given)
        if published not in pieces:
            ours[published] = array
            continue
        names, variables = zip(*pieces[published], strict=True)
        if names[0].endswith(".kernel"):
            array = array.T
        columns = np.cumsum([variable.shape[-1] for variable in variables])
        parts = np.split(array, columns[:-1], axis=-1)
        for name, variable, part in zip(names, variables, parts, strict=True):
            fits = part.size == variable.size
            ours[name] = part.reshape(variable.shape) if fits else part
    return ours


def published_graph_parameters(layer: PLSTMDAGLayer) -> dict[str, np.ndarray]:
    """Return the parameters of a graph layer with the published names and shapes in torch."""
    named: dict[str, np.ndarray] = {}
    for published, pieces in _graph_pieces(layer).items():
        arrays = [np.asarray(variable.get_value()) for _, variable in pieces]
        if pieces[0][0].endswith(".kernel"):
            named[published] = arrays[0].T
        elif published.startswith("mhnorm."):
            named[published] = arrays[0].reshape(layer.config.num_heads, -1)
        elif published.endswith(".bias"):
            named[published] = arrays[0].reshape(-1)
        else:
            rows = [array.reshape(-1, array.shape[-1]) for array in arrays]
            named[published] = np.concatenate(rows, axis=-1)
    return named
