"""Inside `jax.shard_map`: over which mesh axes an array may differ from device to device.

Where jax checks that (`check_vma=True`, its default), a loop's carry and a derivative rule have to
agree about it with what they are made from, and the results of a kernel have to be told.
"""

from typing import Any, TypeVar

import jax
from jax import Array
from jax.sharding import ManualAxisType

Tree = TypeVar("Tree")


def axes_of(tree: Any) -> frozenset:
    """The mesh axes that a leaf of the tree varies over."""
    leaves = jax.tree.leaves(tree)
    return frozenset().union(*(jax.typeof(x).manual_axis_type.varying for x in leaves))


def alike(tree: Tree) -> Tree:
    """All leaves made to vary over what any one of them varies over."""
    return vary(tree, axes_of(tree))


def vary(tree: Any, axes: frozenset) -> Any:
    """Leaves made to vary over `axes` too; its transpose sums over them."""

    def cast(array: Array) -> Array:
        missing = axes - axes_of(array)
        return jax.lax.pcast(array, tuple(sorted(missing)), to="varying") if missing else array

    return jax.tree.map(cast, tree)


def result(shape: tuple[int, ...], dtype: Any, *arguments: Any) -> jax.ShapeDtypeStruct:
    """What to hand `pallas_call` as `out_shape`: the result varies as the arguments do."""
    return jax.ShapeDtypeStruct(
        shape, dtype, manual_axis_type=ManualAxisType(varying=axes_of(arguments))
    )
