"""Arithmetic on arrays of bits against the integers of Python."""

import math
import operator
import random

import jax
import numpy as np
import pytest

from tasks import binary

WIDTH = 520


def bits(numbers):
    return np.array([[n >> place & 1 for place in range(WIDTH)] for n in numbers], np.int32)


def numbers(array):
    return [sum(int(bit) << place for place, bit in enumerate(row)) for row in np.asarray(array)]


def drawn(size):
    source = random.Random(size)
    few = [0, 1, 2, 3, (1 << size) - 1, 1 << (size - 1), (1 << size // 2) ** 2 - 1]
    return few + [source.getrandbits(source.randint(1, size)) for _ in range(25)]


@pytest.mark.parametrize(("name", "size"), [("add", WIDTH - 1), ("multiply", WIDTH // 2)])
def test_results_are_exact(name, size):
    a, b = drawn(size), drawn(size)[::-1]
    exact = {"add": operator.add, "multiply": operator.mul}[name]
    result = jax.jit(getattr(binary, name))(bits(a), bits(b))
    assert numbers(result) == list(map(exact, a, b))
    sizes = [max(1, n.bit_length()) for n in numbers(result)]
    np.testing.assert_array_equal(binary.size_of(result), sizes)


def test_square_roots_are_exact():
    near = [root * root + offset for root in drawn(250)[1:] for offset in (-1, 0)]
    values = drawn(WIDTH) + near
    assert numbers(jax.jit(binary.square_root)(bits(values))) == list(map(math.isqrt, values))


def test_numbers_other_than_zero_are_uniform():
    sizes = np.repeat([0, 1, 2, 3], 2000)
    values = np.array(numbers(binary.nonzero(jax.random.key(0), sizes, 4)))
    assert not values[sizes == 0].any()
    assert (values[sizes == 1] == 1).all()
    counts = np.bincount(values[sizes == 3], minlength=8)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:] / 2000, 1 / 7, atol=0.05)
