"""Trees of arrays as flat dictionaries by path, which a file can hold and a reader can read."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

Leaves = dict[str, Array]


def is_key(leaf: Array) -> bool:
    """Whether an array holds typed random keys."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def named_leaves(tree: PyTree) -> Leaves:
    """The arrays of a tree by path (`blocks.0.kernel`); typed keys as their raw data."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {_name(path): _raw(leaf) for path, leaf in paths}


def replace_leaves(tree: Any, leaves: Leaves) -> Any:
    """The tree with its arrays taken from `leaves`, as `named_leaves` would name them."""

    def pick(path: tuple[Any, ...], old: Array) -> Array:
        new = leaves[_name(path)]
        if is_key(old):
            return jax.random.wrap_key_data(new, impl=jax.random.key_impl(old))
        return new

    return jax.tree_util.tree_map_with_path(pick, tree)


def _name(path: tuple[Any, ...]) -> str:
    # nnx puts a variable's value one attribute below it: of no interest to a reader of names.
    if isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name == "value":
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _raw(leaf: Array) -> Array:
    if is_key(leaf):
        return jax.random.key_data(leaf)
    return leaf


def describe(leaves: Leaves) -> dict[str, str]:
    """Type and shape of every array, for people."""
    return {name: f"{leaf.dtype.name}{list(leaf.shape)}" for name, leaf in leaves.items()}


def undescribe(description: str, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    """The type and shape that `describe` put into words, at some place."""
    dtype, shape = description.rstrip("]").split("[")
    sizes = tuple(int(size) for size in shape.split(",") if size)
    return jax.ShapeDtypeStruct(sizes, jnp.dtype(dtype), sharding=sharding)
