"""Arrow pointing: published images to the pixel, published statistics, and what a task promises."""

import math
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image, ImageDraw

from tasks.arrow_pointing import SPLITS, ArrowPointing, Scene

REPOSITORY = Path(__file__).parents[2]
COMMITTED = REPOSITORY / "tests" / "golden_tasks" / "arrow_pointing"
WHOLE = Path(
    os.environ.get("PLSTM_SEQ_GOLDEN_TASKS", REPOSITORY.parent / "shared" / "golden_tasks")
)
FILES = [*COMMITTED.glob("*.npz"), *(WHOLE / "arrow_pointing").glob("*.npz")]
files = pytest.mark.parametrize("path", FILES, ids=[f"{p.parts[-3]}-{p.stem}" for p in FILES])
DEFAULTS = {"ap224_default": ArrowPointing(min_length=10, max_width=3)}


def golden(path):
    with np.load(path) as file:
        return dict(file)


def pillow(scene, size):
    """One scene, drawn by Pillow as the published generator does."""
    x, y, angle, cx, cy, r, length, width = (float(field) for field in scene)
    image = Image.new("RGB", size[::-1], "white")
    canvas = ImageDraw.Draw(image)
    half, head = int(length) // 2, length // 2.5
    tip = (x + half * math.cos(angle), y + half * math.sin(angle))
    back = [(x - half * math.cos(angle), y - half * math.sin(angle))]
    back += [
        (tip[0] - head * math.cos(turned), tip[1] - head * math.sin(turned))
        for turned in (angle - 0.5, angle + 0.5)
    ]
    for point in back:
        canvas.line([point, tip], fill="black", width=int(width))
    canvas.ellipse([cx - r, cy - r, cx + r, cy + r], fill="black")
    return np.asarray(image)


@files
def test_published_images_and_labels(path):
    data, task = golden(path), DEFAULTS.get(path.stem, ArrowPointing())
    images = task.draw(Scene(*data["params"].T), data["image"].shape[1:3])
    np.testing.assert_array_equal(images, data["image"])
    for rows, labels in (("params", "label"), ("more_params", "more_label")):
        np.testing.assert_array_equal(task.targets(Scene(*data[rows].T)), data[labels])


def positions(scene, labels, side):
    """What the generator draws, per scene, in units in which it is bounded."""
    x, y, angle, cx, cy, r = (np.asarray(field, float) for field in scene[:6])
    wrapped = [np.mod(b - a, side) for a, b in ((x, cx), (y, cy))]
    towards = np.arctan2(cy - y, cx - x)
    off = np.abs((angle - towards + np.pi) % (2 * np.pi) - np.pi)
    sine = r / np.hypot(cx - x, cy - y)
    hit, miss = np.arcsin(sine / 1.2), np.arcsin(np.minimum(sine * 1.2, 1))
    turn = np.where(labels == 1, off / hit, (off - miss) / (np.pi - miss))
    across, down = ((d - 2 * r) / (side - 4 * r) for d in wrapped)
    return {"x": x, "y": y, "radius": r, "across": across, "down": down, "turn": turn}


def share_below(values, grid):
    return np.searchsorted(np.sort(values), grid, "right") / len(values)


@files
def test_scenes_are_distributed_as_the_published_ones(path):
    data, task = golden(path), DEFAULTS.get(path.stem, ArrowPointing())
    size = int(data["image"].shape[1])
    ours = task.scenes(jax.random.key(0), 8000, size)
    labels = np.asarray(task.targets(ours))
    theirs, more = Scene(*data["more_params"].T), data["more_label"]
    count = len(more)
    # The most that two samples' distribution functions differ, 1 time in 10,000.
    bound = 2.2 * math.sqrt(1 / count + 1 / len(labels))
    side = size - 2 * task.padding
    found, published = positions(ours, labels, side), positions(theirs, more, side)
    for name, values in published.items():
        grid = np.sort(np.concatenate([values, found[name]]))
        gap = share_below(values, grid) - share_below(found[name], grid)
        assert np.abs(gap).max() < bound, name
    for a, b in zip(map(np.asarray, ours[6:]), theirs[6:], strict=True):
        assert set(a.tolist()) == set(b.astype(int).tolist())
        gap = share_below(a, np.arange(31)) - share_below(b, np.arange(31))
        assert np.abs(gap).max() < bound
    assert abs(labels.mean() - 0.5) < 5 * 0.5 / len(labels) ** 0.5


@pytest.mark.parametrize(
    ("task", "size"),
    [
        (ArrowPointing(), (192, 192)),
        (ArrowPointing(max_width=8, padding=40), (200, 240)),
        (ArrowPointing(scale=1 / 3), (64, 61)),
    ],
    ids=["published", "wide strokes", "small"],
)
def test_every_image_is_what_pillow_draws(task, size):
    key, count = jax.random.key(2), 32
    images, targets = task.sample(key, count, size)
    assert images.dtype == np.uint8
    assert images.shape == (count, *size, 3)
    scene = Scene(*map(np.asarray, task.scenes(key, count, size)))
    np.testing.assert_array_equal(task.targets(scene), targets)
    assert set(np.asarray(targets).tolist()) == {0, 1}
    for image, *one in zip(np.asarray(images), *scene, strict=True):
        np.testing.assert_array_equal(image, pillow(one, size))


def test_labels_are_where_the_ray_meets_the_disc():
    task = ArrowPointing()
    scene = task.scenes(jax.random.key(3), 256, 192)
    x, y, angle, cx, cy, r = (np.asarray(field)[:, None] for field in scene[:6])
    steps = np.linspace(0, 300, 3001)
    gap = np.hypot(x + steps * np.cos(angle) - cx, y + steps * np.sin(angle) - cy)
    np.testing.assert_array_equal(task.targets(scene), (gap < r).any(axis=1))


def test_a_batch_is_a_function_of_its_key_and_an_example_of_its_number():
    task = ArrowPointing(scale=1 / 4)
    first = task.sample(jax.random.key(3), 4, 48)
    compiled = jax.jit(task.sample, static_argnums=(1, 2))
    for a, b in zip(first, compiled(jax.random.key(3), 4, 48), strict=True):
        np.testing.assert_array_equal(a, b)
    some = task.examples(43, [7, 3, 9], 48)
    np.testing.assert_array_equal(task.examples(43, [3], 48).images[0], some.images[1])
    assert (some.images[0] != some.images[2]).any()
    assert (task.examples(44, [3], 48).images[0] != some.images[1]).any()


def test_splits_are_those_of_the_protocol():
    assert len({split.seed for split in SPLITS.values()}) == len(SPLITS)
    assert all(split.size >= ArrowPointing().min_size for split in SPLITS.values())
    assert ArrowPointing(positive_ratio=0.3).chance == 0.7
