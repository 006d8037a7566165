"""Our parameters under the names of the published implementation."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from plstm_seq.interop.published.dialects import Dialect, from_nnx
from plstm_seq.interop.published.parameters import parameter_name
from plstm_seq.layers import Norm, PLSTM1DLayer, Transition
from plstm_seq.layers.dag import PLSTMDAGLayer
from plstm_seq.layers.grid import GridAttention, PLSTM2DLayer
from plstm_seq.layers.transition import Factorized, TransitionTable
from plstm_seq.models import VisionModel
from plstm_seq.models.patches import PatchEmbedding, PositionEmbedding

Path = tuple[Any, ...]

# Our name -> published; applied in this order.
_RENAMES = (
    (re.compile(r"(^|\.)mixer\."), r"\1interaction_module."),
    (re.compile(r"(^|\.)value\."), r"\1value_."),
    (re.compile(r"(^|\.)(conv|convolution)\."), r"\1\2._conv."),
    (re.compile(r"(^|\.)(source|transition)_right\."), r"\1\2_r."),
    (re.compile(r"(^|\.)(source|transition)_down\."), r"\1\2_d."),
    (re.compile(r"(^|\.)transition_turn\."), r"\1transition_rd."),
    (re.compile(r"(^|\.)mark_left\."), r"\1mark_l."),
    (re.compile(r"(^|\.)mark_up\."), r"\1mark_u."),
    (re.compile(r"(^|\.)orientation\.(bias|weight)$"), r"\1orientation_\2"),
    (re.compile(r"^embedding\."), "patch_embed.proj."),
    (re.compile(r"^position\.embedding$"), "pos_embed.embed"),
    (re.compile(r"^(lm_head|head)$"), r"\1.kernel"),
    (re.compile(r"^head_bias$"), "head.bias"),
)
# Instead, in blocks of a transformer.
_OF_ATTENTION = (
    (re.compile(r"(^|\.)mixer\.outprojection\."), r"\1multiheadattention.out."),
    (re.compile(r"(^|\.)mixer\."), r"\1multiheadattention."),
    (re.compile(r"(^|\.)scale1\.scale$"), r"\1scale.scale"),
)


def published_parameters(module: nnx.Module, dialect: Dialect = "nnx") -> dict[str, np.ndarray]:
    """Return the parameters of a module as the published implementation has them.

    What `load_parameters` reads, backwards. Names and shapes are theirs; that the published code
    computes the same is up to the options: it does for a module of `read_config`.

    Args:
        module: a pLSTM layer, a block of one in 1D or 2D or of attention, a language or a vision
            model.
        dialect: of which of its frameworks: "nnx", "linen" (dotted paths) or "torch". Layers of
            graphs exist in torch alone.

    Raises:
        ValueError: the published code has no such layer, transition or parameter.
    """
    if isinstance(module, PLSTMDAGLayer):
        return _of_graph_layer(module, dialect)
    parts: dict[Path, Any] = dict(nnx.iter_modules(module))
    _refuse(parts.values())
    attention = any(isinstance(part, GridAttention) for part in parts.values())
    named: dict[str, np.ndarray] = {}
    for path, variable in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        name = _published_name(module, path, attention)
        if parameter_name(name) != ".".join(map(str, path)):
            raise ValueError(
                f"{'.'.join(map(str, path))}: the published code has no such parameter"
            )
        array = np.asarray(variable.get_value())
        named[name] = array.reshape(_published_shape(parts, path, array.shape))
    return from_nnx(named, dialect)


def _of_graph_layer(layer: PLSTMDAGLayer, dialect: Dialect) -> dict[str, np.ndarray]:
    """`graph_parameters` backwards."""
    if dialect != "torch" or layer.config.published is None:
        raise ValueError(
            f"dialect, config.published: got {dialect!r} and {layer.config.published!r}, expected "
            "'torch' and 'node' or 'edge': other layers of graphs were not published"
        )
    named: dict[str, np.ndarray] = {}
    for path, variable in nnx.to_flat_state(nnx.state(layer, nnx.Param)):
        part, *_, name = map(str, path)
        array = np.asarray(variable.get_value())
        if part == "mhnorm":
            named[f"mhnorm.{name}"] = array.reshape(layer.config.num_heads, -1)
        elif part == "outprojection":
            named[f"out.{'weight' if name == 'kernel' else name}"] = array.T
        else:
            shape = (-1,) if name == "bias" else (-1, array.shape[-1])
            named[".".join(map(str, path))] = array.reshape(shape)
    for ours, published in (("source", "source"), ("mark", "mark"), ("share", "transition")):
        named[f"{published}.bias"] = named.pop(f"{ours}.nodes.bias")
        weights = [named.pop(f"{ours}.nodes.weight"), named.pop(f"{ours}.edges.weight", None)]
        # Of a line's two edges before the node's features, of one edge behind them.
        ordered = weights[::-1] if ours == "share" else weights
        present = [weight for weight in ordered if weight is not None]
        named[f"{published}.weight"] = np.concatenate(present, axis=-1)
    return {re.sub(r"^value\.", "value_.", name): array for name, array in named.items()}


def _refuse(parts: Any) -> None:
    for part in parts:
        mixer = getattr(part, "mixer", None)
        if mixer is not None and not isinstance(mixer, PLSTM1DLayer | PLSTM2DLayer | GridAttention):
            raise ValueError(f"mixer: the published code has no {type(mixer).__name__}")
        if isinstance(part, Transition) and not isinstance(part.config, Factorized):
            raise ValueError(f"transition: the published code has no {type(part.config).__name__}")
        if isinstance(part, TransitionTable):
            raise ValueError("transition: the published code has no table of transitions by token")
        if isinstance(part, PLSTM1DLayer) and part.config.source is None:
            raise ValueError("source: the published layer has one, got None")
        if isinstance(part, PLSTM1DLayer) and part.config.learned_initial_state:
            raise ValueError("learned_initial_state: the published layer begins with zeros")
        if isinstance(part, PLSTM1DLayer) and part.config.mark_reads != "before":
            raise ValueError("mark_reads: the published mark reads the state before the step")


def _published_name(module: nnx.Module, path: Path, attention: bool) -> str:
    names = [str(part) for part in path]
    if names[0] == "blocks":
        number = int(names[1])
        pair = isinstance(module, VisionModel) and not attention
        block = f"block{number // 2}.block{number % 2}" if pair else f"block{number}"
        names = ["block_stack", block, *names[2:]]
    name = ".".join(names)
    for pattern, published in _OF_ATTENTION if attention else ():
        name = pattern.sub(published, name)
    if "multiheadattention" not in name:
        for pattern, published in _RENAMES:
            name = pattern.sub(published, name)
    return name


def _published_shape(
    parts: Mapping[Path, Any], path: Path, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The published shape of an array: ours with neighbouring axes that ours merges apart."""
    *above, name = path
    owner, parent = parts[tuple(above)], parts.get(tuple(above[:-1]))
    if isinstance(parent, Norm):
        return parent.axes
    if isinstance(parent, GridAttention):
        heads = parent.config.num_heads
        if above[-1] == "outprojection":
            return (heads, -1, shape[-1]) if name == "kernel" else shape
        return (shape[0], heads, -1) if name == "kernel" else (heads, -1)
    if isinstance(owner, PatchEmbedding) and name == "kernel":
        size = owner.patch_size
        return (size, size, shape[0] // size**2, shape[1])
    if isinstance(owner, PositionEmbedding):
        return (1, *shape)
    return (1, *shape) if name == "cls_token" else shape
