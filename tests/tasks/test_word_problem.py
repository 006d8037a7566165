"""Word problems against composed permutations."""

import jax
import numpy as np
import pytest

import tasks
from tasks.groups import group

IDENTITY = np.arange(5)
LENGTH = 13


def expected(task, row):
    """Labels of a row, from maps of points and a loop over tokens."""
    s5, k = group("S5"), task.tokens_per_transition
    images = [i.tolist() for i in s5.images]
    product, labels = IDENTITY, []
    for position, _ in enumerate(row):
        if position % k == k - 1:
            symbol = task.vocabulary[row[position - k + 1]]
            new = s5.images[s5.element(symbol)]
            product = product[new] if task.composition == "right" else new[product]
        labels.append(images.index(product.tolist()))
    return labels


VARIANTS = {
    "left": {"composition": "left"},
    "standard": {"generators": "standard"},
    "swaps": {"generators": "swaps"},
    "filler": {"tokens_per_transition": 3},
    "repeat": {"tokens_per_transition": 4, "filler": "repeat"},
    "identity": {"tokens_per_transition": 2, "filler": "identity", "composition": "left"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_labels_are_composed_permutations(variant):
    task = tasks.get("s5_word_problem", **VARIANTS[variant])
    inputs, targets, _ = task.sample(jax.random.key(0), 6, LENGTH)
    assert targets.tolist() == [expected(task, row) for row in inputs.tolist()]
    # What stands behind the first token of a transition:
    inputs, k = np.asarray(inputs), task.tokens_per_transition
    starts = np.repeat(inputs[:, ::k], k, axis=1)[:, :LENGTH]
    filler = {"repeat": starts, "identity": 0}.get(task.filler, 120)
    np.testing.assert_array_equal(inputs, np.where(np.arange(LENGTH) % k > 0, filler, starts))
    assert ("_" in task.vocabulary) == (k > 1 and task.filler is None)


def test_published_alphabets():
    swaps = tasks.WordProblem("S5", "swaps")
    moving_three = tasks.WordProblem("S5", "swaps_and_3_cycles")
    assert len(swaps.vocabulary) == 11
    assert len(moving_three.vocabulary) == 31
    assert swaps.vocabulary[0] == moving_three.vocabulary[0] == "e"
    assert all(len(name) == 4 for name in swaps.vocabulary[1:])
    assert set(map(len, moving_three.vocabulary[1:])) == {4, 5}
    assert len(swaps.labels) == len(moving_three.labels) == 120
    assert swaps.chance == pytest.approx(1 / 120)


def test_chance_counts_what_the_generators_reach():
    assert tasks.WordProblem("S4", ("(123)", "(124)")).chance == 1 / 12
    assert tasks.WordProblem("A4xZ5", ("e:1",)).chance == 1 / 5


@pytest.mark.parametrize(("name", "count"), [("A5", 2), ("A5", 12), ("S5", 32)])
def test_random_alphabets_generate_the_group(name, count):
    alphabets = {
        tasks.WordProblem(name, "random", num_generators=count, generator_seed=seed).vocabulary
        for seed in range(5)
    }
    assert len(alphabets) == 5
    for names in alphabets:
        assert len(set(names)) == count
        assert "e" not in names
        assert tasks.WordProblem(name, names).chance == 1 / group(name).order


def test_group_given_by_its_generators():
    task = tasks.get("word_problem", group="<(0 1)(2 3),(0 1 2 3 4)>", generators="standard")
    assert task.vocabulary == ("(0,1)(2,3)", "(0,1,2,3,4)")
    assert task.chance == 1 / 60
    assert tasks.get(task.name, generators="standard") == task
    assert tasks.get("psl2_7_word_problem").chance == 1 / 168


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "S1"}, "expected at least 2 elements"),
        ({"num_generators": 3}, "num_generators: got 3, expected None unless generators='random'"),
        ({"generators": "all", "generator_seed": 0}, "generator_seed: got 0, expected None unless"),
        (
            {"generators": "random", "num_generators": 1},
            "num_generators: got 1, expected elements that generate",
        ),
        (
            {"generators": "random", "num_generators": 120},
            "num_generators: got 120, expected elements",
        ),
        (
            {"generators": "transpositions"},
            r"generators: got .*, expected one of all, standard, random",
        ),
        ({"generators": ["(12)", "(67)"]}, r"element: got '\(67\)', expected one of"),
        ({"generators": ["(12)", "(12)"]}, r"generators: got .*, expected different ones"),
        ({"generators": ["e"]}, "other than the identity"),
        ({"generators": []}, "other than the identity"),
        ({"group": "D4", "generators": "swaps"}, "group: got D4, expected a permutation group"),
        ({"group": "A5", "generators": "swaps"}, "other than the identity"),
        ({"composition": "up"}, r"composition: got .*, expected one of right, left"),
        ({"tokens_per_transition": 0}, r"tokens_per_transition: got .*, expected at least 1"),
        ({"filler": "repeat"}, "tokens_per_transition: got 1, expected above 1"),
        ({"filler": "none", "tokens_per_transition": 2}, r"filler: got .*, expected one of"),
        (
            {"filler": "identity", "tokens_per_transition": 2, "generators": ["(12)"]},
            "expected e with filler='identity'",
        ),
    ],
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        tasks.WordProblem(**options)


def test_length_that_nothing_is_scored_in():
    task = tasks.WordProblem("S3", tokens_per_transition=4, labels_at="transitions")
    with pytest.raises(ValueError, match="length: got 3, expected at least 4"):
        task.sample(jax.random.key(0), 2, 3)
