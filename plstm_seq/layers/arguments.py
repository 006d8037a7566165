"""Checks of the arguments of layers, and their conversion to the type to compute in.

Each error says what was given and what was expected, as those of `plstm_seq.ops.arguments` do.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import DTypeLike

from plstm_seq.ops.arguments import require as require
from plstm_seq.ops.arguments import require_choice as require_choice
from plstm_seq.ops.arguments import require_dtype as require_dtype

T = TypeVar("T")


class HasShape(Protocol):
    """An array, or an object with the shape of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""
        ...


def given(**values: T | None) -> dict[str, T]:
    """Return the values that are not None, for the checks of options that may be left out."""
    return {name: value for name, value in values.items() if value is not None}


def require_positive(**sizes: int) -> None:
    """Raise `ValueError` for the first size below 1, or None."""
    for name, size in sizes.items():
        require(size is not None and size >= 1, name, size, "at least 1")


def require_above_zero(**values: float) -> None:
    """Raise `ValueError` for the first number that is not above 0, or None."""
    for name, value in values.items():
        require(value is not None and value > 0, name, value, "above 0")


def require_non_negative(**values: float) -> None:
    """Raise `ValueError` for the first number that is below 0 or NaN, or None."""
    for name, value in values.items():
        require(value is not None and value >= 0, name, value, "a non-negative number")


def require_fraction(**values: float) -> None:
    """Raise `ValueError` for the first number that is not in [0, 1)."""
    for name, value in values.items():
        require(0 <= value < 1, name, value, "in [0, 1)")


def require_count(**counts: int) -> None:
    """Raise `ValueError` for the first number of parts that is not from 1 to 1,000."""
    for name, count in counts.items():
        require(count is not None and 1 <= count <= 1000, name, count, "1 to 1000")


def require_divisible(name: str, size: int, by_name: str, by: int) -> None:
    """Raise `ValueError` unless `by` divides `size`."""
    require(size % by == 0, name, size, f"a multiple of {by_name} = {by}")


def require_shape(name: str, array: HasShape, axes: Sequence[int | str]) -> None:
    """Raise `ValueError` unless the shape fits: a number is a size, a string stands for any size.

    A leading "..." stands for any number of axes. Axes named "T", "X" or "Y" must not be empty.
    """
    shape = tuple(array.shape)
    expected = tuple(axes)
    tail = expected[1:] if expected[:1] == ("...",) else expected
    free = len(tail) < len(expected)
    fits = len(shape) >= len(tail) if free else len(shape) == len(tail)
    compared = shape[len(shape) - len(tail) :]
    if not fits or any(
        isinstance(axis, int) and axis != size for axis, size in zip(tail, compared, strict=True)
    ):
        raise ValueError(f"{name}: got shape {shape}, expected [{', '.join(map(str, expected))}]")
    for axis, size in zip(tail, compared, strict=True):
        if axis in ("T", "X", "Y") and size == 0:
            raise ValueError(f"{name}: got shape {shape}, expected {axis} to be at least 1")


def ids_below(count: int, name: str, ids: Array, *, check: bool = True) -> Array:
    """Return ids of rows in a table as int32; ids of no row read NaN from the table.

    Args:
        count: the number of rows.
        name: what the error calls the ids.
        ids: [...], integers. jax counts negative ones from the end; here they are ids of no row.
        check: whether to check ids whose values are known, which waits for the device.

    Raises:
        ValueError: an id whose value is known is that of no row.
    """
    known = not isinstance(ids, Tracer) and getattr(ids, "is_fully_addressable", True)
    if check and known and ids.size:
        here = np.asarray(ids)  # on the host: inside a trace, jax would trace the check too
        low, high = here.min(), here.max()
        if low < 0 or high >= count:
            raise ValueError(f"{name}: got {low} to {high}, expected 0 to {count - 1}")
    ids = jnp.asarray(ids, jnp.int32)
    return jnp.where(ids < 0, count, ids)


def promote(*arrays: Array, dtype: DTypeLike | None = None) -> tuple[Array, ...]:
    """Bring arrays to one type: `dtype`, or if that is None, the one to which they promote."""
    common = jnp.result_type(*arrays) if dtype is None else dtype
    return tuple(array.astype(common) for array in arrays)


def computed(x: Any, dtype: DTypeLike | None, param_dtype: DTypeLike) -> Any:
    """Bring a layer's input to `dtype`; None: to the common type of input and parameters."""
    return x.astype(jnp.result_type(x.dtype, param_dtype) if dtype is None else dtype)


def accumulation_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Return float32 or a wider `dtype`, so that sums and products of gates keep their digits."""
    return jnp.promote_types(dtype, jnp.float32)
