"""A helpful error if a function that has only reverse mode is differentiated in forward mode.

jax has its own error for functions with a `custom_vjp`, but it does not know the op, and jax raises
it in three places: at the call, when a jitted function is lowered, and in a loop. Tangents
therefore pass through a primitive. Reverse mode only transposes this primitive; forward mode
evaluates or lowers it, which raises our error.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Result = TypeVar("Result")


def without_forward_mode(
    name: str, remedy: str, function: Callable[..., Result], *arguments: Any
) -> Result:
    """Returns `function(*arguments)`, which raises an error in forward mode.

    Args:
        name: the name of the computation, for the error.
        remedy: what to use for forward mode instead, for the error.
        function: a function of pytrees of arrays.
        *arguments: the pytrees.

    Raises:
        NotImplementedError: at the latest when a derivative in forward mode is compiled.
    """
    message = (
        f"{name} has no derivatives in forward mode (jax.jvp, jax.jacfwd, jax.hessian): use "
        f"{remedy}"
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
    except TypeError as error:  # jax's own, while a Hessian is traced
        if "forward-mode" not in str(error):
            raise
        raise NotImplementedError(message) from error


# One call takes all tangents, as in jax's `custom_vjp`. Arguments that are not differentiated have
# tangents of known zeros; in calls of their own these would be evaluated at once.
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
