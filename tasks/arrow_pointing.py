"""Does the arrow point at the disc? The images of pLSTM's extrapolation experiment."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from tasks.arrow_pointing_drawing import draw
from tasks.grid import ImageBatch, Size, resolve_size
from tasks.options import check_at_least


class Scene(NamedTuple):
    """What an image shows, in pixels and radians; every field is `[B]`.

    Attributes:
        arrow_x: Column of the middle of the shaft.
        arrow_y: Row of the middle of the shaft.
        angle: Direction of the arrow, from +x towards +y (downwards).
        circle_x: Column of the disc's centre.
        circle_y: Row of the disc's centre.
        radius: Radius of the disc.
        arrow_length: Length of the arrow, a whole number.
        arrow_width: Width of its strokes, a whole number.
    """

    arrow_x: Array
    arrow_y: Array
    angle: Array
    circle_x: Array
    circle_y: Array
    radius: Array
    arrow_length: Array
    arrow_width: Array


class Split(NamedTuple):
    """A fixed set of images: its seed, how many, and their size."""

    seed: int
    images: int
    size: int


SPLITS: Mapping[str, Split] = {
    "train": Split(43, 100_000, 192),
    "validation": Split(100_042, 5_120, 192),
    "validation_large": Split(100_043, 5_120, 384),
    "test": Split(200_042, 10_240, 192),
    "test_large": Split(200_043, 10_240, 384),
}
"""The sets of the published protocol. Seeds are theirs; images are drawn alike, not the same."""


@dataclass(frozen=True)
class ArrowPointing:
    """Does the ray in front of the arrow hit the disc?

    *Rule.* With the disc's centre at distance d from the middle of the arrow and its radius r, the
    label is 1 if the arrow's direction differs from the centre's by less than `asin(r / d)`.

    *Images.* White, with a black arrow and a black disc; three equal channels. The label is drawn
    first. Arrow: middle uniform inside of the padding, length and width uniform and rounded down.
    Disc: radius uniform, centre uniform at a horizontal and a vertical distance of at least 2 r
    from the arrow, where the padded square is periodic. Angle: uniform among those that differ by
    at most `asin(r / (1.2 d))` for label 1, at least `asin(1.2 r / d)` for label 0. Objects keep
    their size in pixels when the image grows.

    *Chance.* The larger share of the two labels: 1/2.

    *Source.* Pöppel et al., pLSTM, arXiv 2506.11997, section 5.1, and the generator
    ml-jku/arrow_pointing_dataset, whose images `draw` equals to the pixel.

    Args:
        positive_ratio: Probability of label 1, between 0 and 1.
        min_radius: Smallest radius of the disc, above 0.
        max_radius: No radius reaches this.
        min_length: Smallest length of the arrow, at least 1.
        max_length: No length reaches this.
        min_width: Smallest width of its strokes, at least 2.
        max_width: No width reaches this.
        padding: Middle of the arrow and of the disc stay this far from the border; at least what
            keeps both inside of the image.
        margin: Factor between the radius and what an arrow may just hit or miss, at least 1.
        min_distance: Horizontal and vertical distance of the two, in radii; at least 1.
        scale: All sizes in pixels are multiplied by this; widths don't fall below 2. At 1/3 an
            image of 64 x 64 shows what one of 192 x 192 does.

    Example:
        >>> import jax
        >>> import tasks
        >>> batch = tasks.ArrowPointing(scale=1 / 3).sample(jax.random.key(0), batch=2, size=64)
        >>> batch.images.shape, batch.images.dtype.name, batch.targets.shape
        ((2, 64, 64, 3), 'uint8', (2,))
    """

    positive_ratio: float = 0.5
    min_radius: float = 15
    max_radius: float = 30
    min_length: int = 15
    max_length: int = 30
    min_width: int = 2
    max_width: int = 4
    padding: float = 30
    margin: float = 1.2
    min_distance: float = 2.0
    scale: float = 1.0

    name: ClassVar[str] = "arrow_pointing"

    def __post_init__(self) -> None:
        check_at_least("min_length", self.min_length, 1)
        check_at_least("max_length", self.max_length, self.min_length + 1)
        check_at_least("min_width", self.min_width, 2)
        check_at_least("max_width", self.max_width, self.min_width + 1)
        if not 0 < self.positive_ratio < 1:
            raise ValueError(f"positive_ratio must lie between 0 and 1, got {self.positive_ratio}")
        if self.scale <= 0:
            raise ValueError(f"scale must be above 0, got {self.scale}")
        if not 0 < self.min_radius <= self.max_radius:
            raise ValueError(
                f"radii must be above 0 and ascend, got {self.min_radius} .. {self.max_radius}"
            )
        if self.margin < 1:
            raise ValueError(f"margin must be at least 1, got {self.margin}")
        if self.min_distance * math.sqrt(2) <= self.margin:
            raise ValueError(
                f"min_distance={self.min_distance} is too small for margin={self.margin}: an "
                "arrow inside of the disc always hits it"
            )
        reach = max(self.max_radius, self.max_length / 2 + self.max_width)
        if self.padding < reach:
            raise ValueError(
                f"padding must be at least {reach:g}, so that objects stay inside of the image; "
                f"got {self.padding}"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """Misses, hits."""
        return ("misses", "hits")

    @property
    def chance(self) -> float:
        """The larger share of the two labels."""
        return max(self.positive_ratio, 1 - self.positive_ratio)

    @property
    def min_size(self) -> int:
        """Rows and columns that an image has at least."""
        inner = 2 * self.min_distance * self.max_radius
        return math.ceil(self.scale * (2 * self.padding + inner))

    def sample(self, key: Array, batch: int, size: Size) -> ImageBatch[Array]:
        """Draw a batch.

        The batch is a pure function of the arguments; under `jax.jit`, `batch` and `size` are
        static.

        Args:
            key: Typed random key.
            batch: Number of images, at least 1.
            size: Rows and columns, each at least `min_size`; one number for a square.

        Returns:
            Images uint8 `[batch, rows, columns, 3]` and their labels `[batch]`.

        Raises:
            ValueError: If `batch` is below 1 or the size below `min_size`.
            TypeError: If one is no integer.
        """
        check_at_least("batch", batch, 1)
        return _sample(self, jax.random.split(key, batch), self._resolve(size))

    def examples(self, seed: int, indices: ArrayLike, size: Size) -> ImageBatch[Array]:
        """Images of a fixed set, such as one of `SPLITS`.

        Args:
            seed: Says which set.
            indices: Integer `[B]`, numbers of the images; image i is the same in every batch.
            size: As in `sample`.

        Returns:
            Images and labels, as in `sample`.

        Raises:
            ValueError: As in `sample`, and if the indices aren't a row.
        """
        numbers = jnp.asarray(indices, jnp.uint32)
        if numbers.ndim != 1:
            raise ValueError(f"indices must have shape [B], got {numbers.shape}")
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), numbers)
        return _sample(self, keys, self._resolve(size))

    def scenes(self, key: Array, batch: int, size: Size) -> Scene:
        """What the images of `sample` show, for the same arguments."""
        check_at_least("batch", batch, 1)
        return _scenes(self, jax.random.split(key, batch), self._resolve(size))

    def targets(self, scene: Scene) -> Array:
        """Label given scenes: the function that `sample` itself uses. int32 `[B]`."""
        dx, dy = scene.circle_x - scene.arrow_x, scene.circle_y - scene.arrow_y
        ahead = jnp.cos(scene.angle) * dx + jnp.sin(scene.angle) * dy
        aside = jnp.cos(scene.angle) * dy - jnp.sin(scene.angle) * dx
        return ((ahead > 0) & (jnp.abs(aside) < scene.radius)).astype(jnp.int32)

    def draw(self, scene: Scene, size: Size) -> Array:
        """Draw given scenes.

        Args:
            scene: Every field `[B]`; no radius above `scale * max_radius`.
            size: Rows and columns; one number for a square.

        Returns:
            uint8 `[B, rows, columns, 3]`, 0 where something is drawn, else 255.
        """
        return _draw(self, Scene(*map(jnp.asarray, scene)), resolve_size(size))

    def _resolve(self, size: Size) -> tuple[int, int]:
        rows, columns = resolve_size(size)
        if min(rows, columns) < self.min_size:
            raise ValueError(
                f"images must have at least {self.min_size} rows and columns at scale="
                f"{self.scale:g}, got {rows} x {columns}; take a smaller scale, such as "
                f"{0.9 * self.scale * min(rows, columns) / self.min_size:.3g}"
            )
        return rows, columns


@functools.partial(jax.jit, static_argnums=(0, 2))
def _scenes(task: ArrowPointing, keys: Array, size: tuple[int, int]) -> Scene:
    draws = jax.vmap(lambda key: jax.random.uniform(key, (9,), jnp.float32))(keys).T
    label, length, width, across, down, radius, right, below, turn = draws
    rows, columns = (side - 2 * task.padding * task.scale for side in size)
    x, y = columns * across, rows * down
    r = task.scale * _between(task.min_radius, task.max_radius, radius)
    circle_x = _apart(x, columns, task.min_distance * r, right)
    circle_y = _apart(y, rows, task.min_distance * r, below)
    hits = label < task.positive_ratio
    sine = r / jnp.hypot(circle_x - x, circle_y - y)
    cone = jnp.arcsin(jnp.where(hits, sine / task.margin, sine * task.margin))
    to_centre = jnp.arctan2(circle_y - y, circle_x - x)
    turned = jnp.where(hits, cone * (2 * turn - 1), cone + 2 * turn * (np.pi - cone))
    edge = task.padding * task.scale
    return Scene(
        arrow_x=x + edge,
        arrow_y=y + edge,
        angle=to_centre + turned,
        circle_x=circle_x + edge,
        circle_y=circle_y + edge,
        radius=r,
        arrow_length=_whole(task.min_length, task.max_length, length, task.scale, least=1),
        arrow_width=_whole(task.min_width, task.max_width, width, task.scale, least=2),
    )


def _between(low: float, high: float, draw: Array) -> Array:
    return low + (high - low) * draw


def _whole(low: int, high: int, draw: Array, scale: float, *, least: int) -> Array:
    lengths = jnp.floor(scale * _between(low, high, draw)).astype(jnp.int32)
    return jnp.clip(lengths, least, max(least, math.ceil(scale * high) - 1))


def _apart(position: Array, side: float, distance: Array, draw: Array) -> Array:
    """A position at least that far from another, on a periodic side."""
    other = position + distance + (side - 2 * distance) * draw
    return jnp.where(other > side, other - side, other)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _draw(task: ArrowPointing, scene: Scene, size: tuple[int, int]) -> Array:
    length, width = (field.astype(jnp.int32) for field in scene[6:])
    arrow = (scene.arrow_x, scene.arrow_y, scene.angle, length, width)
    disc = (scene.circle_x, scene.circle_y, scene.radius)
    return draw(arrow, disc, size, task.scale * task.max_radius)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _sample(task: ArrowPointing, keys: Array, size: tuple[int, int]) -> ImageBatch[Array]:
    scene = _scenes(task, keys, size)
    return ImageBatch(_draw(task, scene, size), task.targets(scene))
