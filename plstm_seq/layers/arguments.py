"""What layers do with their arguments: check them, and bring them to the type to compute in.

Each check raises with the argument's name.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, get_args

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import DTypeLike

T = TypeVar("T")


class HasShape(Protocol):
    """An array, or what stands for one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""
        ...


def given(**values: T | None) -> dict[str, T]:
    """The values that are not None, for the checks of options that may be left out."""
    return {name: value for name, value in values.items() if value is not None}


def require_positive(**sizes: int) -> None:
    """Raise `ValueError` for the first size below 1, or None."""
    for name, size in sizes.items():
        if size is None or size < 1:
            raise ValueError(f"{name}: got {size}, expected at least 1")


def require_above_zero(**values: float) -> None:
    """Raise `ValueError` for the first number that is not above 0, or None."""
    for name, value in values.items():
        if value is None or not value > 0:
            raise ValueError(f"{name}: got {value}, expected above 0")


def require_non_negative(**values: float) -> None:
    """Raise `ValueError` for the first number that is below 0 or NaN, or None."""
    for name, value in values.items():
        if value is None or not value >= 0:
            raise ValueError(f"{name}: got {value}, expected a non-negative number")


def require_choice(name: str, value: Any, choices: Any) -> None:
    """Raise `ValueError` unless the value is one of a `Literal`, or of other choices."""
    choices = get_args(choices) or choices
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}, expected one of {choices}")


def require_count(**counts: int) -> None:
    """Raise `ValueError` for the first number of parts, each written out, beyond 1 to 1,000."""
    for name, count in counts.items():
        if count is None or not 1 <= count <= 1000:
            raise ValueError(f"{name}: got {count}, expected 1 to 1000")


def require_divisible(name: str, size: int, by_name: str, by: int) -> None:
    """Raise `ValueError` unless `by` divides `size`."""
    if size % by:
        raise ValueError(f"{name}: got {size}, expected a multiple of {by_name} = {by}")


def require_shape(name: str, array: HasShape, axes: Sequence[int | str]) -> None:
    """Raise `ValueError` unless the shape fits: a number is a size, a string any size.

    A leading "..." stands for any number of axes. What has time "T" or cells "X", "Y" has some.
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
    """Ids of rows in a table of `count`, as int32; those of none read NaN.

    Args:
        count: the rows.
        name: of the ids, for the error.
        ids: [...], integers. jax counts negative ones from the end; here they are ids of no row.
        check: whether ids are looked at where they are known, which waits for the device.

    Raises:
        ValueError: an id that is known is that of no row.
    """
    known = not isinstance(ids, Tracer) and getattr(ids, "is_fully_addressable", True)
    if check and known and ids.size:
        here = np.asarray(ids)  # what jax computed from it would be traced where anything is
        low, high = here.min(), here.max()
        if low < 0 or high >= count:
            raise ValueError(f"{name}: got {low} to {high}, expected 0 to {count - 1}")
    ids = jnp.asarray(ids, jnp.int32)
    return jnp.where(ids < 0, count, ids)


def promote(*arrays: Array, dtype: DTypeLike | None = None) -> tuple[Array, ...]:
    """Bring arrays to one type: `dtype`, or where it is None the one they promote to."""
    common = jnp.result_type(*arrays) if dtype is None else dtype
    return tuple(array.astype(common) for array in arrays)


def computed(x: Any, dtype: DTypeLike | None, param_dtype: DTypeLike) -> Any:
    """Bring a layer's input to the type computed in; with `dtype` None that of both promoted."""
    return x.astype(jnp.result_type(x.dtype, param_dtype) if dtype is None else dtype)


def accumulation_dtype(dtype: DTypeLike) -> jnp.dtype:
    """float32 for everything shorter, so that sums and products of gates do not round away."""
    return jnp.promote_types(dtype, jnp.float32)
