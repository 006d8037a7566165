"""Tasks over grids: every label against a plain loop, and what every one of them promises."""

import inspect
import re

import jax
import numpy as np
import pytest

from tasks import ArrowPointing, GridTask, ImageTask, get_grid, grid_names
from tasks.groups import group
from tasks.registry import _GRIDS as _TASKS

GRID_TASKS = [
    ("grid_parity", {}),
    ("grid_parity", {"labels_at": "last"}),
    ("grid_word_problem", {}),
    ("grid_word_problem", {"group": "D4", "path": "rows"}),
]
grid_tasks = pytest.mark.parametrize(
    ("name", "options"),
    GRID_TASKS,
    ids=[name + "".join(f"-{k}={v}" for k, v in options.items()) for name, options in GRID_TASKS],
)
SIZES = [(1, 1), (1, 5), (4, 1), (3, 5)]


def by_hand(task, tokens):
    """Labels of one grid, cell by cell."""
    labels = np.zeros_like(tokens)
    if task.name == "grid_parity":
        for x, y in np.ndindex(tokens.shape):
            labels[x, y] = tokens[: x + 1, : y + 1].sum() % 2
        return labels
    table, order = group(task.group).table, group(task.group).order
    for x, y in np.ndindex(tokens.shape):
        if task.path == "rows":
            product = 0
            for element in tokens[: x + 1, : y + 1].ravel():
                product = table[product, element]
        else:
            before = (x - 1, y) if tokens[x, y] >= order else (x, y - 1)
            outside = min(before) < 0
            product = table[0 if outside else labels[before], tokens[x, y] % order]
        labels[x, y] = product
    return labels


@grid_tasks
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_labels_are_those_of_a_plain_loop(name, options, size):
    task = get_grid(name, **options)
    inputs, targets, mask = map(np.asarray, task.sample(jax.random.key(1), 3, size))
    assert inputs.shape == targets.shape == mask.shape == (3, *size)
    assert inputs.dtype == targets.dtype == np.int32
    for tokens, labels in zip(inputs, targets, strict=True):
        np.testing.assert_array_equal(labels, by_hand(task, tokens))
    np.testing.assert_array_equal(task.targets(inputs), targets)
    np.testing.assert_array_equal(task.scored(inputs), mask)
    last = getattr(task, "labels_at", "every") == "last"
    assert mask.sum() == (3 if last else mask.size)
    assert mask[:, -1, -1].all()


@grid_tasks
def test_a_batch_is_a_function_of_its_key(name, options):
    task = get_grid(name, **options)
    compiled = jax.jit(task.sample, static_argnums=(1, 2))
    first = task.sample(jax.random.key(3), 2, 4)
    for a, b in zip(first, compiled(jax.random.key(3), 2, 4), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first.inputs != task.sample(jax.random.key(4), 2, 4).inputs).any()


@grid_tasks
def test_chance_is_the_share_of_the_most_frequent_label(name, options):
    task, rows = get_grid(name, **options), 2048
    inputs, targets, _ = task.sample(jax.random.key(5), rows, (3, 4))
    for ids, count in ((inputs, len(task.vocabulary)), (targets, len(task.labels))):
        shares = np.bincount(np.asarray(ids)[:, -1, -1], minlength=count) / rows
        assert abs(shares - 1 / count).max() < 5 * (1 / count / rows) ** 0.5
    assert task.chance == 1 / len(task.labels)


@pytest.mark.parametrize("name", ["grid_parity", "grid_word_problem"])
def test_worked_example(name):
    task = get_grid(name)
    text = inspect.getdoc(_TASKS[name])
    match = re.search(r"^ +input +(.+)\n +label +(.+)$", text, re.MULTILINE)
    inputs, labels = ([row.split() for row in part.split("/")] for part in match.groups())
    tokens = np.vectorize(task.vocabulary.index)(inputs)
    found = np.asarray(task.targets(tokens[None]))[0]
    assert np.array(task.labels)[found].tolist() == labels


@pytest.mark.parametrize("name", grid_names())
def test_what_is_registered_keeps_the_promises(name):
    task = get_grid(name)
    assert isinstance(task, ImageTask)
    assert isinstance(task, GridTask) == (name != "arrow_pointing")
    assert task == get_grid(task.name)
    assert hash(task) == hash(get_grid(name))
    for part in ("*Rule.*", "*Chance.*", "*Source.*"):
        assert part in inspect.getdoc(_TASKS[name])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: get_grid("grid_party"), ValueError, "unknown task 'grid_party'; nearest: grid_"),
        (lambda: get_grid("grid_parity", group="S3"), ValueError, "no option 'group'"),
        (
            lambda: get_grid("grid_parity", labels_at="first"),
            ValueError,
            r"labels_at: got .*, expected one",
        ),
        (
            lambda: get_grid("grid_word_problem", group="X3"),
            ValueError,
            "group: got 'X3', expected Z5",
        ),
        (
            lambda: get_grid("grid_word_problem", path="up"),
            ValueError,
            r"path: got .*, expected one of",
        ),
        (lambda: get_grid("grid_parity").targets(np.zeros((2, 3), int)), ValueError, "B, X, Y"),
        (lambda: get_grid("grid_parity").targets(np.zeros((1, 2, 3))), TypeError, "integer"),
        (
            lambda: get_grid("grid_parity").sample(jax.random.key(0), 1, (0, 3)),
            ValueError,
            "rows: got 0, expected at least 1",
        ),
        (
            lambda: get_grid("grid_parity").sample(jax.random.key(0), 1, 2.5),
            TypeError,
            r"size: got .*, expected an integer or",
        ),
        (lambda: ArrowPointing(padding=10), ValueError, r"padding: got .*, expected at least 30"),
        (
            lambda: ArrowPointing(positive_ratio=1.0),
            ValueError,
            "positive_ratio: got 1.0, expected in",
        ),
        (lambda: ArrowPointing(min_width=1), ValueError, r"min_width: got .*, expected at least 2"),
        (
            lambda: ArrowPointing(max_length=15),
            ValueError,
            r"max_length: got .*, expected at least 16",
        ),
        (
            lambda: ArrowPointing(min_distance=0.5),
            ValueError,
            "min_distance: got 0.5, expected more than",
        ),
        (lambda: ArrowPointing(margin=0.9), ValueError, r"margin: got .*, expected at least 1"),
        (lambda: ArrowPointing(scale=0.0), ValueError, r"scale: got .*, expected above 0"),
        (
            lambda: ArrowPointing(min_radius=31),
            ValueError,
            r"min_radius, max_radius: got \(31, 30\), expected 0 <",
        ),
        (
            lambda: ArrowPointing().sample(jax.random.key(0), 2, 64),
            ValueError,
            "got 64 x 64, expected at least 180 rows and columns at scale=1; take a smaller scale",
        ),
    ],
)
def test_mistakes_are_explained(call, error, message):
    with pytest.raises(error, match=message):
        call()
