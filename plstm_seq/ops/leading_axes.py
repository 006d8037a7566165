"""Functions of one flat batch axis, applied to any number of leading axes, mapped or sharded.

A kernel's grid runs over one axis N. An axis that `vmap` maps becomes a leading axis, so that vmap
enlarges the grid instead of looping over it. Leading axes that are sharded over a mesh are
flattened on each device separately, since flattening whole axes would often move data.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from plstm_seq.ops.device import Home, at_home

# From pytrees of arrays [N, ...] to such a pytree; in the result of over_leading_axes, [*B, ...].
Function = Callable[..., Any]


@functools.lru_cache(maxsize=1024)
def over_leading_axes(function: Function, leading: int, home: Home | None = None) -> Function:
    """Flattens the first `leading` axes (one or more) of all arguments, and restores the results'.

    The returned function is not differentiable; the caller wraps it in a derivative rule.

    Args:
        function: a function over one flat batch axis that contains kernels.
        leading: the number of axes to flatten.
        home: the platforms that the kernels are compiled for; None: all.
    """

    @custom_vmap
    def call(*arguments: Any) -> Any:
        return _partitioned(function, leading, home, arguments)(*arguments)

    @call.def_vmap
    def fold(size: int, is_mapped: list[Any], *arguments: Any) -> tuple[Any, Any]:
        # Unmapped arguments are copied, because a kernel's grid has one batch axis for all.
        arguments = jax.tree.map(
            lambda x, mapped: x if mapped else jnp.broadcast_to(x, (size, *x.shape)),
            arguments,
            tuple(is_mapped),
        )
        results = over_leading_axes(function, leading + 1, home)(*arguments)
        return results, jax.tree.map(lambda _: True, results)

    return call


def once(function: Function, op: str) -> Function:
    """Raises an error with advice if a pass of a derivative rule is itself differentiated.

    Args:
        function: the forward or backward pass of a derivative rule, which contains kernels.
        op: the op's name, for the error.
    """

    @jax.custom_jvp
    def call(*arguments: Any) -> Any:
        return function(*arguments)

    @call.defjvp
    def refuse(primals: Any, tangents: Any) -> Any:
        raise NotImplementedError(
            f"a kernel of {op} is differentiated once: for second derivatives use "
            'implementation="recurrent"'
        )

    return call


def _partitioned(function: Function, leading: int, home: Home | None, arguments: Any) -> Function:
    """Flattens the leading axes on each device; these may be sharded, all other axes may not."""

    def flat(*arguments: Any) -> Any:
        shape = jax.tree.leaves(arguments)[0].shape[:leading]
        merge = functools.partial(jax.lax.collapse, start_dimension=0, stop_dimension=leading)
        results = at_home(jax.jit(function), home, *jax.tree.map(merge, arguments))
        return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), results)

    def partition(mesh: Mesh, arguments: Any, results: Any) -> tuple[Any, ...]:
        shardings = functools.partial(_shardings, leading, (arguments, results))
        return mesh, flat, shardings(results), shardings(arguments)

    def infer(mesh: Mesh, arguments: Any, results: Any) -> Any:  # noqa: ARG001
        return _shardings(leading, arguments, results)

    partitioned = custom_partitioning(flat)
    rule, replicated = _rule(leading, arguments, jax.eval_shape(flat, *arguments))
    partitioned.def_partition(
        partition,
        infer_sharding_from_operands=infer,
        sharding_rule=rule,
        need_replication_factors=replicated,
    )
    return partitioned


def _rule(leading: int, arguments: Any, results: Any) -> tuple[str, tuple[str, ...]]:
    """Returns Shardy's rule, such as "b0 x0 x1, b0 x2 -> b0 x3", and its unsharded factors."""
    batch = [f"b{i}" for i in range(leading)]
    replicated: list[str] = []

    def write(tree: Any) -> str:
        words = []
        for leaf in jax.tree.leaves(tree):
            first = len(replicated)
            replicated.extend(f"x{first + i}" for i in range(leaf.ndim - leading))
            words.append(" ".join(batch + replicated[first:]))
        return ", ".join(words)

    return f"{write(arguments)} -> {write(results)}", tuple(replicated)


def _shardings(leading: int, given: Any, tree: Any) -> Any:
    """Returns one sharding for all leaves; each leading axis has the first one found in `given`."""
    shardings = [x.sharding for x in jax.tree.leaves(given)]
    named = [x for x in shardings if isinstance(x, NamedSharding)]
    if not named:
        # No mesh is known, and Shardy's rule has already made the shardings agree.
        return jax.tree.map(lambda x: x.sharding, tree)
    spec, used = [], set()
    for axis in range(leading):
        entries = (s.spec[axis] for s in named if axis < len(s.spec))
        entry = next((e for e in entries if e is not None and not used & _names(e)), None)
        used |= _names(entry)
        spec.append(entry)
    sharding: Sharding = NamedSharding(named[0].mesh, PartitionSpec(*spec))
    return jax.tree.map(lambda _: sharding, tree)


def _names(entry: Any) -> set[str]:
    if entry is None:
        return set()
    return {entry} if isinstance(entry, str) else set(entry)
