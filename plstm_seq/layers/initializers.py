"""Parameter initialisers: frozen dataclasses, so that a config can hold and write them.

Each is called as `init(key, shape, dtype)`. All but `FanIn` are the published ones. `axis` counts
as in numpy and names the *input* axis of the parameter, so the fan-in is `shape[axis]`: -1 for
weights `[..., in]` (query, key, value, gates), -2 for kernels `[in, out]` (`nnx.Linear`).
"""

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from plstm_seq.layers.arguments import require, require_non_negative, require_positive


@dataclass(frozen=True)
class Zeros:
    """All entries 0."""

    kind: Literal["zeros"] = "zeros"

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """Return a new parameter of this shape and type."""
        return jax.nn.initializers.zeros(key, shape, dtype)


@dataclass(frozen=True)
class Ones:
    """All entries 1."""

    kind: Literal["ones"] = "ones"

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """Return a new parameter of this shape and type."""
        return jax.nn.initializers.ones(key, shape, dtype)


@dataclass(frozen=True)
class Constant:
    """All entries `value`."""

    value: float = 0.0
    kind: Literal["constant"] = "constant"

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """Return a new parameter of this shape and type."""
        return jax.nn.initializers.constant(self.value)(key, shape, dtype)


@dataclass(frozen=True)
class ScaledIdentity:
    """`value` times the identity between input and output axes, the same for all other axes.

    Where the sizes differ, the identity of the smaller size is tiled along the larger one.
    (The published initialiser ignores `value`, and its default axes give all ones.)
    """

    value: float = 1.0
    in_axes: int | tuple[int, ...] = -2
    out_axes: int | tuple[int, ...] = -1
    kind: Literal["diagonal"] = "diagonal"

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """Return a new parameter of this shape and type.

        Raises:
            ValueError: If input and output axes overlap, or neither size divides the other.
        """
        del key
        in_axes, out_axes = _axes(self.in_axes, shape), _axes(self.out_axes, shape)
        overlap = set(in_axes) & set(out_axes)
        require(not overlap, "in_axes", in_axes, f"none of the out_axes {out_axes} of {shape}")
        n_in, n_out = (math.prod(shape[axis] for axis in axes) for axes in (in_axes, out_axes))
        small, large = min(n_in, n_out), max(n_in, n_out)
        if large % small:
            raise ValueError(
                f"shape: got {shape} of {n_in} inputs and {n_out} outputs, expected one of these "
                "numbers to divide the other"
            )
        identity = jnp.eye(small, dtype=dtype) * jnp.asarray(self.value, dtype)
        matrix = jnp.tile(identity, (n_in // small, n_out // small))
        matrix_axes = in_axes + out_axes
        others = tuple(size for axis, size in enumerate(shape) if axis not in matrix_axes)
        matrix_shape = tuple(shape[axis] for axis in matrix_axes)
        batched = jnp.broadcast_to(matrix.reshape(matrix_shape), others + matrix_shape)
        return jnp.moveaxis(batched, range(len(others), len(shape)), matrix_axes)


@dataclass(frozen=True)
class Linspace:
    """`low ... high` in equal steps along `axis`, both ends included, equal along other axes.

    A single entry is in the middle, `(low + high) / 2`. (The published initialiser raises an error
    there, and for sizes at which a rounded step gives one entry too many.)
    """

    low: float = 0.0
    high: float = 1.0
    axis: int = -1
    kind: Literal["linspace"] = "linspace"

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """Return a new parameter of this shape and type."""
        del key
        (axis,) = _axes(self.axis, shape)
        size = shape[axis]
        middle = (self.low + self.high) / 2
        ends = (middle, middle) if size == 1 else (self.low, self.high)
        line = jnp.linspace(*ends, size, dtype=dtype)
        return jnp.broadcast_to(jnp.expand_dims(line, range(1, len(shape) - axis)), shape)


@dataclass(frozen=True)
class Normal:
    """Independent normal entries."""

    mean: float = 0.0
    stddev: float = 1.0
    kind: Literal["normal"] = "normal"

    def __post_init__(self):
        require_non_negative(stddev=self.stddev)

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """Return a new parameter of this shape and type."""
        return self.mean + jax.nn.initializers.normal(self.stddev)(key, shape, dtype)


@dataclass(frozen=True)
class TruncatedNormal:
    """Normal entries cut off outside `mean + stddev * [lower, upper]`."""

    mean: float = 0.0
    stddev: float = 1.0
    lower: float = -2.0
    upper: float = 2.0
    kind: Literal["truncated_normal"] = "truncated_normal"

    def __post_init__(self):
        require_non_negative(stddev=self.stddev)
        require(self.lower < self.upper, "lower", self.lower, f"less than upper = {self.upper}")

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """Return a new parameter of this shape and type."""
        draw = jax.nn.initializers.truncated_normal(self.stddev, lower=self.lower, upper=self.upper)
        return self.mean + draw(key, shape, dtype)


@dataclass(frozen=True)
class FanIn:
    """Normal entries of standard deviation `scale / sqrt(fan_in)`.

    With `scale = 1` inputs of unit variance give outputs of unit variance (LeCun's initialiser).
    """

    scale: float = 1.0
    axis: int | tuple[int, ...] = -1
    kind: Literal["fan_in"] = "fan_in"

    def __post_init__(self):
        require_non_negative(scale=self.scale)

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """Return a new parameter of this shape and type."""
        stddev = self.scale / math.sqrt(_fan_in(self.axis, shape))
        return jax.nn.initializers.normal(stddev)(key, shape, dtype)


@dataclass(frozen=True)
class Small:
    """Normal entries of standard deviation `mup_init_scale * sqrt(2 / (5 fan_in))`.

    Source: Nguyen and Salazar, Transformers without Tears, arXiv 1910.05895, section 2.2. The
    fan-in is the size of the input axis alone (the published initialiser takes
    `size / shape[-1]`, which is right only for kernels `[in, out]`).
    """

    axis: int | tuple[int, ...] = -1
    mup_init_scale: float = 1.0
    kind: Literal["small"] = "small"

    def __post_init__(self):
        require_non_negative(mup_init_scale=self.mup_init_scale)

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """Return a new parameter of this shape and type."""
        stddev = self.mup_init_scale * math.sqrt(2 / (5 * _fan_in(self.axis, shape)))
        return jax.nn.initializers.normal(stddev)(key, shape, dtype)


@dataclass(frozen=True)
class Wang:
    """Normal entries of standard deviation `mup_init_scale * 2 / (num_blocks sqrt(fan_in))`.

    It is for projections that write into a residual stream of `num_blocks` blocks (GPT-NeoX's
    `wang_init_method`, arXiv 2204.06745, which follows Wang and Komatsuzaki, GPT-J).
    """

    num_blocks: int = 1
    axis: int | tuple[int, ...] = -1
    mup_init_scale: float = 1.0
    kind: Literal["wang"] = "wang"

    def __post_init__(self):
        require_non_negative(mup_init_scale=self.mup_init_scale)
        require_positive(num_blocks=self.num_blocks)

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """Return a new parameter of this shape and type."""
        fan_in = _fan_in(self.axis, shape)
        stddev = self.mup_init_scale * 2 / (self.num_blocks * math.sqrt(fan_in))
        return jax.nn.initializers.normal(stddev)(key, shape, dtype)


@dataclass(frozen=True)
class RandomOrthogonal:
    """A random orthogonal matrix in the last two axes, drawn anew for all other axes.

    Where the two sizes differ, the rows or columns of the smaller size are orthonormal.
    """

    kind: Literal["random_orthogonal"] = "random_orthogonal"

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """Return a new parameter of this shape, which has at least two axes, and type."""
        *lead, rows, columns = shape
        wide = jax.dtypes.canonicalize_dtype(jnp.promote_types(dtype, jnp.float32))
        drawn = jax.random.orthogonal(key, rows, tuple(lead), dtype=wide, m=columns)
        return drawn.astype(dtype)


Initializer = (
    Zeros
    | Ones
    | Constant
    | ScaledIdentity
    | Linspace
    | Normal
    | TruncatedNormal
    | FanIn
    | Small
    | Wang
    | RandomOrthogonal
)


def _axes(axes: int | tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return axes as non-negative numbers; raise an error for an axis that the shape lacks."""
    axes = (axes,) if isinstance(axes, int) else axes
    for axis in axes:
        require(-len(shape) <= axis < len(shape), "axis", axis, f"an axis of the shape {shape}")
    return tuple(axis % len(shape) for axis in axes)


def _fan_in(axis: int | tuple[int, ...], shape: tuple[int, ...]) -> int:
    return math.prod(shape[i] for i in _axes(axis, shape))
