"""Arithmetic tasks against Python's own evaluation, the grammar and enumeration."""

import itertools
import re

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tasks

PARTS = re.compile(r"\d+|.")
WIDTH = 33


def value_of(text, modulus):
    """Value of an expression, `text` written without white space."""
    return eval(text) % modulus  # the text is made here, of digits, operators and brackets


def expression(size, digits, operators):
    """The published grammar, as a hypothesis strategy."""
    digit = st.sampled_from(digits)
    if size == 1:
        return digit
    if size == 2:
        return digit.map("-{}".format)
    if size in (3, 4):
        return expression(size - 2, digits, operators).map("({})".format)
    sides = st.integers(1, size - 4).flatmap(
        lambda left: st.tuples(
            expression(left, digits, operators),
            st.sampled_from(operators),
            expression(size - 3 - left, digits, operators),
        )
    )
    return sides.map(lambda parts: "({}{}{})".format(*parts))


def label(task, text):
    """Label of the last symbol, in arrays of one width so that one program does for all."""
    tokens = task.encode(" ".join(PARTS.findall(text)))
    inputs = np.zeros((1, WIDTH), np.int32)
    inputs[0, : len(tokens)] = tokens
    return int(task.targets(inputs, lengths=[len(tokens)])[0, len(tokens) - 1])


@pytest.mark.parametrize(("modulus", "operators"), [(5, "+-*"), (12, "*-")])
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_bracketed_value(modulus, operators, data):
    task = tasks.ModularArithmeticBrackets(modulus, operators)
    size = data.draw(st.integers(1, WIDTH))
    text = data.draw(expression(size, task.labels, operators))
    assert label(task, text) == value_of(text, modulus)


@pytest.mark.parametrize("text", ["((((((((((((((((3))))))))))))))))", "2+3*4-(1-(2*3+4))*2"])
def test_value_of_any_nesting_and_precedence(text):
    assert label(tasks.ModularArithmeticBrackets(), text) == value_of(text, 5)


@pytest.mark.parametrize(("modulus", "operators"), [(5, "+-*"), (12, "*-"), (1000, "+*")])
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_value_without_brackets(modulus, operators, data):
    task = tasks.ModularArithmetic(modulus, operators)
    pairs = st.tuples(st.sampled_from(operators), st.sampled_from(task.labels)).map("".join)
    text = data.draw(st.sampled_from(task.labels))
    text += "".join(data.draw(st.lists(pairs, max_size=(WIDTH - 1) // 2)))
    assert label(task, text) == value_of(text, modulus)


def is_bracketed(text):
    """Whether the published grammar derives a text, by replacing what it can."""
    text = re.sub(r"\((-?\d)\)", "A", text)
    text = re.sub(r"(?<![\dA)])-\d|\d", "A", text)
    while "(" in text:
        shorter = re.sub(r"\(A[-+*]A\)", "A", text)
        if shorter == text:
            return False
        text = shorter
    return text == "A"


def test_sampled_expressions_are_of_the_grammar_and_all_of_it_is_sampled():
    task = tasks.ModularArithmeticBrackets()
    lengths = np.arange(256) % 64 + 1
    batch = task.sample(jax.random.key(0), 256, 64, lengths=lengths)
    texts = task.decode(batch.inputs, lengths=lengths)
    for text, length, targets in zip(texts, lengths, np.asarray(batch.targets), strict=True):
        assert len(text) == length
        assert is_bracketed(text), text
        assert targets[length - 1] == value_of(text, 5)
    assert not is_bracketed("(1+2")
    assert not is_bracketed("1+2")


def test_left_side_is_uniform_in_length_and_symbols_are_uniform():
    rows, length = 4096, 12
    task = tasks.ModularArithmeticBrackets()
    inputs = task.sample(jax.random.key(1), rows, length).inputs
    texts = task.decode(inputs)
    # The left side ends where brackets are balanced again.
    sizes = []
    for text in texts:
        depth = np.cumsum([(c == "(") - (c == ")") for c in text[1:]])
        outer = [i for i, c in enumerate(text[1:]) if depth[i] == 0 and c in "+-*" and i > 0]
        sizes.append(outer[0])
    counts = np.bincount(sizes, minlength=length - 3)[1:]
    share = 1 / (length - 4)
    assert counts / rows == pytest.approx(share, abs=5 * (share / rows) ** 0.5)
    digits = np.bincount(np.asarray(inputs)[np.asarray(inputs) < 5])
    assert digits / digits.sum() == pytest.approx(0.2, abs=5 * (0.2 / digits.sum()) ** 0.5)


def test_digits_and_operators_alternate_uniformly():
    inputs = np.asarray(tasks.ModularArithmetic().sample(jax.random.key(1), 512, 33).inputs)
    for symbols, first, count in ((inputs[:, ::2], 0, 5), (inputs[:, 1::2], 5, 3)):
        shares = np.bincount(symbols.ravel() - first) / symbols.size
        assert shares == pytest.approx(1 / count, abs=5 * (1 / count / symbols.size) ** 0.5)


@pytest.mark.parametrize("operators", ["+-*", "-*"])
def test_label_frequencies_are_those_of_all_expressions(operators):
    task = tasks.ModularArithmeticBrackets(3, operators)
    digits = task.labels
    texts = {1: list(digits), 2: [f"-{d}" for d in digits]}
    for size, sides in ((5, [(1, 1)]), (6, [(1, 2), (2, 1)])):
        texts[size] = [
            f"({a}{op}{b})"
            for left, right in sides
            for a, op, b in itertools.product(texts[left], operators, texts[right])
        ]
        values = [value_of(text, 3) for text in texts[size]]
        expected = np.bincount(values, minlength=3) / len(values)
        np.testing.assert_allclose(task.label_frequencies(size), expected)


def test_sign_is_a_symbol_even_without_subtraction():
    task = tasks.ModularArithmeticBrackets(5, "+")
    assert task.vocabulary == ("0", "1", "2", "3", "4", "+", "-", "(", ")")
    assert label(task, "(-1+-2)") == 2
