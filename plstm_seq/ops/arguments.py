"""The checks of an op's arguments against the letters of `plstm_seq.notation`."""

from collections.abc import Collection, Iterable

import jax.numpy as jnp
from jax import Array

# Name, array, and the axes after *B.
Argument = tuple[str, Array | None, tuple[str, ...]]


def check_axes(
    arguments: Iterable[Argument], *, optional: Collection[str], empty: Collection[str] = ()
) -> None:
    """Holds every argument against its letters, and against the arguments before it.

    Args:
        arguments: the first one gives *B, and the first one with a letter gives its size.
        optional: the names of those that may be None.
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
            raise TypeError(f"{name} is None: an array [*B, {', '.join(letters)}] is expected")
        shape = _float_shape(name, array)
        if len(shape) < len(letters):
            raise ValueError(
                f"{name} has shape {shape}: expected axes [*B, {', '.join(letters)}], "
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
                f"{name} has shape {shape}: expected [*B, {', '.join(letters)}] = {expected} "
                f"(*B = {batch[0]} from {batch[1]}; {origin})"
            )
        if any(sizes[letter][0] == 0 for letter in letters if letter not in empty):
            raise ValueError(f"{name} has shape {shape}: every axis after *B must be at least 1")


def accumulation_dtype(*arrays: Array | None) -> jnp.dtype:
    """float64 where an array is, else float32."""
    given = (x for x in arrays if x is not None)
    return jnp.promote_types(jnp.result_type(*given), jnp.float32)


def _float_shape(name: str, array: Array) -> tuple[int, ...]:
    dtype = getattr(array, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        kind = type(array).__name__ if dtype is None else dtype
        raise TypeError(f"{name} is {kind}: a floating-point array is expected")
    return tuple(array.shape)
