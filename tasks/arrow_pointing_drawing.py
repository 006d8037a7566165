"""Draws arrows and discs with exactly the pixels that Pillow's `ImageDraw` sets.

Pillow truncates coordinates to whole pixels, draws a wide line as a polygon with four corners at
whole pixels, and draws a disc by walking along a quarter of an ellipse. Each of the shapes fills
one span of a row of pixels, so an image has four spans per row: three strokes and the disc.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

CHANNELS = 3
HEAD_ANGLE = 0.5
"""The angle between the shaft and either stroke of the head, in radians."""


def draw(
    arrow: tuple[Array, Array, Array, Array, Array],
    disc: tuple[Array, Array, Array],
    size: tuple[int, int],
    max_radius: float,
) -> Array:
    """Draw an arrow and a disc.

    Args:
        arrow: x and y of the middle of the shaft, angle from +x towards +y (downwards), length and
            width in whole pixels, each `[B]`.
        disc: x and y of the centre, and radius, each `[B]`.
        size: Rows and columns of the image.
        max_radius: No radius is larger.

    Returns:
        uint8 `[B, rows, columns, 3]`, 0 where something is drawn, else 255.
    """
    x, y, angle, length, width = arrow
    half, head = length // 2, 2 * length // 5
    tip = _along(x, y, angle, half)
    # The shaft and the two strokes of the head are a leading axis: this compiles faster than
    # drawing one stroke after another.
    turned = angle + jnp.array([[0], [-HEAD_ANGLE], [HEAD_ANGLE]], angle.dtype)
    start = jnp.stack([x, tip[0], tip[0]]), jnp.stack([y, tip[1], tip[1]])
    tails = _along(*start, turned, -jnp.stack([half, head, head]))
    rows = jnp.arange(size[0], dtype=jnp.int32)
    first, last = _stroke(_pixel(*tails), _pixel(*tip), width, rows)
    spans = [*zip(first, last, strict=True), _disc(*disc, rows, max_radius)]
    # Without the barrier the compiler computes the spans again for every pixel.
    spans = jax.lax.optimization_barrier(spans)
    # Columns and channels are one axis, because a broadcast to 3 channels costs twice as much.
    columns = jnp.asarray(np.repeat(np.arange(size[1], dtype=np.int32), CHANNELS))
    pixels = [
        (columns >= first[:, :, None]) & (columns <= last[:, :, None]) for first, last in spans
    ]
    images = jnp.where(functools.reduce(jnp.logical_or, pixels), jnp.uint8(0), jnp.uint8(255))
    return images.reshape(-1, *size, CHANNELS)


def _along(x: Array, y: Array, angle: Array, distance: Array) -> tuple[Array, Array]:
    return x + distance * jnp.cos(angle), y + distance * jnp.sin(angle)


def _pixel(x: Array, y: Array) -> tuple[Array, Array]:
    return jnp.trunc(x).astype(jnp.int32), jnp.trunc(y).astype(jnp.int32)


def _stroke(
    start: tuple[Array, Array], end: tuple[Array, Array], width: Array, rows: Array
) -> tuple[Array, Array]:
    """Compute the first and last column of wide lines in each row, `[*, B, rows]`.

    A row has no pixel if its first column is larger than its last. Lines `[*, B]` begin at `start`
    and end at `end`; `width` is `[B]`.
    """
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    length = jnp.maximum(jnp.hypot(dx.astype(jnp.float32), dy.astype(jnp.float32)), 1)

    def offset(pixels: Array, side: Array) -> Array:
        # Round to the nearest pixel. There are no ties, because the hypotenuse of a reduced right
        # triangle is odd.
        return jnp.rint(pixels * side / length).astype(jnp.int32)

    less, more = (width - 1) // 2, width // 2
    over, under = offset(more, dx), -offset(less, dx)
    before, after = -offset(less, dy), offset(more, dy)
    x = jnp.stack([x0 + before, x1 + before, x1 + after, x0 + after])[..., None]
    y = jnp.stack([y0 + over, y1 + over, y1 + under, y0 + under])[..., None]
    next_x, next_y = jnp.roll(x, -1, axis=0), jnp.roll(y, -1, axis=0)
    down = next_y >= y
    top, bottom = jnp.minimum(y, next_y), jnp.maximum(y, next_y)
    top_x, bottom_x = jnp.where(down, x, next_x), jnp.where(down, next_x, x)
    # An edge meets the row at top_x + run / rise. This is rounded half up for the left end and half
    # down for the right end. A horizontal edge ends where its neighbours do.
    rise = jnp.maximum(bottom - top, 1)
    run = (rows - top) * (bottom_x - top_x)
    crossed = (rows >= top) & (rows <= bottom)
    left = jnp.where(crossed, top_x + (2 * run + rise) // (2 * rise), np.iinfo(np.int32).max)
    right = jnp.where(crossed, top_x - (rise - 2 * run) // (2 * rise), -1)
    return left.min(axis=0), right.max(axis=0)


def _disc(x: Array, y: Array, radius: Array, rows: Array, max_radius: float) -> tuple[Array, Array]:
    """Compute the first and last column of a disc in each row, `[B, rows]`.

    A row has no pixel if its first column is larger than its last.
    """
    left, top = _pixel(x - radius, y - radius)
    right, bottom = _pixel(x + radius, y + radius)
    wide, high = (right - left)[:, None], (bottom - top)[:, None]
    table = jnp.asarray(half_widths(int(2 * max_radius) + 1), jnp.int32)
    height = jnp.abs(2 * (rows - top[:, None]) - high)
    half = table[wide, high - wide + 1, jnp.minimum(height, table.shape[2] - 1)]
    first = left[:, None] + (wide - half) // 2
    return jnp.where(half < 0, 1, first), jnp.where(half < 0, 0, first + half)


@functools.lru_cache(maxsize=8)
def half_widths(largest: int) -> np.ndarray:
    """Half the width of ellipses at each height above their middle.

    An ellipse's box spans `wide` by `high` steps between pixels, with `wide` up to `largest` and
    `high` within 1 of it. All lengths are counted in half pixels.

    Args:
        largest: The largest `wide`.

    Returns:
        int16 `[largest + 1, 3, largest + 3]`, indexed by `wide`, `high - wide + 1` and height
        above the middle; -1 outside of the ellipse.
    """
    table = np.full((largest + 1, 3, largest + 3), -1, np.int16)
    for wide in range(largest + 1):
        for high in range(max(wide - 1, 0), wide + 2):
            for x, y in _quarter(wide, high):
                table[wide, high - wide + 1, y] = max(table[wide, high - wide + 1, y], x)
    table.setflags(write=False)
    return table


def _quarter(wide: int, high: int) -> list[tuple[int, int]]:
    """Return the points of a quarter of an ellipse, from right to bottom, in half pixels."""

    def error(x: int, y: int) -> int:
        return abs(wide**2 * y**2 + high**2 * x**2 - wide**2 * high**2)

    x, y = wide, high % 2
    points = [(x, y)]
    while (x, y) != (wide % 2, high):
        steps = [(x, y + 2), (x - 2, y + 2), (x - 2, y)] if x > 1 else [(x, y + 2)]
        x, y = min(steps, key=lambda step: error(*step))
        points.append((x, y))
    return points
