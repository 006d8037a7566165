"""The form of all error messages, and checks of an op's arrays against `plstm_seq.notation`.

A message names the argument, the value that was passed and what was expected, for example
"heads: got 3, expected at least 4".
"""

import operator
from collections.abc import Collection, Iterable
from typing import Any, TypeVar, get_args

import jax
import jax.numpy as jnp
from jax import Array

# The name, the array, and the letters of its axes after *B.
Argument = tuple[str, Array | None, tuple[str, ...]]
Arrays = TypeVar("Arrays")


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise `ValueError` unless the condition `holds`; `expected` describes it in words."""
    if not holds:
        got = repr(value) if isinstance(value, str) else value
        raise ValueError(f"{name}: got {got}, expected {expected}")


def require_dtype(name: str, array: Any, kind: Any, expected: str) -> None:
    """Raise `TypeError` unless `array` is an array whose dtype has a kind such as `jnp.integer`."""
    dtype = getattr(array, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, kind):
        got = type(array).__name__ if dtype is None else dtype
        raise TypeError(f"{name}: got {got}, expected {expected}")


def require_choice(name: str, value: Any, choices: Any) -> None:
    """Raise `ValueError` unless the value is among the choices, a `Literal` or a collection."""
    choices = get_args(choices) or choices
    require(value in choices, name, value, f"one of {', '.join(map(str, choices))}")


def check_axes(
    arguments: Iterable[Argument], *, optional: Collection[str], empty: Collection[str] = ()
) -> None:
    """Check that every argument has the axes of its letters, and each letter one size everywhere.

    Args:
        arguments: the arguments; the first one determines *B, and the first one that has a letter
            determines the letter's size.
        optional: the names of the arguments that may be None.
        empty: the letters whose size may be 0.

    Raises:
        TypeError: an argument is not a floating-point array.
        ValueError: a shape does not fit the notation or another argument.
    """
    sizes: dict[str, tuple[int, str]] = {}
    batch: tuple[tuple[int, ...], str] | None = None
    for name, array, letters in arguments:
        if array is None:
            if name in optional:
                continue
            raise TypeError(f"{name}: got None, expected an array [*B, {', '.join(letters)}]")
        require_dtype(name, array, jnp.floating, "a floating-point array")
        shape = tuple(array.shape)
        if len(shape) < len(letters):
            raise ValueError(
                f"{name}: got shape {shape}, expected axes [*B, {', '.join(letters)}], "
                f"at least {len(letters)} of them"
            )
        split = len(shape) - len(letters)
        if batch is None:
            batch = shape[:split], name
        for letter, size in zip(letters, shape[split:], strict=True):
            sizes.setdefault(letter, (size, name))
        expected = batch[0] + tuple(sizes[letter][0] for letter in letters)
        if shape != expected:
            origin = ", ".join(
                f"{letter} = {sizes[letter][0]} from {sizes[letter][1]}"
                for letter in dict.fromkeys(letters)
            )
            raise ValueError(
                f"{name}: got shape {shape}, expected [*B, {', '.join(letters)}] = {expected} "
                f"(*B = {batch[0]} from {batch[1]}; {origin})"
            )
        if any(sizes[letter][0] == 0 for letter in letters if letter not in empty):
            raise ValueError(f"{name}: got shape {shape}, expected axes after *B of at least 1")


def as_jax(arrays: Arrays) -> Arrays:
    """Convert numpy arrays to jax arrays; leave jax arrays and tracers as they are."""
    return jax.tree.map(jnp.asarray, arrays)


def check_chunk_size(chunk_size: int | None, *, power_of_two: bool = False) -> None:
    """Raise an error unless the chunk size is None or a valid number of steps.

    Args:
        chunk_size: None, or a whole number of at least 1.
        power_of_two: whether the chunk size has to be a power of two.

    Raises:
        TypeError: the chunk size is not a whole number.
        ValueError: the chunk size is below 1, or has to be a power of two and is none.
    """
    if chunk_size is None:
        return
    wanted = "a power of two" if power_of_two else "a whole number of at least 1"
    try:
        number = operator.index(chunk_size)
    except TypeError:
        raise TypeError(f"chunk_size: got {chunk_size!r}, expected {wanted}") from None
    fits = number >= 1 and not (power_of_two and number & (number - 1))
    require(fits, "chunk_size", chunk_size, wanted)


def factor(scale: float | Array | None, query: Array, dtype: jnp.dtype) -> float | Array:
    """Return the factor of an op's output; a number stays a number.

    A kernel applies a number itself; an array, which may be traced, is applied after the kernel.

    Args:
        scale: a real number, or an array [] of one; None: `DK ** -0.5`.
        query: [..., DK, JQ].
        dtype: the type of the result if it is an array.

    Raises:
        TypeError: the scale is not a real number.
        ValueError: the scale has axes.
    """
    if scale is None:
        return query.shape[-2] ** -0.5
    if isinstance(scale, int | float) and not isinstance(scale, bool):
        return float(scale)
    given = getattr(scale, "dtype", None)
    whole = given is not None and jnp.issubdtype(given, jnp.integer)
    require_dtype("scale", scale, jnp.integer if whole else jnp.floating, "a real number")
    if jnp.shape(scale):
        raise ValueError(f"scale: got shape {jnp.shape(scale)}, expected one number")
    return jnp.asarray(scale, dtype)


def accumulation_dtype(*arrays: Array | None) -> jnp.dtype:
    """Return float64 if any of the arrays is float64, else float32."""
    given = (x for x in arrays if x is not None)
    return jnp.promote_types(jnp.result_type(*given), jnp.float32)
