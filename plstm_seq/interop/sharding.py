"""Names the axes of parameters, and splits them over a mesh of devices.

This module alone knows the axes: it derives them from a parameter's path and shape. A model can
therefore be split without a change to its code, and the compiler partitions the programs that use
it under `jit`.
"""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

LogicalAxis = Literal["vocabulary", "labels", "width", "inner", "heads"]
Axes = tuple[LogicalAxis | None, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class ShardingRules:
    """The mesh axis that each logical axis is split over; None keeps it whole on every device.

    For tensor parallelism, use `ShardingRules(vocabulary="model", labels="model", inner="model",
    heads="model")`. To split parameters over the devices that share a batch, use `width="data"`.

    Attributes:
        vocabulary: The mesh axis for the rows of an embedding.
        labels: The mesh axis for the columns of an output head.
        width: The mesh axis for the features between blocks, which layers read and write.
        inner: The mesh axis for the features inside a block's feed-forward part, or of a projection
            that is not divided into heads.
        heads: The mesh axis for the heads, or for the features of all heads one after another.
    """

    vocabulary: str | None = None
    labels: str | None = None
    width: str | None = None
    inner: str | None = None
    heads: str | None = None

    def spec(self, axes: Axes) -> PartitionSpec:
        """Return the partition of an array with these axes.

        If several of the array's axes have the same mesh axis, it splits the first of them.
        """
        names: list[str | None] = []
        for axis in axes:
            name = None if axis is None else getattr(self, axis)
            names.append(None if name in names else name)
        return PartitionSpec(*names)

    def mesh_axes(self) -> set[str]:
        """Return the names of the mesh axes that the rules use."""
        return {name for name in dataclasses.astuple(self) if name is not None}


def _named(*axes: LogicalAxis | None) -> Callable[[Shape], Axes]:
    return lambda shape: (*axes, *(None,) * (len(shape) - len(axes)))


def _last(axis: LogicalAxis) -> Callable[[Shape], Axes]:
    return lambda shape: (*(None,) * (len(shape) - 1), axis)


def _in_blocks(blocks: int) -> Callable[[Shape], Axes]:
    """Return the axes of a weight [H / S, ..., I / S] that has S blocks at the axis `blocks`.

    Head h S + s reads block s of the input.
    """

    def axes(shape: Shape) -> Axes:
        named: list[LogicalAxis | None] = [None] * len(shape)
        named[blocks if shape[blocks] > 1 else 0] = "heads"
        if shape[blocks] == 1:
            named[-1] = "width"
        return tuple(named)

    return axes


# The first pattern that matches the end of a parameter's path gives the axes of the parameter.
_AXES: tuple[tuple[re.Pattern[str], Callable[[Shape], Axes]], ...] = tuple(
    (re.compile(rf"(^|\.)({pattern})$"), axes)
    for pattern, axes in (
        (r"position\.embedding|cls_token", _last("width")),
        (r"transition\.embedding", _named("vocabulary", "heads")),
        (r"(token_)?embedding\.embedding", _named("vocabulary", "width")),
        (r"embedding\.(kernel|bias)", _last("width")),
        (r"lm_head|head", _named("width", "labels")),
        (r"head_bias", _named("labels")),
        (r"upproj\.kernel", _named("width", "inner")),
        (r"upproj\.bias", _named("inner")),
        (r"downproj\.kernel|(down|out)\.kernel", _named("inner", "width")),
        (r"outprojection\.kernel", _named("heads", "width")),
        (r"(source|mark|share)\.edges\.weight", _named("heads")),
        (r"(source|mark|direct|share)\w*(\.nodes)?\.weight", _in_blocks(1)),
        (r"transition\w*\.\w+_weight", _in_blocks(1)),
        (r"(query|key|value)\.weight", _in_blocks(3)),
        (r"(source|mark|direct|share)\w*(\.nodes)?\.bias", _named("heads")),
        (r"transition\w*\.\w+_bias", _named("heads")),
        (r"orientation\.weight", _named(None, "heads", "width")),
        (r"orientation\.bias", _named(None, "heads")),
        (r"(query|key|value)\.bias|initial_state", _named("heads")),
        (r"(query|key|value|gate|of_sender|of_receiver)\.kernel", _named("width", "heads")),
        (r"of_edge\.kernel", _last("heads")),
        (r"(mhnorm|readout\.norm)(\.norm)?\.(scale|bias)", _named("heads")),
        (r"cell\.h\w+\.kernel|cell\.dense_h\.kernel", _named(None, "inner")),
        (r"(conv|convolution)\.kernel", _last("width")),
        (r"(conv|convolution|outprojection|downproj|down|out)\.bias", _named("width")),
        (r"(\w*norm2?(\.norm)?|passthrough|scale\d?)\.(scale|bias)", _named("width")),
    )
)


def logical_axes(module: nnx.Module) -> dict[str, Axes]:
    """Return the logical axes of every parameter, by the parameter's dotted path.

    A matrix whose path ends with `kernel` and matches no known pattern is taken as [width, inner];
    any other unknown array has no named axes.
    """
    flat = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return {_name(path): _axes_of(_name(path), variable.shape) for path, variable in flat}


def shardings(module: nnx.Module, mesh: Mesh, rules: ShardingRules) -> nnx.State:
    """Return how every array of a module is split over a mesh, as `jit` and `device_put` take it.

    Args:
        module: Any module, also one made by `nnx.eval_shape`.
        mesh: The devices.
        rules: The mesh axis that each logical axis is split over.

    Returns:
        A tree of `NamedSharding`s, of the structure of `nnx.state(module)`. Arrays that are not
        parameters are not split.

    Raises:
        ValueError: If the mesh lacks an axis of the rules, or does not divide an axis of a
            parameter. The message lists every such parameter.
    """
    lacking = sorted(rules.mesh_axes() - set(mesh.axis_names))
    if lacking:
        raise ValueError(f"rules name the mesh axes {lacking}, the mesh has {mesh.axis_names}")
    axes, placed, problems = logical_axes(module), [], []
    for path, variable in nnx.to_flat_state(nnx.state(module)):
        spec = rules.spec(axes.get(_name(path), ()))
        problems += [
            f"{_name(path)}: axis {axis} has {size} entries, not a multiple of {name!r} = "
            f"{mesh.shape[name]}"
            for axis, (size, name) in enumerate(zip(variable.shape, spec, strict=False))
            if name is not None and size % mesh.shape[name]
        ]
        placed.append((path, variable.replace(NamedSharding(mesh, spec))))
    if problems:
        raise ValueError("the mesh does not divide:\n  " + "\n  ".join(problems))
    return nnx.from_flat_state(placed)


def shard(module: nnx.Module, mesh: Mesh, rules: ShardingRules) -> None:
    """Split the arrays of a module over a mesh, in place.

    The arguments and errors are those of `shardings`.
    """
    placed = shardings(module, mesh, rules)
    nnx.update(module, jax.device_put(nnx.state(module), placed))


def _axes_of(name: str, shape: Shape) -> Axes:
    for pattern, axes in _AXES:
        if pattern.search(name):
            return axes(shape)
    if name.endswith("kernel") and len(shape) == 2:
        return ("width", "inner")
    return (None,) * len(shape)


def _name(path: tuple) -> str:
    return ".".join(map(str, path))
