"""Labels of inputs that published samplers drew: every file, key and row of the golden tasks.

Files are read from `tests/golden_tasks`, and from all of the folder they were selected from where
there is one: `PLSTM_SEQ_GOLDEN_TASKS`, or else `../shared/golden_tasks` beside the checkout.
"""

import functools
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from golden_answers import published_answers, rooted, solutions

import tasks
from tasks.groups import group

REPOSITORY = Path(__file__).parents[2]
ROWS, WIDTH = 64, 512
# Families that are no symbol tasks, and the tests beside this one that read them.
READ_ELSEWHERE = {
    "arrow_pointing": "test_arrow_pointing.py",
    "tu_splits": "graphs/test_folds.py",
}


class Labelled(NamedTuple):
    """How a file with one label a row is read: our task, and our symbol for each published id."""

    task: tasks.Task
    symbols: str | tuple[str, ...]
    first_label: int = 0


class Answered(NamedTuple):
    """How a file with an answer a row is read: task, our symbol and label for published ids.

    Ids of labels are ours where `labels` is None.
    """

    task: tasks.Task
    symbols: str
    labels: str | None = None


class Roots(Answered):
    """Square roots, which the source took in floating point."""


class Equations(Labelled):
    """Equations, some of which the source does not determine."""


class Word(NamedTuple):
    """How a file with a label for each token is read: our task, and the ids behind a block's end.

    `between` is None where labels are held, else the label of tokens within a transition; the
    first ones of a row, before anything is held, have label 0 all the same.
    """

    task: tasks.WordProblem
    between: int | None = None


PARITY, EVEN_PAIRS, CYCLE = tasks.Parity(), tasks.EvenPairs(), tasks.CycleNavigation()
ARITHMETIC, BRACKETS = tasks.ModularArithmetic(), tasks.ModularArithmeticBrackets()
BRACKETS_NO_TIMES = tasks.ModularArithmeticBrackets(operators="+-")
CHOMSKY = {
    "parity_check": Labelled(PARITY, "01"),
    "even_pairs": Labelled(EVEN_PAIRS, "01"),
    "cycle_navigation": Labelled(CYCLE, "-0+"),
    "modular_arithmetic": Labelled(ARITHMETIC, "01234+-*"),
}
SLICE = {
    "parity": Labelled(PARITY, "_01", 1),
    "even_pairs": Labelled(EVEN_PAIRS, "_01", 1),
    "cycle_nav": Labelled(CYCLE, "_0+-", 4),
    "mod_arith_no_brack": Labelled(ARITHMETIC, "_+-*=01234", 5),
}
S5 = functools.partial(tasks.WordProblem, "S5")
ADAPTERS = {
    "chomsky": CHOMSKY
    | {
        "modular_arithmetic_brackets": Labelled(BRACKETS, "01234+-*()"),
        "modular_arithmetic_brackets_nomult": Labelled(BRACKETS_NO_TIMES, "01234+-_()"),
        "solve_equation": Labelled(tasks.SolveEquation(), "01234+-()x="),
        "missing_duplicate_string": Labelled(tasks.MissingDuplicate(), "01?_"),
        "reverse_string": Answered(tasks.ReverseString(), "01"),
        "duplicate_string": Answered(tasks.DuplicateString(), "01"),
        "odds_first": Answered(tasks.OddsFirst(), "01"),
        "bucket_sort": Answered(tasks.BucketSort(), "01234"),
        "stack_manipulation": Answered(tasks.StackManipulation(), "01Pab"),
        "binary_addition": Answered(tasks.BinaryAddition(), "01+"),
        "binary_multiplication": Answered(tasks.BinaryMultiplication(), "01*"),
        "compute_sqrt": Answered(tasks.ComputeSqrt(), "01"),
    },
    "unlocking": {
        "parity": Labelled(PARITY, "_01", 1),
        "even_pairs": Labelled(EVEN_PAIRS, "_01", 1),
        "cycle_navigation": Labelled(CYCLE, "_0+-", 4),
        "modular_arithmetic": Labelled(ARITHMETIC, "_+-*=01234", 5),
        "modular_arithmetic_with_brackets": Labelled(BRACKETS_NO_TIMES, "01234+-_()="),
        "modular_arithmetic_with_brackets_mult": Labelled(BRACKETS, "01234+-*()="),
    },
    "pdssm": SLICE,
    "slice": SLICE
    | {
        "mod_arith_w_brack": Labelled(BRACKETS, "_01234+-*()=", 1),
        "solve_equation": Equations(tasks.SolveEquation(operators="+-*"), "_01234+-*()=x!"),
        "missing_duplicate": Answered(tasks.MissingDuplicate(convention="slice"), "_01?", "_01"),
        "reverse_string": Answered(tasks.ReverseString(convention="slice"), "_01!", "_01"),
        "duplicate_string": Answered(tasks.DuplicateString(convention="slice"), "_01!", "_01"),
        "odds_first": Answered(tasks.OddsFirst(convention="slice"), "_01!", "_01"),
        "bucket_sort": Answered(tasks.BucketSort(convention="slice"), "_01234!", "_01234"),
        "stack_manipulation": Answered(
            tasks.StackManipulation(convention="slice"), "_01abP?!", ".01???E"
        ),
        "binary_addition": Answered(tasks.BinaryAddition(convention="slice"), "_01+!", ".01"),
        "binary_multiplication": Answered(
            tasks.BinaryMultiplication(convention="slice"), "_01*!", ".01"
        ),
        "compute_sqrt": Roots(tasks.ComputeSqrt(convention="slice"), "_01!", ".01"),
    },
    "word_problem": {
        name: Word(tasks.WordProblem(name)) for name in ("A5", "A4_x_Z5", "Z60", "S3", "S4", "S5")
    },
    "deltaproduct": {
        **{name: Word(tasks.WordProblem(name)) for name in ("S3", "S4", "A5", "S5")},
        "S5_only_swaps": Word(S5("swaps")),
        "S5_limit_to_3": Word(S5("swaps_and_3_cycles")),
        "S5_2_tokens": Word(S5(tokens_per_transition=2, filler="repeat")),
        "S5_4_tokens": Word(S5(tokens_per_transition=4, filler="repeat")),
        "S5_4_s_tokens": Word(S5(tokens_per_transition=4), between=120),
        "S5_4_s_tokens_only_input": Word(S5(tokens_per_transition=4)),
        # Its symbols are products of four swaps, drawn less uniformly than ours.
        "S5_only_swaps_hard": Word(S5(tokens_per_transition=4, filler="identity")),
    },
    "sdssm": CHOMSKY
    | {
        "A5": Labelled(tasks.WordProblem("A5", ("(12345)", "(12)(34)")), ("(12345)", "(12)(34)")),
        "C2xC4": Labelled(tasks.WordProblem("C2xC4", "standard"), ("1:0", "0:1")),
        "C2xC30": Labelled(tasks.WordProblem("C2xC30", "standard"), ("1:0", "0:1")),
        "D4": Labelled(tasks.WordProblem("D4", "standard"), ("s", "r")),
        "D30": Labelled(tasks.WordProblem("D30", "standard"), ("s", "r")),
    },
}


def golden_files():
    """Every golden file that should have a task."""
    named = os.environ.get("PLSTM_SEQ_GOLDEN_TASKS")
    beside = REPOSITORY.parent / "shared" / "golden_tasks"
    folders = [REPOSITORY / "tests" / "golden_tasks"]
    if named:
        folders.append(Path(named))
    elif beside.is_dir():
        folders.append(beside)
    files = []
    for folder in folders:
        found = sorted(folder.glob("*/*.npz"))
        if not found:
            raise FileNotFoundError(f"no golden tasks in {folder}")
        for path in found:
            family = path.parent.name
            if family not in READ_ELSEWHERE:
                name = f"{folder.parent.name}/{family}/{path.stem}"
                files.append(pytest.param(path, id=name))
    return files


def pad(ids, width=WIDTH):
    """Rows of one shape, so that one compiled program labels all keys of all files of a task."""
    ids = np.asarray(ids, np.int32)
    return np.pad(ids, [(0, ROWS - len(ids)), (0, width - ids.shape[1])])


def labels_of(task, tokens, lengths):
    count, width = tokens.shape
    lengths = np.pad(np.asarray(lengths, np.int32), (0, ROWS - count), constant_values=1)
    assert tokens.min() >= 0, "a published symbol that our alphabet lacks"
    return np.asarray(task.targets(pad(tokens), lengths=lengths))[:count, :width]


def final_labels(take, keys):
    """Rows with one label: ids up to and including the last input token, their number, label."""
    for key in (key.removesuffix("_input") for key in keys if key.endswith("_input")):
        ids, target = take(key + "_input"), take(key + "_target")
        if key + "_mask" not in keys:
            yield ids, np.full(len(ids), ids.shape[1]), target
            continue
        mask, ends = take(key + "_mask"), take(key + "_in_len")
        np.testing.assert_array_equal(take(key + "_tgt_len"), ends)
        np.testing.assert_array_equal(mask, np.arange(ids.shape[1]) == ends[:, None] - 1)
        assert not target[~mask].any()
        yield ids, ends, target[mask]
    for key in (key.removesuffix("_seq") for key in keys if key.endswith("_seq")):
        ids, mask = take(key + "_seq"), take(key + "_answer_mask")
        assert (mask.sum(axis=1) == 1).all()
        yield ids, mask.argmax(axis=1), ids[mask]
    for key in (key.removesuffix("_x") for key in keys if key.endswith("_x")):
        ids, target = take(key + "_x"), take(key + "_y")
        mask = target >= 0
        assert (mask.sum(axis=1) == 1).all()
        yield ids, mask.argmax(axis=1) + 1, target[mask]


def check_labelled(adapter, take, keys):
    task, symbols, first_label = adapter
    ours = {symbol: token for token, symbol in enumerate(task.vocabulary)}
    token_of = np.array([ours.get(symbol, -1) for symbol in symbols] + [-1] * 256)
    for ids, ends, target in final_labels(take, keys):
        rows = np.arange(len(ids))
        # The mark that ends an expression in some sources is no part of it.
        marked = np.array([symbols[i] == "=" for i in ids[rows, ends - 1]])
        lengths = ends - marked
        inside = np.arange(ids.shape[1]) < lengths[:, None]
        tokens = np.where(inside, token_of[ids], 0)
        labels = labels_of(task, tokens, lengths)[rows, lengths - 1]
        np.testing.assert_array_equal(labels, target.astype(int) - first_label)


def check_equations(adapter, take, keys):
    """As `check_labelled`; but where several residues solve an equation, ours is the smallest."""
    task, symbols, _ = adapter
    several = []
    for ids, ends, target in final_labels(take, keys):
        token_of = np.array(
            [task.vocabulary.index(s) if s in task.vocabulary else -1 for s in symbols]
        )
        lengths = ends - 1
        tokens = np.where(np.arange(ids.shape[1]) < lengths[:, None], token_of[ids], 0)
        solved = solutions(task, pad(tokens), np.pad(lengths, (0, ROWS - len(ids))))[: len(ids)]
        rows = np.arange(len(ids))
        assert solved[rows, target].all()
        labels = labels_of(task, tokens, lengths)[rows, lengths - 1]
        np.testing.assert_array_equal(labels, solved.argmax(axis=1))
        several.append(solved.sum(axis=1))
    numbers = np.concatenate(several)
    assert set(numbers) == {1, 5}
    assert (numbers == 5).mean() == pytest.approx(0.23, abs=0.03)


def check_answers(adapter, take, keys):
    task, symbols, names = adapter
    label_of = np.arange(len(task.labels))
    if names is not None:
        label_of = np.array([task.labels.index(n) if n in task.labels else -1 for n in names])
    found = list(published_answers(task, symbols, take, keys))
    width = max(rows.tokens.shape[1] for rows in found)
    for rows in found:
        rows = rooted(rows) if isinstance(adapter, Roots) else rows
        assert rows.tokens.min() >= 0, "a published symbol that our alphabet lacks"
        count, own = rows.mask.shape
        lengths = np.pad(rows.lengths, (0, ROWS - count), constant_values=1)
        tokens = pad(rows.tokens, width)
        mask = np.asarray(task.scored(tokens, lengths=lengths))[:count]
        labels = np.asarray(task.targets(tokens, lengths=lengths))[:count, :own]
        np.testing.assert_array_equal(mask, np.pad(rows.mask, ((0, 0), (0, width - own))))
        np.testing.assert_array_equal(labels[rows.mask], label_of[rows.target[rows.mask]])


def check_words(adapter, take, keys):
    task, between = adapter
    k = task.tokens_per_transition
    ours = {symbol: token for token, symbol in enumerate(task.vocabulary)}
    token_of = np.array([ours.get(symbol, -1) for symbol in (*task.labels, "_")])
    for key in (key.removesuffix("_input") for key in keys if key.endswith("_input")):
        ids, target = take(key + "_input"), take(key + "_target")
        labels = labels_of(task, token_of[ids], [ids.shape[1]] * len(ids))
        if between is not None:
            position = np.arange(ids.shape[1])
            unlabelled = np.where(position < k - 1, 0, between)
            labels = np.where(position % k == k - 1, labels, unlabelled)
        np.testing.assert_array_equal(labels, target)


def check_group_arrays(of, generators, take, keys):
    """Group data that come with a file: images of points, products, what generators do."""
    if "image0" in keys:
        images, cayley = take("image0").astype(int), take("cayley")
        index = {tuple(image): element for element, image in enumerate(images.tolist())}
        composed = images[:, images]  # (a b)[i] = a[b[i]]
        products = [[index[tuple(image)] for image in row] for row in composed.tolist()]
        np.testing.assert_array_equal(products, of.table)
        np.testing.assert_array_equal(cayley, of.table)
    if "state_image0" in keys:
        np.testing.assert_array_equal(take("state_image0"), of.images)
        np.testing.assert_array_equal(take("generator_image0"), of.images[generators])
    if "action_map" in keys:
        np.testing.assert_array_equal(take("action_map"), of.table[:, generators].T)


CHECKS = {
    Labelled: check_labelled,
    Equations: check_equations,
    Answered: check_answers,
    Roots: check_answers,
    Word: check_words,
}


@pytest.mark.parametrize("path", golden_files())
def test_labels_agree(path):
    family, name = path.parent.name, path.stem
    adapter = ADAPTERS.get(family, {}).get(name)
    assert adapter is not None, f"no task for golden file {family}/{name}"
    with np.load(path) as file:
        arrays = dict(file)
    untouched = set(arrays)

    def take(key):
        untouched.discard(key)
        return arrays[key]

    CHECKS[type(adapter)](adapter, take, arrays.keys())
    if isinstance(adapter.task, tasks.WordProblem):
        of = group(adapter.task.group)
        generators = [of.element(name) for name in adapter.task.vocabulary if name in of.elements]
        check_group_arrays(of, generators, take, arrays.keys())
    assert not untouched, f"keys that nothing was compared with: {untouched}"


@pytest.mark.parametrize("name", ["parity_check", "cycle_navigation", "modular_arithmetic"])
def test_text_agrees(name):
    path = REPOSITORY / "tests" / "golden_tasks" / "chomsky" / f"{name}.npz"
    task, symbols, _ = CHOMSKY[name]
    assert task.vocabulary == tuple(symbols)
    strings = json.loads(path.with_suffix(".json").read_text())["strings"]
    with np.load(path) as file:
        for length, rows in strings.items():
            assert task.decode(file[f"L{length}_input"]) == rows["input"]


def test_what_is_read_elsewhere_is_read_there():
    assert not READ_ELSEWHERE.keys() & ADAPTERS.keys()
    for family, test in READ_ELSEWHERE.items():
        assert f'"{family}"' in (Path(__file__).parent / test).read_text()


def test_selection_covers_every_family_and_stays_small():
    folder = REPOSITORY / "tests" / "golden_tasks"
    assert {path.parent.name for path in folder.glob("*/*.npz")} == {*ADAPTERS, *READ_ELSEWHERE}
    assert sum(path.stat().st_size for path in folder.rglob("*.*")) <= 900_000
