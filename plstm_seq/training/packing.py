"""Few long vectors in place of many small arrays, for an optimizer that works element by element.

A small model has dozens of small parameters, and each costs the optimizer kernels of its own: on
two CPU cores 30 arrays compile in a third of the time and step in less than half when packed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

Packed = dict[str, Array]
Select = Callable[[PyTree], PyTree]

SELECTED, OTHERS = "selected", "others"


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
