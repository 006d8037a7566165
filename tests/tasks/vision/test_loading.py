"""Batches from a source: complete, reproducible, resumable, and read no further than asked."""

import json
import threading

import numpy as np
import pytest

from tasks.vision import Augmentation, Example, Mixing, batches

pytest.importorskip("grain", reason="the extra vision is not installed")


class Numbered:
    """Images whose first pixel is their number; remembers what was read."""

    classes = ("even", "odd")

    def __init__(self, count, size=8):
        self.count, self.size = count, size
        self.read = []
        self._lock = threading.Lock()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        with self._lock:
            self.read.append(int(index))
        side = self.size if isinstance(self.size, int) else self.size[index]
        return Example(np.full((side, side, 3), index % 256, np.uint8), int(index) % 2)


def numbers(found):
    return [int(n) for batch in found for n in batch.images[:, 0, 0, 0]]


def test_an_epoch_holds_every_image_once():
    found = list(batches(Numbered(10), 4, epochs=1, drop_remainder=False))
    assert [len(batch.images) for batch in found] == [4, 4, 2]
    assert sorted(numbers(found)) == list(range(10))
    assert found[0].images.dtype == np.uint8
    assert found[0].targets.dtype == np.int32
    for batch in found:
        np.testing.assert_array_equal(batch.targets, batch.images[:, 0, 0, 0] % 2)
    assert len(list(batches(Numbered(10), 4, epochs=1))) == 2
    in_order = numbers(batches(Numbered(10), 5, epochs=2, shuffle=False))
    assert in_order == [*range(10), *range(10)]


def test_order_is_a_function_of_the_seed_and_differs_by_epoch():
    order = numbers(batches(Numbered(20), 5, epochs=2, seed=3))
    assert order == numbers(batches(Numbered(20), 5, epochs=2, seed=3, threads=2, prefetch=1))
    assert order != numbers(batches(Numbered(20), 5, epochs=2, seed=4))
    assert sorted(order[:20]) == sorted(order[20:]) == list(range(20))
    assert order[:20] != order[20:]


def test_parts_share_the_images():
    found = []
    for index in range(3):
        found += numbers(batches(Numbered(10), 1, epochs=1, seed=1, part=(index, 3)))
    assert sorted(found) == list(range(10))


def test_augmentation_differs_by_epoch_and_not_by_threads():
    change = Augmentation(4, crop="padded", flip=0.5)
    options = dict(transform=change, epochs=8, shuffle=False)
    first, again = (
        np.stack([batch.images for batch in batches(Numbered(3, 4), 3, threads=threads, **options)])
        for threads in (1, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first.reshape(8, -1), axis=0)) > 1


def test_a_state_goes_on_where_it_was_taken():
    def start():
        return batches(
            Numbered(11),
            4,
            transform=Augmentation(8, crop="padded", jitter=0.4),
            mixing=Mixing(2),
            seed=5,
        )

    whole = start()
    for _ in range(3):
        next(whole)
    state = json.loads(json.dumps(whole.get_state()))
    expected = [next(whole) for _ in range(5)]
    resumed = start()
    resumed.set_state(state)
    for ours, theirs in zip([next(resumed) for _ in range(5)], expected, strict=True):
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.targets, theirs.targets)
    assert expected[0].targets.shape == (4, 2)


def test_no_more_is_read_than_is_asked_for():
    source = Numbered(10_000)
    stream = batches(source, 4, threads=2, prefetch=2)
    for _ in range(5):
        next(stream)
    assert len(source.read) <= 4 * (5 + 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, r"batch: got .*, expected at least 1"),
        ({"threads": 0}, r"threads: got .*, expected at least 1"),
        ({"prefetch": 0}, r"prefetch: got .*, expected at least 1"),
        ({"epochs": 0}, r"epochs: got .*, expected at least 1"),
        ({"seed": -1}, r"seed: got .*, expected at least 0"),
        ({"part": (2, 2)}, r"part: got \(2, 2\), expected \(i, n\)"),
        ({"part": (4, 5)}, "source: got 3, expected at least 5 images for part"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        batches(Numbered(3), **{"batch": 2, **options})


def test_images_of_different_sizes_need_a_transform():
    source = Numbered(3, size=[4, 5, 6])
    with pytest.raises(ValueError, match=r"expected one size: .*Augmentation\(size=224\)"):
        next(batches(source, 3))
    assert next(batches(source, 3, transform=Augmentation(4))).images.shape == (3, 4, 4, 3)


@pytest.mark.parametrize("start", [1, 4])
def test_batches_that_are_passed_over_change_none_and_are_not_read(start):
    options = {"seed": 3, "mixing": Mixing(2), "epochs": 2}
    found = list(batches(Numbered(10), 3, **options))
    source = Numbered(10)
    late = list(batches(source, 3, start=start, **options))
    assert len(late) == len(found) - start
    for one, other in zip(late, found[start:], strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.targets, other.targets)
    assert len(source.read) == 3 * len(late)
