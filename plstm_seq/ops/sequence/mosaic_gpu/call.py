"""Launching a kernel with one warpgroup for every point of a grid."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jax import Array
from jax.experimental.pallas import mosaic_gpu as plgpu

from plstm_seq.ops import varying

# The last axis of a grid may be longer than this, the others may not.
LAST_AXES = 65535

# Whether kernels that are traced now run interpreted on the CPU, for tests.
_interpreted: contextvars.ContextVar[bool] = contextvars.ContextVar("interpreted", default=False)


@contextlib.contextmanager
def interpreted(value: bool) -> Iterator[None]:
    """Sets whether kernels that are called inside this context run interpreted."""
    token = _interpreted.set(value)
    try:
        yield
    finally:
        _interpreted.reset(token)


def is_interpreted() -> bool:
    """Returns whether the kernel that is traced now runs interpreted."""
    return _interpreted.get()


def call(
    name: str,
    body: Callable[..., None],
    *arguments: Any,
    out_type: Any,
    grid: Mapping[str, int],
    scratch: Mapping[str, Any] | None = None,
) -> Any:
    """Runs a kernel; `body` takes inputs and outputs by position, and the scratch by name.

    The kernel itself sets barriers (`commit_smem`).

    Args:
        name: the name that profilers show, after `plstm_1d_`.
        body: the kernel.
        arguments: the input arrays.
        out_type: a `jax.ShapeDtypeStruct` for every result.
        grid: names and sizes of the grid's axes.
        scratch: shared memory and barriers.
    """
    body.__name__ = f"plstm_1d_{name}"
    if any(size > LAST_AXES for size in list(grid.values())[:-1]):
        grid = dict(sorted(grid.items(), key=lambda axis: axis[1]))
    kernel = plgpu.kernel(
        body,
        out_type=out_type,
        grid=tuple(grid.values()),
        grid_names=tuple(_axis(name) for name in grid),
        scratch_types=dict(scratch or {}),
        compiler_params=plgpu.CompilerParams(
            lowering_semantics=plgpu.LoweringSemantics.Lane, unsafe_no_auto_barriers=True
        ),
        interpret=_interpreter() if is_interpreted() else None,
    )
    # jax launches the kernel without telling over which axes of `jax.shard_map` the results vary.
    return varying.vary(kernel(*arguments), varying.axes_of(arguments))


def position(axis: str) -> Array:
    """Returns this warpgroup's position on an axis of the grid."""
    return jax.lax.axis_index(_axis(axis))


def _axis(name: str) -> str:
    """Returns a name for an axis of the grid that no user's mesh has."""
    return f"plstm_1d_{name}"


def _interpreter() -> Any:
    return plgpu.InterpretGPUParams(detect_races=True)  # pyright: ignore[reportAttributeAccessIssue]
