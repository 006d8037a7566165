"""NaN and infinity go only where the recurrence takes them.

A fast form multiplies with the zeros of a mask, too, and zero times infinity is NaN: what is not
finite at one step would come through into steps before it. So where anything is not finite, a form
without masks answers instead, one sequence after another. Grids mark what is bad instead
(`grid/not_finite.py`), which takes no second form.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_batching import custom_vmap

from plstm_seq.ops.reverse_mode import without_forward_mode

# Of pytrees of arrays to such a pytree.
Function = Callable[..., Any]


def truth_where_not_finite(name: str, fast: Function, truth: Function, *arguments: Any) -> Any:
    """`fast(*arguments)`, but `truth(*arguments)` where a number of any argument is not finite.

    The same holds of the gradient, of the cotangents, too. The fast form always runs, the other one
    only where something is not finite. Differentiable in reverse mode.

    Args:
        name: of what is computed, for the error of forward mode.
        fast: a function of pytrees of arrays.
        truth: a function with the same results that multiplies nothing with the zeros of a mask.
        *arguments: pytrees of floating-point arrays, None among them.

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
        # Outside the branch, in which a CPU would compute it with one core.
        fast_gradient = backward(cotangent)
        return jax.lax.cond(
            finite & _finite(cotangent),
            lambda: fast_gradient,
            lambda: jax.vjp(truth, *arguments)[1](cotangent),
        )

    call.defvjp(forward, gradient)
    return without_forward_mode(name, "jax.grad, jax.vjp or jax.jacrev", call, *arguments)


def one_by_one(function: Function, leading: int) -> Function:
    """The function of arrays without `leading` axes, over those that have them, as a loop.

    A loop over sequences keeps the memory of one: it is there in every program, run or not.
    """
    for _ in range(leading):
        function = _mapped(function)
    return function


def _mapped(function: Function) -> Function:
    return lambda *arguments: jax.lax.map(lambda one: function(*one), arguments)


def _finite(tree: Any) -> Array:
    """Whether all numbers are finite; of mapped trees one answer for all, so that one form runs."""
    return _all_finite(jax.lax.stop_gradient(jax.tree.leaves(tree)))


@custom_vmap
def _all_finite(leaves: list[Array]) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


@_all_finite.def_vmap
def _together(size: int, mapped: list[Any], leaves: list[Array]) -> tuple[Array, bool]:
    del size, mapped
    return _all_finite(leaves), False
