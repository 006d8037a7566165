"""Every augmentation against what it says it does."""

import numpy as np
import pytest

from tasks.vision import Augmentation, Example, ImageBatch, Mixing, cutmix, mixup
from tasks.vision.augmentation import (
    blur,
    center_crop,
    colour_jitter,
    grey,
    padded_crop,
    random_resized_crop,
    resize,
    solarise,
    three_augment,
)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(256, size=(*shape, 3), dtype=np.uint8)


def ramp(rows, columns):
    """Red tells the row and green the column."""
    row, column = np.mgrid[:rows, :columns].astype(np.uint8)
    return np.stack([row, column, np.zeros_like(row)], axis=2)


def random(seed=0):
    return np.random.default_rng(seed)


def test_center_crop_takes_the_middle_square():
    image = ramp(10, 20)
    np.testing.assert_array_equal(center_crop(image, 10), image[:, 5:15])
    np.testing.assert_array_equal(center_crop(image, 6, keep=0.6), image[2:8, 7:13])
    flat = center_crop(np.full((9, 7, 3), 80, np.uint8), 12)
    assert flat.shape == (12, 12, 3)
    assert (flat == 80).all()


def test_resized_crops_stay_in_the_image_and_cover_it():
    image, areas, shapes, corners = ramp(160, 200), [], [], []
    for seed in range(200):
        part = random_resized_crop(image, random(seed), 64, area=0.2)
        assert part.shape == (64, 64, 3)
        low, high = part.astype(int).min((0, 1)), part.astype(int).max((0, 1))
        height, width = high[0] - low[0] + 1, high[1] - low[1] + 1
        areas.append(height * width / image[..., 0].size)
        shapes.append(width / height)
        corners.append(low[:2])
    assert 0.15 < min(areas) < 0.3
    assert 0.85 < max(areas) <= 1
    assert 0.7 < min(shapes) < 0.85
    assert 1.2 < max(shapes) < 1.45
    assert len(set(map(tuple, corners))) > 150


def test_a_crop_that_never_fits_is_the_middle_square():
    image = ramp(2, 200)
    np.testing.assert_array_equal(
        random_resized_crop(image, random(), 4, area=0.9), resize(image, 4, (99, 0, 101, 2))
    )


def test_padded_crop_shifts_the_image():
    image, seen = ramp(8, 8) + np.uint8(1), set()
    for seed in range(60):
        part = padded_crop(image, random(seed), 2)
        assert part.shape == image.shape
        row, column = np.argwhere(part[..., 2])[0]
        # What is found at (row, column) came from one step per pixel of shift.
        shift = part[row, column, :2].astype(int) - 1 - (row, column)
        seen.add(tuple(shift.tolist()))
    assert seen <= {(a, b) for a in range(-2, 3) for b in range(-2, 3)}
    assert len(seen) > 15


def test_three_augment():
    image = noise(9, 9)
    luma = image @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_array_equal(grey(image), np.rint(luma)[..., None].repeat(3, 2))
    assert solarise(np.array([0, 127, 128, 255], np.uint8)).tolist() == [0, 127, 127, 0]
    assert blur(image, 2.0).std() < 0.5 * image.std()
    assert (blur(np.full((9, 9, 3), 40, np.uint8), 1.0) == 40).all()
    kinds = {"grey": 0, "solarised": 0, "blurred": 0}
    for seed in range(90):
        found = three_augment(image, random(seed))
        is_grey = (found == grey(image)).all()
        is_solar = (found == solarise(image)).all()
        kinds["grey" if is_grey else "solarised" if is_solar else "blurred"] += 1
    assert min(kinds.values()) > 15


def test_colour_jitter():
    image = noise(9, 9)
    assert (colour_jitter(image, random(), 0.0) == image).all()
    flat = np.full((4, 4, 3), 100, np.uint8)
    values = [int(colour_jitter(flat, random(seed), 0.3)[0, 0, 0]) for seed in range(200)]
    # Grey and flat: brightness alone shows.
    assert 68 < min(values) < 76
    assert 124 < max(values) < 132
    assert colour_jitter(image, random(1), 0.3).dtype == np.uint8


def test_augmentation_is_a_function_of_image_and_random_numbers():
    example = Example(noise(40, 50), 3)
    change = Augmentation(16, three_augment=True, jitter=0.3, vertical_flip=0.5)
    first, again = change(example, random(5)), change(example, random(5))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.image.shape == (16, 16, 3)
    assert first.image.dtype == np.uint8
    assert first.label == 3
    assert (first.image != change(example, random(6)).image).any()


def test_flips():
    image = noise(8, 8)
    for options, expected in (
        ({"flip": 1.0}, image[:, ::-1]),
        ({"flip": 0.0, "vertical_flip": 1.0}, image[::-1]),
        ({"flip": 0.0}, image),
    ):
        change = Augmentation(8, crop="center", **options)
        np.testing.assert_array_equal(change(Example(image, 0), random()).image, expected)
    assert Augmentation(8, crop="padded")(Example(image, 0), random()).image.shape == (8, 8, 3)


def batch_of(count=4, classes=3):
    return ImageBatch(noise(count, 8, 6), np.arange(count, dtype=np.int32) % classes)


def test_mixup_is_a_weighted_mean_with_the_reversed_batch():
    batch = Mixing(3, mixup=0, cutmix=0)(batch_of(), random())
    np.testing.assert_array_equal(batch.targets, np.eye(3)[[0, 1, 2, 0]])
    mixed = mixup(batch, random(2), 0.8)
    weight = random(2).beta(0.8, 0.8)
    exact = weight * batch.images + (1 - weight) * batch.images[::-1]
    assert np.abs(mixed.images - exact).max() < 0.51
    expected = weight * batch.targets + (1 - weight) * batch.targets[::-1]
    np.testing.assert_allclose(mixed.targets, expected, atol=1e-6)
    assert mixed.images.dtype == np.uint8
    assert mixed.targets.dtype == np.float32


def test_cutmix_weighs_labels_by_area():
    batch = Mixing(3, mixup=0, cutmix=0)(batch_of(), random())
    for seed in range(20):
        mixed = cutmix(batch, random(seed), 1.0)
        foreign = (mixed.images != batch.images).any(-1)[0]
        rows, columns = foreign.any(1), foreign.any(0)
        np.testing.assert_array_equal(foreign, rows[:, None] & columns)
        share = foreign.mean()
        np.testing.assert_allclose(mixed.targets[0], [1, 0, 0], atol=1e-6)
        np.testing.assert_allclose(mixed.targets[1], [0, 1 - share, share], atol=1e-6)
        taken = np.where(foreign[..., None], batch.images[::-1], batch.images)
        np.testing.assert_array_equal(mixed.images, taken)


def test_mixing_chooses_and_smooths():
    batch = batch_of()
    plain = Mixing(3, probability=0.0, smoothing=0.3)(batch, random())
    np.testing.assert_array_equal(plain.images, batch.images)
    np.testing.assert_allclose(plain.targets[0], [0.8, 0.1, 0.1], atol=1e-6)
    whole = 0
    for seed in range(40):
        mixed = Mixing(3)(batch, random(seed))
        np.testing.assert_allclose(mixed.targets.sum(axis=1), 1, atol=1e-6)
        pure = (mixed.images == batch.images) | (mixed.images == batch.images[::-1])
        whole += pure.all()
    assert 8 < whole < 32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Augmentation(0), r"size: got .*, expected at least 1"),
        (lambda: Augmentation(8, crop="middle"), r"crop: got .*, expected one of"),
        (lambda: Augmentation(8, area=0), "area: got 0, expected in"),
        (lambda: Augmentation(8, flip=1.5), "flip: got 1.5, expected in"),
        (lambda: Mixing(1), r"classes: got .*, expected at least 2"),
        (lambda: Mixing(3, cutmix=-1), r"cutmix: got .*, expected at least 0"),
        (lambda: Mixing(3, probability=2), "probability: got 2, expected in"),
        (lambda: Mixing(3, smoothing=1), "smoothing: got 1, expected in"),
    ],
)
def test_mistakes_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()
