"""Regular expressions against those of Python and automata-lib, and automata read from files."""

import itertools
import random
import re

import pytest
from fuzz import refusals

import tasks
from tasks.groups import read_permutations
from tasks.regular import MAX_STATES, read_table, regular_table

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
        ("a\\", None, "expected a letter after the backslash"),
        ("a*", None, "every word matches"),
        ("", "ab", "no word matches"),
        ("", None, "without symbols, expected an alphabet"),
        ("abc", "ab", "alphabet: got 'ab', expected also 'c'"),
        ("ab", "aba", "alphabet: got 'aba', expected different letters"),
        ("a{25}", None, r"'\{' at 2 begins a count, which is not supported: write aaa"),
        ("a}b", None, r"'\}' at 2 ends a count"),
        ("[a-z]", None, "'-' at 3 is not supported: write out the range"),
        ("[^a]b", None, r"'\^' at 2 is not supported: words match as a whole"),
        ("^ab", None, r"'\^' at 1 is not supported"),
        ("(ab$)", None, r"'\$' at 4 is not supported"),
        ("(" * 101 + "a" + ")" * 101 + "b", None, "is inside more than 100 brackets"),
        ("a" * 1001, None, "regex: got 1001, expected at most 1000 letters"),
        ("(" * 100_000, "ab", "regex: got 100000, expected"),
        ("(a|b)*a" + "(a|b)" * 12, None, f"expected at most {MAX_STATES} states"),
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
    with pytest.raises(TypeError, match="regex: got 1, expected text: quote it"):
        tasks.get("automaton", regex=1)


MODULO_3 = """
# a binary number modulo 3

state  label  0   1
r0     zero   r0  r1   # the first state is the initial one
r1     one    r2  r0
r2     two    r1  r2
"""


def test_a_file_is_the_table_it_holds(tmp_path):
    path = tmp_path / "modulo.txt"
    path.write_text(MODULO_3)
    task = tasks.get("automaton", file=str(path))
    assert task.vocabulary == ("0", "1")
    assert task.labels == ("zero", "one", "two")
    assert task == tasks.Automaton(label_names=["zero", "one", "two"])
    path.write_text(MODULO_3.replace("r0  r1", "r0  r2"))
    assert task != tasks.get("automaton", file=str(path))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "expected 'state label' and the names"),
        ("\na b c\n", 2, "expected 'state label'"),
        ("state label a a\n", 1, "got a a, expected different symbols"),
        ("state label a\n", 1, "a line for each state"),
        ("state label a b\ns 0 s\n", 2, "got 3 words: s 0 s, expected .* 2 next states"),
        ("state label a\ns 0 s\n\ns 1 s\n", 4, "state 's' has a line already"),
        ("state label a\ns 0 t\n", 2, "no line for state 't'"),
    ],
)
def test_errors_name_file_and_line(tmp_path, text, line, message):
    path = tmp_path / "wrong.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"wrong\.txt:{line}: .*{message}"):
        tasks.get("automaton", file=str(path))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"none\.txt can't be read"):
        tasks.get("automaton", file=str(tmp_path / "none.txt"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file": "a.txt", "regex": "ab"}, "automaton: got file and regex, expected one of them"),
        ({"regex": "ab", "outputs": [0, 1]}, "automaton: got outputs and regex, expected one"),
        ({"alphabet": "ab"}, "alphabet: got 'ab', expected None without a regex"),
    ],
)
def test_one_way_of_giving_an_automaton(options, message):
    with pytest.raises(ValueError, match=message):
        tasks.get("automaton", **options)


PIECES = {
    "regex": (regular_table, list("ab|*+?()[].\\{}^$- 3")),
    "permutations": (read_permutations, ["(", ")", " ", ",", "0", "1", "12", "<", ">", "(0 1)"]),
    "words": (tasks.get("automaton").encode, list("01 a,")),
}


@pytest.mark.parametrize("form", PIECES)
def test_any_text_is_read_or_a_short_error(form):
    read, pieces = PIECES[form]
    draws = random.Random(0)
    texts = ("".join(draws.choices(pieces, k=draws.randint(0, 30))) for _ in range(1000))
    refused = refusals(read, texts)
    assert 50 < len(refused) < 1000
    assert max(map(len, refused)) < 500


def test_any_damage_of_a_table_is_an_error_that_names_it(tmp_path):
    text = "state label 0 1\nr0 zero r0 r1\nr1 one r2 r0\nr2 two r1 r2\n"
    path = tmp_path / "table.txt"
    draws = random.Random(0)

    def damaged():
        for _ in range(500):
            changed = bytearray(text.encode())
            for _ in range(draws.randint(1, 3)):
                changed[draws.randrange(len(changed))] = draws.choice(b"r0 \n#\0\xff1")
            path.write_bytes(changed)
            yield path

    refused = refusals(read_table, damaged())
    assert len(refused) > 100
    assert all("table.txt" in message and len(message) < 500 for message in refused)
