"""Regular expressions against those of Python, and against automata-lib."""

import itertools
import random
import re

import pytest

import tasks
from tasks.regular import MAX_STATES, regular_table

EXPRESSIONS = {
    "(ab|ba)*": 4,
    "a*b?(c|ab)+": 6,
    "(a|b)*abb": 4,
    "()|ab": 4,
    "(a?b)*": 3,
    "[ab]c.": 5,
    "((a*)b)*a": 3,
    r"\*a|\(b": 4,
}


def accepts(table, word):
    state = table.initial
    for symbol in word:
        state = table.transition[state][table.symbols.index(symbol)]
    return bool(table.outputs[state])


@pytest.mark.parametrize(("expression", "states"), EXPRESSIONS.items())
def test_words_are_those_that_python_matches(expression, states):
    table = regular_table(expression)
    assert len(table.transition) == states + (expression == r"\*a|\(b")
    for length in range(6):
        for word in itertools.product(table.symbols, repeat=length):
            assert accepts(table, word) == bool(re.fullmatch(expression, "".join(word)))


def drawn(source, depth):
    """A random expression over a and b."""
    if depth == 0 or source.random() < 0.2:
        return source.choice("ab")
    kind = source.choice(("joined", "or", "repeated"))
    if kind == "joined":
        return drawn(source, depth - 1) + drawn(source, depth - 1)
    if kind == "or":
        return f"({drawn(source, depth - 1)}|{drawn(source, depth - 1)})"
    return f"({drawn(source, depth - 1)}){source.choice('*+?')}"


def test_automata_are_the_smallest_that_automata_lib_finds():
    dfa = pytest.importorskip("automata.fa.dfa").DFA
    nfa = pytest.importorskip("automata.fa.nfa").NFA
    source = random.Random(0)
    for expression in [drawn(source, 4) for _ in range(60)]:
        try:
            table = regular_table(expression, "ab")
        except ValueError:
            continue  # every word matches
        found = dfa.from_nfa(nfa.from_regex(expression, input_symbols={"a", "b"}))
        ours = dfa(
            states=set(range(len(table.transition))),
            input_symbols={"a", "b"},
            transitions={
                state: dict(zip(table.symbols, row, strict=True))
                for state, row in enumerate(table.transition)
            },
            initial_state=table.initial,
            final_states={state for state, label in enumerate(table.outputs) if label},
        )
        assert ours == found, expression
        assert len(ours.states) == len(found.minify().to_complete().states), expression


def test_the_same_language_is_the_same_task():
    task = tasks.get("automaton", regex="(ab|ba)*")
    assert task == tasks.get("automaton", regex="((ba)|ab)*", labels_at="every")
    assert hash(task) == hash(tasks.get("automaton", regex="(ba|ab)*"))
    assert task != tasks.get("automaton", regex="(ab|ba)*", alphabet="abc")
    assert task.targets(task.encode("abba")[None]).tolist() == [[0, 1, 0, 1]]


@pytest.mark.parametrize(
    ("expression", "alphabet", "message"),
    [
        ("(ab", None, "the end' at 4 comes where a closing bracket is missing"),
        ("ab)", None, r"'\)' at 3 has no opening bracket"),
        ("*a", None, r"'\*' at 1 has nothing before it to repeat"),
        ("a]", None, "misplaced"),
        ("[ab", None, "']' is missing"),
        ("[a*]", None, "needs a backslash"),
        ("a\\", None, "must not end with a backslash"),
        ("a*", None, "every word matches"),
        ("", "ab", "no word matches"),
        ("", None, "has no symbols"),
        ("abc", "ab", "'c', which is not in the alphabet 'ab'"),
        ("ab", "aba", "alphabet must be different letters"),
        ("a{25}", None, r"'\{' at 2 begins a count, which is not supported: write aaa"),
        ("a}b", None, r"'\}' at 2 ends a count"),
        ("[a-z]", None, "'-' at 3 is not supported: write out the range"),
        ("[^a]b", None, r"'\^' at 2 is not supported: words match as a whole"),
        ("^ab", None, r"'\^' at 1 is not supported"),
        ("(ab$)", None, r"'\$' at 4 is not supported"),
        ("(" * 101 + "a" + ")" * 101 + "b", None, "is inside more than 100 brackets"),
        ("a" * 1001, None, "regex has 1,001 letters, at most 1,000 are expected"),
        ("(" * 100_000, "ab", "regex has 100,000 letters"),
        ("(a|b)*a" + "(a|b)" * 12, None, f"more than {MAX_STATES} states"),
    ],
)
def test_mistakes_are_explained(expression, alphabet, message):
    with pytest.raises(ValueError, match=message):
        tasks.get("automaton", regex=expression, alphabet=alphabet)


@pytest.mark.slow
@pytest.mark.parametrize(
    "expression",
    [
        "(" * 98 + "|".join("abcdefghij" * 30) + ")*" * 98 + "k",
        "".join(map(chr, range(0x4E00, 0x4E00 + 990))),
        "(" + "|".join(map(chr, range(0x4E00, 0x4E00 + 490))) + ")*a",
        r"[\+\-]*\{\^\$",
    ],
    ids=["nested", "letters", "alphabet", "escaped"],
)
def test_the_largest_expressions_are_read(expression):
    assert len(regular_table(expression).transition) >= 2


def test_an_expression_must_be_text():
    with pytest.raises(TypeError, match="regex must be text, got 1: quote it"):
        tasks.get("automaton", regex=1)
