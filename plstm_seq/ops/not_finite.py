"""Keeps NaN and infinity from spreading further than the recurrence takes them.

A fast form also multiplies by the zeros of a mask, and zero times infinity is NaN, so that a NaN or
infinity at one step would reach earlier steps. If any number is not finite, a form without masks
therefore computes the result, one sequence after another. Grids mark bad numbers instead
(`grid/not_finite.py`) and need no second form.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_batching import custom_vmap

from plstm_seq.ops.reverse_mode import without_forward_mode

# From pytrees of arrays to such a pytree.
Function = Callable[..., Any]


def truth_where_not_finite(name: str, fast: Function, truth: Function, *arguments: Any) -> Any:
    """Returns `fast(*arguments)`, or `truth(*arguments)` if a number in them is not finite.

    The gradient is chosen in the same way, where the numbers include the cotangents. The fast form
    always runs, the other one only if a number is not finite. Differentiable in reverse mode.

    Args:
        name: the name of the computation, for the error in forward mode.
        fast: a function of pytrees of arrays.
        truth: a function with the same results that multiplies nothing by the zeros of a mask.
        *arguments: pytrees of floating-point arrays; leaves may be None.

    Raises:
        NotImplementedError: a derivative in forward mode is asked for.
    """

    @jax.custom_vjp
    def call(*arguments: Any) -> Any:
        return forward(*arguments)[0]

    def forward(*arguments: Any) -> tuple[Any, Any]:
        result, backward = jax.vjp(fast, *arguments)
        finite = _finite(arguments)
        result = jax.lax.cond(finite, lambda: result, lambda: truth(*arguments))
        return result, (backward, finite, arguments)

    def gradient(kept: Any, cotangent: Any) -> Any:
        backward, finite, arguments = kept
        # This is outside the branch, because a CPU would compute it with one core inside.
        fast_gradient = backward(cotangent)
        return jax.lax.cond(
            finite & _finite(cotangent),
            lambda: fast_gradient,
            lambda: jax.vjp(truth, *arguments)[1](cotangent),
        )

    call.defvjp(forward, gradient)
    return without_forward_mode(name, "jax.grad, jax.vjp or jax.jacrev", call, *arguments)


def one_by_one(function: Function, leading: int) -> Function:
    """Maps a function over `leading` more axes of its arrays, as a loop.

    The loop needs the memory of one sequence alone. Every program reserves this memory, even if the
    branch with the loop never runs.
    """
    for _ in range(leading):
        function = _mapped(function)
    return function


def _mapped(function: Function) -> Function:
    return lambda *arguments: jax.lax.map(lambda one: function(*one), arguments)


def _finite(tree: Any) -> Array:
    """Returns whether all numbers are finite, with one answer for all members under `vmap`."""
    return _all_finite(jax.lax.stop_gradient(jax.tree.leaves(tree)))


@custom_vmap
def _all_finite(leaves: list[Array]) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


@_all_finite.def_vmap
def _together(size: int, mapped: list[Any], leaves: list[Array]) -> tuple[Array, bool]:
    del size, mapped
    return _all_finite(leaves), False
