"""What only reverse mode goes through says so, wherever jax comes to know of forward mode.

A derivative rule for reverse mode alone (`jax.custom_vjp`) makes jax raise an error that knows
nothing of the op: at the call, when a jitted function is lowered, or in a loop. So tangents pass a
primitive that is the identity for the transposition that reverse mode is, and that can neither be
computed nor lowered.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Result = TypeVar("Result")


def reverse_mode_only(
    op: str, implementation: str, function: Callable[..., Result], *arguments: Any
) -> Result:
    """`function(*arguments)`, which says so where forward mode comes to it, but for `recurrent`.

    Args:
        op: the name of the op that it computes.
        implementation: how it does that.
        function: of pytrees of arrays.
        *arguments: the pytrees.

    Raises:
        NotImplementedError: of another implementation, at the latest when a derivative in forward
            mode is compiled.
    """
    if implementation == "recurrent":
        return function(*arguments)
    message = (
        f"{op} by {implementation} has no derivatives in forward mode (jax.jvp, jax.jacfwd, "
        'jax.hessian): use implementation="recurrent"'
    )

    @jax.custom_jvp
    def passed(arguments: Any) -> Any:
        return arguments

    @passed.defjvp
    def _(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
        leaves, structure = jax.tree.flatten(tangents[0])
        through = _tangents.bind(*leaves, message=message)
        return passed(primals[0]), jax.tree.unflatten(structure, through)

    try:
        return function(*passed(arguments))
    except TypeError as error:  # of jax, where a gradient is differentiated
        if "forward-mode" not in str(error):
            raise
        raise NotImplementedError(message) from error


# Of all tangents together, as jax does with those of a `custom_vjp`: where some are zeros that are
# known and others are not, none is computed in reverse mode.
_tangents = Primitive("tangents_of_reverse_mode_only")
_tangents.multiple_results = True


def _refuse(*arguments: Any, message: str, **options: Any) -> Any:
    del arguments, options
    raise NotImplementedError(message)


def _abstract(*tangents: Any, message: str) -> list[Any]:
    del message
    return list(tangents)


def _forward(primals: Any, tangents: Any, *, message: str) -> tuple[Any, Any]:
    tangents = [ad.instantiate_zeros(x) for x in tangents]
    return _tangents.bind(*primals, message=message), _tangents.bind(*tangents, message=message)


def _transpose(cotangents: list[Any], *tangents: Any, message: str) -> list[Any]:
    del tangents, message
    return cotangents


def _batch(arguments: Any, axes: Any, *, message: str) -> tuple[Any, Any]:
    return _tangents.bind(*arguments, message=message), axes


_tangents.def_impl(_refuse)
_tangents.def_abstract_eval(_abstract)
ad.primitive_jvps[_tangents] = _forward
ad.primitive_transposes[_tangents] = _transpose
batching.primitive_batchers[_tangents] = _batch
mlir.register_lowering(_tangents, _refuse)
