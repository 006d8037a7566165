"""Folds for cross validation: the published indices, and what every split promises."""

import os
from pathlib import Path

import numpy as np
import pytest

from tasks.graphs import folds

REPOSITORY = Path(__file__).parents[3]
COMMITTED = REPOSITORY / "tests" / "golden_tasks"
WHOLE = Path(
    os.environ.get("PLSTM_SEQ_GOLDEN_TASKS", REPOSITORY.parent / "shared" / "golden_tasks")
)
FILES = [path for root in (COMMITTED, WHOLE) for path in (root / "tu_splits").glob("*.npz")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_published_folds(path):
    with np.load(path) as file:
        arrays = dict(file)
    sets = [key.removesuffix("_y") for key in arrays if key.endswith("_y")]
    assert sets
    for name in sets:
        found = folds(arrays.pop(f"{name}_y").astype(int))
        assert len(found) == 10
        for number, fold in enumerate(found):
            for part, ours in zip(("train", "val", "test"), fold, strict=True):
                np.testing.assert_array_equal(ours, arrays.pop(f"{name}_fold{number}_{part}"))
    assert not arrays


@pytest.mark.parametrize("num_folds", [3, 10])
def test_every_graph_is_tested_once_and_classes_keep_their_shares(num_folds):
    labels = np.random.default_rng(0).choice([7, -1, 3], 500, p=[0.5, 0.3, 0.2])
    found = folds(labels, num_folds, 5)
    assert sorted(np.concatenate([fold.test for fold in found])) == list(range(500))
    for fold in found:
        assert sorted(np.concatenate(fold)) == list(range(500))
        assert len(fold.validation) == pytest.approx(len(fold.test), abs=2)
        for label in (7, -1, 3):
            share = (labels == label).mean()
            for part in fold:
                assert (labels[part] == label).sum() == pytest.approx(share * len(part), abs=2)
    again, other = folds(labels, num_folds, 5), folds(labels, num_folds, 6)
    for one, two in zip(found, again, strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)
    assert any(set(a.test) != set(b.test) for a, b in zip(found, other, strict=True))


def test_a_class_with_one_graph_is_in_one_part():
    labels = np.array([0] * 30 + [1])
    for fold in folds(labels, 5):
        assert sorted(np.concatenate(fold)) == list(range(31))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: folds([0, 1] * 9, 2), ValueError, r"num_folds: got .*, expected at least 3"),
        (
            lambda: folds([0, 1] * 9, 10),
            ValueError,
            r"num_folds: got .*, expected at most 9, the size of",
        ),
        (lambda: folds([]), ValueError, r"labels: got shape \(0,\), expected \[G\]"),
        (lambda: folds([0.5] * 20), TypeError, "labels: got float64, expected integers"),
    ],
)
def test_mistakes_are_explained(call, error, message):
    with pytest.raises(error, match=message):
        call()
