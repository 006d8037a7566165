"""Published answers of more than one symbol, as arrays that are compared with a task's."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

import tasks


class Answers(NamedTuple):
    """Rows of a golden file: our tokens, published label ids and mask, `[n, W]`; `lengths [n]`."""

    tokens: np.ndarray
    target: np.ndarray
    mask: np.ndarray
    lengths: np.ndarray


def published_answers(task, symbols, take, keys) -> Iterator[Answers]:
    """The rows of every key; `symbols` says which of our symbols a published id stands for."""
    ours = {symbol: token for token, symbol in enumerate(task.vocabulary)}
    token_of = np.array([ours.get(symbol, -1) for symbol in symbols] + [-1] * 256)
    empty = ours.get("_", -1)
    for key in (key.removesuffix("_input") for key in keys if key.endswith("_input")):
        ids, target = take(key + "_input"), take(key + "_target").astype(int)
        if key + "_in_len" in keys:
            asked, ends = take(key + "_in_len").astype(int), take(key + "_tgt_len").astype(int)
            mask = take(key + "_mask")
        else:
            answers = target.shape[1]
            asked = np.full(len(ids), ids.shape[1])
            ends, mask = asked + answers, np.ones_like(target, bool)
            if key + "_mask" in keys:
                mask = take(key + "_mask")
            before = ((0, 0), (ids.shape[1], 0))
            target, mask = np.pad(target, before), np.pad(mask, before)
            ids = np.pad(ids, ((0, 0), (0, answers)))
        place = np.arange(ids.shape[1])
        tokens = np.where(place < asked[:, None], token_of[ids], empty)
        tokens = np.where(place < ends[:, None], tokens, 0)
        yield Answers(tokens, target, mask, ends)


def rooted(rows: Answers) -> Answers:
    """Square roots as they are, after checking that the published ones are the floating ones."""
    target = rows.target.copy()
    for index, (tokens, mask) in enumerate(zip(rows.tokens, rows.mask, strict=True)):
        size = int(mask.argmax())
        number = sum(int(bit) << place for place, bit in enumerate(tokens[:size]))
        floating, exact = math.floor(math.sqrt(number)), math.isqrt(number)
        np.testing.assert_array_equal(target[index, mask], _bits(floating, mask.sum()))
        target[index, mask] = _bits(exact, mask.sum())
        assert floating == exact or number.bit_length() > 102
    return rows._replace(target=target)


def _bits(number: int, size: int) -> list[int]:
    """Published ids of a number, the lowest bit first, and 0 behind it."""
    bits = [1 + int(bit) for bit in bin(number)[:1:-1]]
    return bits + [0] * (size - len(bits))


def solutions(task: tasks.SolveEquation, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Which residues solve an equation, tried one by one: bool `[n, modulus]`."""
    x, equals = task.vocabulary.index("x"), task.vocabulary.index("=")
    expressions = tasks.ModularArithmeticBrackets(task.modulus, task.operators)
    rows, ends = np.arange(len(tokens)), (tokens == equals).argmax(1)
    assert (ends == lengths - 2).all()
    solved = []
    for residue in range(task.modulus):
        labels = expressions.targets(np.where(tokens == x, residue, tokens), lengths=ends)
        solved.append(np.asarray(labels)[rows, ends - 1] == tokens[rows, ends + 1])
    return np.stack(solved, axis=1)
