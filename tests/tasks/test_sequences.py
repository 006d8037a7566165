"""What sequence tasks draw and answer, where no published file says it."""

import collections

import jax
import numpy as np
import pytest

import tasks


def rows(task, length, count=256, seed=0):
    """Texts of rows, split at the first position where an answer is given, and the answers."""
    batch = task.sample(jax.random.key(seed), count, length)
    inputs, targets, mask = map(np.asarray, batch)
    answers = [
        [task.labels[label] for label in row[scored]]
        for row, scored in zip(targets, mask, strict=True)
    ]
    symbols = [[task.vocabulary[token] for token in row] for row in inputs]
    return symbols, answers


@pytest.mark.parametrize(
    ("name", "convention", "length", "source", "room"),
    [
        ("reverse_string", "chomsky", 5, 5, 5),
        ("reverse_string", "slice", 5, 3, 3),
        ("duplicate_string", "chomsky", 3, 3, 6),
        ("duplicate_string", "slice", 6, 3, 3),
        ("stack_manipulation", "chomsky", 4, 4, 5),
        ("stack_manipulation", "slice", 7, 4, 4),
        ("binary_addition", "chomsky", 4, 4, 5),
        ("binary_addition", "slice", 2, 3, 3),
        ("binary_multiplication", "chomsky", 4, 4, 4),
        ("compute_sqrt", "chomsky", 5, 5, 3),
        ("compute_sqrt", "slice", 6, 3, 2),
        ("compute_sqrt", "slice", 9, 4, 3),
    ],
)
def test_what_length_counts(name, convention, length, source, room):
    symbols, _ = rows(tasks.get(name, convention=convention), length, count=2)
    first = "_" if convention == "chomsky" else "!"
    for row in symbols:
        assert row.index(first) == source
        assert row[source + 1 : source + room] == ["_"] * (room - 1)
        assert set(row[source + room :]) <= {"0"}


def test_short_sources_of_binary_addition_are_one_number():
    symbols, answers = rows(tasks.BinaryAddition(), 2)
    found = {
        ("".join(row[:2]), "".join(answer)) for row, answer in zip(symbols, answers, strict=True)
    }
    assert found == {("00", "0$"), ("10", "1$"), ("01", "01$")}


def test_operands_of_binary_addition_are_not_zero():
    symbols, _ = rows(tasks.BinaryAddition(), 4, count=512)
    found = collections.Counter("".join(row[:4]) for row in symbols)
    assert set(found) == {"1+10", "1+01", "1+11", "10+1", "01+1", "11+1"}
    assert min(found.values()) > 50


def test_unknowns_stand_where_digits_do():
    task = tasks.SolveEquation()
    symbols, answers = rows(task, 7, count=512)
    # Of the five positions of (3+1), those at 4, 0 and 1 lead to the digit at 1.
    assert {row.index("x") for row in symbols} == {1, 3}
    share = np.mean([row.index("x") == 1 for row in symbols])
    assert share == pytest.approx(3 / 5, abs=0.1)
    for row, (answer,) in zip(symbols, answers, strict=True):
        left = "".join(answer if symbol == "x" else symbol for symbol in row[:5])
        expressions = tasks.ModularArithmeticBrackets(operators="+-")
        value = np.asarray(expressions.targets(expressions.encode(left)[None]))[0, -1]
        assert (row[5], row[6]) == ("=", str(value))


def test_set_keeps_the_first_of_each_symbol():
    symbols, answers = rows(tasks.Set(symbols=4), 12)
    for row, answer in zip(symbols, answers, strict=True):
        assert answer == list(dict.fromkeys(row[:6]))


def test_repetition_is_the_string_once_more():
    symbols, answers = rows(tasks.Repetition(), 8, count=8)
    assert answers == [row[:4] for row in symbols]


@pytest.mark.parametrize("most", [64, 2])
def test_majorities_are_those_of_a_counter(most):
    symbols, answers = rows(tasks.Majority(symbols=4), 10)
    _, counts = rows(tasks.MajorityCount(symbols=4, most=most), 10)
    for row, answer, count in zip(symbols, answers, counts, strict=True):
        # `most_common` keeps the order in which symbols came.
        symbol, number = collections.Counter(row).most_common(1)[0]
        assert (answer, count) == ([symbol], [str(min(number, most))])


def test_hidden_symbols_are_anywhere_or_in_the_second_copy():
    for convention, places in (("chomsky", range(6)), ("slice", range(3, 6))):
        symbols, answers = rows(tasks.MissingDuplicate(convention=convention), 6)
        assert {row.index("?") for row in symbols} == set(places)
        for row, (answer,) in zip(symbols, answers, strict=True):
            assert answer == row[(row.index("?") + 3) % 6]


@pytest.mark.parametrize("filler", ["random", "blank"])
def test_every_key_is_asked_for_once(filler):
    task = tasks.MQAR(pairs=3, keys=4, values=5, filler=filler)
    batch = task.sample(jax.random.key(0), 64, 20, lengths=np.repeat([20, 13, 8, 4], 16))
    gaps = collections.Counter()
    for row, target, mask, pairs in zip(
        *map(np.asarray, batch), np.repeat([3, 3, 2, 1], 16), strict=True
    ):
        known = dict(zip(row[0 : 2 * pairs : 2], row[1 : 2 * pairs : 2], strict=True))
        assert len(known) == len(set(known.values())) == pairs
        places = np.flatnonzero(mask)
        assert sorted(row[places]) == sorted(known)
        assert all(known[row[place]] == 1 + 4 + target[place] for place in places)
        assert not (places % 2).any()
        assert min(places) >= 2 * pairs
        gaps.update((places - 2 * pairs)[: 1 if pairs == 3 else 0])
        if filler == "blank":
            assert not np.delete(row[2 * pairs :], places - 2 * pairs).any()
    # The power law prefers small gaps.
    assert gaps[0] == max(gaps.values())


def test_gaps_are_uniform_with_power_one():
    task = tasks.MQAR(pairs=1, power=1.0, filler="blank")
    mask = np.asarray(task.sample(jax.random.key(1), 1024, 18).mask)
    shares = mask[:, 2::2].mean(axis=0)
    np.testing.assert_allclose(shares, 1 / 8, atol=0.05)
