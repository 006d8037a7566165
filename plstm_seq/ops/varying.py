"""The mesh axes over which an array may vary from device to device inside `jax.shard_map`.

If jax checks these axes (`check_vma=True`, its default), a loop's carry and a derivative rule need
the same axes as the arrays that they are made from, and a kernel has to declare those of its
results.
"""

from typing import Any, TypeVar

import jax
from jax import Array
from jax.sharding import ManualAxisType

Tree = TypeVar("Tree")


def axes_of(tree: Any) -> frozenset:
    """Returns the mesh axes over which any leaf of the tree varies."""
    leaves = jax.tree.leaves(tree)
    return frozenset().union(*(jax.typeof(x).manual_axis_type.varying for x in leaves))


def alike(tree: Tree) -> Tree:
    """Makes every leaf vary over all mesh axes over which any of the leaves varies."""
    return vary(tree, axes_of(tree))


def vary(tree: Any, axes: frozenset) -> Any:
    """Makes the leaves vary over `axes`, too; the transpose of this function sums over them."""

    def cast(array: Array) -> Array:
        missing = axes - axes_of(array)
        return jax.lax.pcast(array, tuple(sorted(missing)), to="varying") if missing else array

    return jax.tree.map(cast, tree)


def result(shape: tuple[int, ...], dtype: Any, *arguments: Any) -> jax.ShapeDtypeStruct:
    """Returns the `out_shape` for `pallas_call`; the result varies over the arguments' axes."""
    return jax.ShapeDtypeStruct(
        shape, dtype, manual_axis_type=ManualAxisType(varying=axes_of(arguments))
    )
