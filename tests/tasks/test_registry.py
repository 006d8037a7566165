"""Every registered task, and every option that changes its batches, keeps what tasks promise."""

import dataclasses
import inspect
import re

import jax
import numpy as np
import pytest

import tasks
from experiments.problems import make_task, task_names
from tasks.registry import _TASKS
from tasks.sequences import SequenceTask
from tasks.strings import StringTask

VARIANTS = [
    ("parity", {"labels_at": "last"}),
    ("automaton", {"transition": [[1, 0], [0, 0]], "outputs": [0, 1], "symbol_names": ["a", "bb"]}),
    ("automaton", {"regex": "(ab|ba)*"}),
    ("cycle_navigation", {"modulus": 600}),
    ("flip_flop", {"num_values": 3, "hold_probability": 0.0}),
    ("modular_arithmetic", {"labels_at": "last"}),
    ("modular_arithmetic", {"modulus": 12, "operators": "-"}),
    ("mqar", {"pairs": 1, "power": 1.0, "filler": "blank"}),
    ("solve_equation", {"operators": "+-*"}),
    ("stack_manipulation", {"convention": "slice"}),
    ("binary_addition", {"convention": "slice"}),
    ("compute_sqrt", {"convention": "slice"}),
    ("duplicate_string", {"convention": "slice"}),
    ("missing_duplicate", {"convention": "slice"}),
    ("s4_word_problem", {"generators": "swaps", "composition": "left"}),
    ("s3_word_problem", {"tokens_per_transition": 3, "labels_at": "transitions"}),
    ("s3_word_problem", {"tokens_per_transition": 2, "filler": "repeat", "labels_at": "last"}),
]
CASES = [(name, {}) for name in tasks.names()] + VARIANTS
cases = pytest.mark.parametrize(
    ("name", "options"),
    CASES,
    ids=[name + "".join(f"-{k}={v}" for k, v in options.items()) for name, options in CASES],
)
BATCH, LENGTH = 4, 8


def usable(task, lengths):
    return lengths - (lengths + 1) % 2 if task.name == "modular_arithmetic" else lengths


def answered(task):
    """Whether positions are scored that the lengths alone don't tell."""
    hidden = task.name == "missing_duplicate" and task.convention == "slice"
    return isinstance(task, SequenceTask) or task.name == "mqar" or hidden


def scored(task, lengths):
    """The mask as the docstrings promise it."""
    positions = np.arange(LENGTH)
    lengths = usable(task, lengths)[:, None]
    where = getattr(task, "labels_at", "last")
    if where == "last":
        return positions == lengths - 1
    whole = positions % task.period == task.period - 1 if where == "transitions" else True
    return (positions < lengths) & whole


@cases
def test_batches(name, options):
    task = tasks.get(name, **options)
    assert isinstance(task, tasks.Task)
    assert isinstance(task, tasks.StreamingTask) >= task.per_token
    traces = 0

    @jax.jit
    def sample(key, lengths):
        nonlocal traces
        traces += 1
        return task.sample(key, BATCH, LENGTH, lengths=lengths)

    @jax.jit
    def label(inputs, lengths):
        targets = task.targets(inputs, lengths=lengths)
        return targets, task.scored(inputs, lengths=lengths)

    drawn = []
    for seed, lengths in enumerate(([8, 7, 2, 1], [3, 4, 5, 6], [8, 8, 8, 8])):
        lengths = np.array(lengths)
        inputs, targets, mask = map(np.asarray, sample(jax.random.key(seed), lengths))
        assert inputs.dtype == targets.dtype == np.int32
        width, ends = task.width(LENGTH), task._ends(usable(task, lengths))
        assert inputs.shape == targets.shape == mask.shape == (BATCH, width)
        if not answered(task):
            assert width == LENGTH
            np.testing.assert_array_equal(mask, scored(task, lengths))
        behind = np.arange(width) >= ends[:, None]
        assert not inputs[behind].any()
        assert not (targets | mask)[behind].any()
        assert inputs.min() >= 0
        assert inputs.max() < len(task.vocabulary)
        assert targets.max() < len(task.labels)
        again, marked = label(inputs, usable(task, lengths))
        np.testing.assert_array_equal(again, targets)
        np.testing.assert_array_equal(marked, mask)
        ends = task._ends(lengths)
        rows = zip(task.decode(inputs, lengths=lengths), inputs, ends, strict=True)
        for text, row, end in rows:
            np.testing.assert_array_equal(task.encode(text), row[:end])
        drawn.append(inputs)
    assert traces == 1
    again = sample(jax.random.key(2), lengths)
    np.testing.assert_array_equal(again.inputs, drawn[2])
    if task.per_token:
        whole, cut = np.full(BATCH, LENGTH), 5
        mixed = np.concatenate([drawn[2][:, :cut], drawn[0][:, cut:]], axis=1)
        same = np.asarray(label(drawn[2], whole)[0]) == np.asarray(label(mixed, whole)[0])
        assert same[:, :cut].all(), "a label depends on what comes later"


@pytest.mark.parametrize("name", tasks.names())
def test_tasks_are_values(name):
    assert tasks.get(name) == tasks.get(name)
    assert hash(tasks.get(name)) == hash(tasks.get(name))
    assert tasks.get(tasks.get(name).name) == tasks.get(name)


def test_batches_are_the_same_with_and_without_jit_and_differ_by_key():
    task = tasks.get("s3_word_problem")
    eager = task.sample(jax.random.key(3), BATCH, LENGTH)
    compiled = jax.jit(task.sample, static_argnums=(1, 2))
    for a, b in zip(eager, compiled(jax.random.key(3), BATCH, LENGTH), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (eager.inputs != compiled(jax.random.key(4), BATCH, LENGTH).inputs).any()


FREQUENCIES = [
    ("automaton", {"transition": [[0, 1], [2, 0], [2, 2]], "outputs": [1, 1, 0]}),
    ("automaton", {"regex": "(ab|ba)*", "labels_at": "last"}),
    ("cycle_navigation", {"modulus": 3}),
    ("binary_addition", {"convention": "slice"}),
    ("flip_flop", {"num_values": 3}),
    ("mqar", {"values": 8}),
    ("repetition", {"symbols": 3}),
    ("set", {"symbols": 3}),
    ("solve_equation", {"operators": "+-*"}),
    ("solve_equation", {"operators": "-*", "modulus": 6}),
    ("stack_manipulation", {"convention": "slice"}),
    ("s3_word_problem", {"generators": "swaps"}),
    *((name, {}) for name in tasks.names()),
]


# Their shares depend on the length; chance is that at 128.
_NOT_UNIFORM = ("modular_arithmetic_brackets", "majority_count", "solve_equation")


@pytest.mark.parametrize(
    ("name", "options"),
    FREQUENCIES,
    ids=[name + "".join(f"-{k}={v}" for k, v in options.items()) for name, options in FREQUENCIES],
)
def test_chance_is_the_share_of_the_most_frequent_label(name, options):
    task, rows = tasks.get(name, **options), 4096
    settles = not task.per_token and name == "automaton"
    length = 128 if settles or name in _NOT_UNIFORM else 32
    if isinstance(task, SequenceTask) and not isinstance(task, StringTask):
        rows, length = 64, 1024
    _, targets, mask = map(np.asarray, task.sample(jax.random.key(7), rows, length))
    if task.per_token:
        mask = np.arange(length) == length - (2 if name == "modular_arithmetic" else 1)
        mask = np.broadcast_to(mask, targets.shape)
    share = np.bincount(targets[mask]).max() / mask.sum()
    bound = 5 * (task.chance / rows) ** 0.5
    assert share == pytest.approx(task.chance, abs=bound)


def documented_example(task_class):
    """Symbols and labels of the worked example in a docstring."""
    text = inspect.getdoc(task_class)
    match = re.search(r"^ +input +(.+)\n +label +(.+)$", text, re.MULTILINE)
    assert match, f"{task_class.__name__} has no worked example"
    return match[1], match[2].split()


@pytest.mark.parametrize("name", _TASKS)
def test_worked_example(name):
    task = tasks.get(name, **({"group": "S3"} if name == "word_problem" else {}))
    text, labels = documented_example(type(task))
    inputs = task.encode(text)[None]
    scored = np.asarray(task.targets(inputs))[np.asarray(task.scored(inputs))]
    assert [task.labels[target] for target in scored] == labels


@pytest.mark.parametrize("name", _TASKS)
def test_docstring_says_what_a_user_asks(name):
    text = inspect.getdoc(_TASKS[name])
    for part in ("*Rule.*", "*Alphabet.*", "*Example.*", "*Chance.*", "*Source.*", "arXiv"):
        assert part in text


def test_any_group_has_a_word_problem():
    task = tasks.get("S3_x_Z2_word_problem", labels_at="last")
    assert task == tasks.WordProblem(group="S3xZ2", labels_at="last")
    assert task.name == "s3xz2_word_problem"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tasks.get("partiy"), "unknown task 'partiy'; nearest: parity"),
        (lambda: tasks.get("word_problem_s5"), "nearest: "),
        (lambda: tasks.get("x5_word_problem"), "group: got 'x5', expected Z5"),
        (lambda: tasks.get("parity", modulus=3), "no option 'modulus'; nearest: labels_at"),
        (lambda: tasks.get("s5_word_problem", group="A5"), "no option 'group'"),
        (
            lambda: tasks.get("parity", labels_at="first"),
            r"labels_at: got .*, expected one of every, last",
        ),
        (lambda: tasks.get("parity", labels_at="transitions"), "labels_at"),
        (lambda: tasks.get("cycle_navigation", modulus=1), "modulus: got 1, expected at least 2"),
        (
            lambda: tasks.get("modular_arithmetic", modulus=1),
            r"modulus: got .*, expected at least 2",
        ),
        (
            lambda: tasks.get("modular_arithmetic", modulus=1001),
            r"modulus: got .*, expected at most 1000",
        ),
        (
            lambda: tasks.get("modular_arithmetic", operators="+/"),
            "operators: got .*, expected some of",
        ),
        (
            lambda: tasks.get("modular_arithmetic", operators="++"),
            "operators: got .*, expected each once",
        ),
        (lambda: tasks.get("modular_arithmetic_brackets", operators="*"), "'-' among them"),
        (lambda: tasks.get("flip_flop", hold_probability=1.0), "hold_probability"),
        (
            lambda: tasks.get("set", convention="xlstm"),
            r"convention: got .*, expected one of chomsky, slice",
        ),
        (
            lambda: tasks.get("missing_duplicate", convention="c"),
            r"convention: got .*, expected one of",
        ),
        (lambda: tasks.get("reverse_string", symbols=1), "symbols: got 1, expected at least 2"),
        (lambda: tasks.get("majority", symbols=1), "symbols: got 1, expected at least 2"),
        (lambda: tasks.get("mqar", keys=7), "keys: got 7, expected at least 8"),
        (lambda: tasks.get("mqar", power=0.0), r"power: got .*, expected above 0"),
        (
            lambda: tasks.get("mqar").sample(jax.random.key(0), 2, 3),
            r"length: got .*, expected at least 4",
        ),
        (lambda: tasks.get("automaton", table=1), "no option 'table'"),
        (
            lambda: tasks.get("parity").sample(jax.random.key(0), 2, 0),
            r"length: got .*, expected at least 1",
        ),
        (
            lambda: tasks.get("parity").sample(jax.random.key(0), 0, 2),
            r"batch: got .*, expected at least 1",
        ),
        (
            lambda: tasks.get("parity").sample(jax.random.key(0), 2, 4, lengths=[1, 2, 3]),
            r"lengths: got shape \(3,\), expected \(2,\)",
        ),
        (
            lambda: tasks.get("parity").sample(jax.random.key(0), 2, 4, lengths=[0, 5]),
            r"lengths: got 0 .. 5, expected 1 .. 4",
        ),
        (lambda: tasks.get("parity").targets(np.zeros(3, int)), r"shape \(3,\), expected \[B, T\]"),
        (lambda: tasks.get("parity").encode("012"), "text: got symbol '2', expected one of"),
        (lambda: tasks.get("parity").decode([[0, 2]]), r"inputs: got 0 .. 2, expected 0 .. 1"),
    ],
)
def test_mistakes_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: tasks.get("cycle_navigation", modulus="5"),
        lambda: tasks.get("parity").sample(jax.random.key(0), 2, 4, lengths=[1.0, 2.0]),
        lambda: tasks.get("parity").targets(np.zeros((2, 3))),
    ],
    ids=["text for a number", "fractional lengths", "fractional tokens"],
)
def test_wrong_types(call):
    with pytest.raises(TypeError):
        call()


@pytest.mark.parametrize("name", [*task_names(), "word_problem"])
def test_no_small_option_takes_without_end(name):
    """Every integer option of every task at a thousand millions: refused, or nothing is larger."""
    task = make_task(name)
    for option in dataclasses.fields(task):
        if not option.init or type(getattr(task, option.name)) is not int:
            continue
        try:
            large = make_task(name, **{option.name: 10**9})
        except ValueError:
            continue
        assert len(large.labels) == len(task.labels), option.name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"transition": [[0, 1], [1, 0]], "outputs": [0, 10**9]},
            r"labels: got \d+, expected at most 2048",
        ),
        (
            {"transition": [[0, 1], [1, 0]], "outputs": [0, 2**40]},
            r"labels: got \d+, expected at most 2048",
        ),
        ({"transition": np.zeros((200_000, 2), int)}, "states: got 200000, expected at most 2048"),
        ({"transition": [[0, 2**33], [1, 0]]}, "transition: got 8589934592, expected states"),
        ({"transition": [[0, 1]] * 1000 + [[0]]}, "expected rows of one length"),
    ],
    ids=["labels", "more_labels", "states", "wide", "ragged"],
)
def test_the_size_of_an_automaton_is_bounded(options, message):
    with pytest.raises(ValueError, match=message) as error:
        tasks.get("automaton", **options)
    assert len(str(error.value)) < 500


def test_a_file_of_too_many_states_is_refused(tmp_path):
    rows = "\n".join(f"s{state} 0 s{state}" for state in range(3000))
    (tmp_path / "large.txt").write_text(f"state label a\n{rows}\n")
    with pytest.raises(ValueError, match="states: got 3000, expected at most 2048"):
        tasks.get("automaton", file=str(tmp_path / "large.txt"))
